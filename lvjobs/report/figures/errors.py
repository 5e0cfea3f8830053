"""Figures of errors: by step of the horizon, and over the systems; of models beside the baselines."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lvjobs.report.figures.style import legend_below, log_axis, new_figure, style
from lvjobs.report.palette import MODELS, baseline_style, shown, variable_names

_FEW = 8
"""Steps up to which each has a tick of its own."""


def error_by_step(models: Mapping[str, NDArray[Any]], baselines: Mapping[str, NDArray[Any]]) -> Figure:
    """Mean absolute error at each step of the horizon, a panel for each variable; errors are (horizon, variables).

    The axis is logarithmic: baselines differ by factors.
    """
    _need(baselines)
    steps, variables = next(iter(models.values())).shape
    with style():
        figure = new_figure(7.2, 3.3 if variables <= 2 else 2.0 * -(-variables // 2) + 1)  # noqa: PLR2004
        grid = figure.subplots(-(-variables // 2), min(2, variables), squeeze=False, sharey=True)
        panels = list(grid.flat)[:variables]
        for axes in list(grid.flat)[variables:]:
            axes.set_axis_off()
        x = np.arange(1, steps + 1)
        for variable, (axes, name) in enumerate(zip(panels, variable_names(variables), strict=True)):
            for baseline in shown(list(baselines)):
                colour, dashes = baseline_style(baseline)
                axes.plot(x, baselines[baseline][:, variable], color=colour, ls=dashes, lw=1.1, label=baseline)
            for (label, errors), (colour, marker) in zip(models.items(), itertools.cycle(MODELS), strict=False):
                axes.plot(x, errors[:, variable], color=colour, lw=1.6, marker=marker, ms=3, label=label)
            axes.set_xticks(sorted({1, *range(5, steps + 1, 5)}) if steps > _FEW else x)
            axes.set_yscale("log")
            log_axis(axes.yaxis)
            axes.set_title(name)
            axes.set_xlabel("step of the horizon")
            axes.grid(visible=True, axis="y")
        for row in grid:
            row[0].set_ylabel("mean absolute error\n(original units)")
        legend_below(figure, panels, 4)
    return figure


def error_distribution(
    models: Mapping[str, NDArray[Any]], baselines: Mapping[str, NDArray[Any]], quantity: str = "MAE"
) -> Figure:
    """The share of systems whose error is at most so much; errors are (systems,).

    A dot is the median, a cross the mean. Where a few systems carry most of the mean, the two lie far apart.
    """
    _need(baselines)
    with style():
        figure = new_figure(7.2, 3.9)
        axes = figure.subplots()
        drawn = [(name, baselines[name], *baseline_style(name), 1.1) for name in shown(list(baselines))]
        for (label, errors), (colour, _) in zip(models.items(), itertools.cycle(MODELS), strict=False):
            drawn.append((label, errors, colour, "-", 1.8))
        for label, errors, colour, dashes, width in drawn:
            values = np.sort(errors)
            shares = np.arange(1, len(values) + 1) / len(values)
            axes.plot(values, shares, color=colour, ls=dashes, lw=width, drawstyle="steps-post", label=label)
            mean = float(values.mean())
            axes.plot([float(np.median(values))], [0.5], color=colour, marker="o", ms=5, ls="none")
            share = float(np.searchsorted(values, mean, side="right")) / len(values)
            axes.plot([mean], [share], color=colour, marker="x", ms=6, mew=1.6, ls="none")
        axes.set_xscale("log")
        log_axis(axes.xaxis)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(f"{quantity} of a system (original units): dot, the median; cross, the mean")
        axes.set_ylabel("share of systems with at most this error")
        axes.grid(visible=True)
        legend_below(figure, [axes], 4)
    return figure


def _need(baselines: Mapping[str, Any]) -> None:
    if not baselines:
        raise ValueError("errors are never shown without a baseline beside them")
