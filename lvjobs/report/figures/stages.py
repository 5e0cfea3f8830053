"""Figures that compare a stage's runs: learning rate by rank, and context lengths; baselines always beside them."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lvjobs.report.figures.style import legend_below, new_figure, style
from lvjobs.report.material import Point
from lvjobs.report.numbers import short
from lvjobs.report.palette import INK, PALETTE, QUIET, baseline_style, shown

Baselines = Mapping[str, Mapping[str, float]]
"""By metric (`mae`, ...), then by name: of the same series as the runs' own figures."""


def heatmap(
    cells: Mapping[tuple[int, float], float], quantity: str, title: str, baselines: Mapping[str, float]
) -> Figure:
    """A figure for each (rank, learning rate); the best is framed, a cell without a run says so.

    `quantity` is what the figures are, with its unit; `baselines` are the same figure of each, and stand below.
    """
    ranks, rates = sorted({rank for rank, _ in cells}), sorted({rate for _, rate in cells})
    values = np.array([[cells.get((rank, rate), np.nan) for rate in rates] for rank in ranks])
    with style():
        figure = new_figure(1.9 + 0.95 * len(rates), 1.5 + 0.6 * len(ranks) + 0.25 * bool(baselines))
        axes = figure.subplots()
        image = axes.imshow(np.ma.masked_invalid(values), cmap="cividis", aspect="auto", origin="lower")
        axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        axes.set_yticks(range(len(ranks)), [str(rank) for rank in ranks])
        axes.set_xlabel("learning rate")
        axes.set_ylabel("LoRA rank")
        axes.set_title(title)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        _write_cells(axes, values, image)
        figure.colorbar(image, ax=axes, label=quantity, aspect=12)
        if baselines:
            words = ", ".join(f"{name} {short(baselines[name])}" for name in shown(list(baselines)))
            figure.supxlabel(_wrapped(f"the same of the baselines: {words}", figure), fontsize=7.5, color=INK)
    return figure


def _write_cells(axes: Axes, values: Any, image: Any) -> None:
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        if np.isnan(value):
            axes.text(column, row, "no run", ha="center", va="center", color=QUIET, fontsize=7)
            continue
        shade = image.cmap(image.norm(value))
        dark = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] < 0.5  # noqa: PLR2004 - luma by ITU-R BT.601
        axes.text(column, row, short(float(value)), ha="center", va="center", color="white" if dark else INK)
    best = np.unravel_index(np.nanargmin(values), values.shape)
    corner = float(best[1]) - 0.47, float(best[0]) - 0.47
    axes.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=PALETTE[1], linewidth=2.2))


def context_figure(
    points: Mapping[str, Mapping[int, Mapping[str, Point]]],
    baselines: Baselines,
    zero_shot: Mapping[str, Point] | None = None,
    metrics: Sequence[str] = ("mae", "rmse"),
) -> Figure:
    """Error by the training window's length, with confidence intervals; baselines and zero-shot are lines across.

    Args:
        points: Label of a series of runs -> context length -> metric -> figure.
        baselines: Of the same series of data.
        zero_shot: The base model's own figures, where it was evaluated.
        metrics: A panel each.
    """
    with style():
        figure = new_figure(7.2, 3.4)
        grid = figure.subplots(1, len(metrics), squeeze=False)[0]
        lengths = sorted({length for runs in points.values() for length in runs})
        places = {length: place for place, length in enumerate(lengths)}
        for axes, metric in zip(grid, metrics, strict=True):
            for number, (label, runs) in enumerate(points.items()):
                chosen = [(places[length], runs[length][metric]) for length in sorted(runs)]
                # Runs of one length stand beside each other, not on each other.
                x = [place + 0.06 * (number - (len(points) - 1) / 2) for place, _ in chosen]
                bars = [[p.value - p.low for _, p in chosen], [p.high - p.value for _, p in chosen]]
                look: dict[str, Any] = {"color": PALETTE[number % len(PALETTE)], "marker": "osD^v"[number % 5]}
                axes.errorbar(x, [p.value for _, p in chosen], yerr=bars, capsize=3, ms=5, label=label, **look)
            for name in shown(list(baselines[metric])):
                colour, dashes = baseline_style(name)
                axes.axhline(baselines[metric][name], color=colour, ls=dashes, lw=1.0, label=name)
            if zero_shot:
                axes.axhline(zero_shot[metric].value, color=INK, ls=(0, (6, 3)), lw=1.0, label="zero-shot")
            axes.set_xticks(range(len(lengths)), [str(length) for length in lengths])
            axes.set_xlim(-0.5, len(lengths) - 0.5)
            axes.set_ylim(bottom=0)
            axes.set_xlabel("training window (tokens)")
            axes.set_ylabel(f"{metric.upper()} (original units)")
        legend_below(figure, list(grid), 4)
    return figure


def _wrapped(text: str, figure: Figure) -> str:
    return "\n".join(textwrap.wrap(text, int(figure.get_figwidth() * 17)))
