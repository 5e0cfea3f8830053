"""Figures of series: examples of the data, and one series' forecast against its truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lvjobs.report.figures.style import legend_below, new_figure, style
from lvjobs.report.numbers import short
from lvjobs.report.palette import INK, MODEL, PALETTE, QUIET, baseline_style, shown, variable_names

_COLUMNS = 3
TIME, POPULATION = "time (units of the file)", "population\n(original units)"


def example_series(time: NDArray[Any], trajectories: Mapping[int, NDArray[Any]], history: int) -> Figure:
    """Some series, (T, variables) each, by their index in the file; a line where forecasts of them begin."""
    names = variable_names(next(iter(trajectories.values())).shape[1])
    rows = -(-len(trajectories) // _COLUMNS)
    with style():
        figure = new_figure(7.2, 0.7 + 1.55 * rows)
        grid = figure.subplots(rows, min(_COLUMNS, len(trajectories)), sharex=True, squeeze=False)
        drawn = list(grid.flat)[: len(trajectories)]
        for axes, (series, values) in zip(drawn, trajectories.items(), strict=True):
            for variable, name in enumerate(names):
                axes.plot(time, values[:, variable], color=PALETTE[variable], ls=("-", "--")[variable % 2], label=name)
            _start_line(axes, time, history)
            axes.set_title(f"series {series}")
            if values.min() >= 0:
                axes.set_ylim(bottom=0)
        for axes in drawn[-_COLUMNS:]:
            axes.set_xlabel(TIME)
            axes.tick_params(labelbottom=True)
        for axes in list(grid.flat)[len(trajectories) :]:
            axes.set_axis_off()
        for row in grid:
            row[0].set_ylabel(POPULATION)
        legend_below(figure, drawn[:1], 4)
    return figure


def forecast_figure(
    series: int,
    time: NDArray[Any],
    truth: NDArray[Any],
    history: int,
    forecast: NDArray[Any],
    baselines: Mapping[str, NDArray[Any]],
    *,
    quantiles: Mapping[float, NDArray[Any]] | None = None,
    label: str = "forecast",
    note: str = "",
) -> Figure:
    """One series: history, truth and forecast on the left; on the right the horizon alone, beside the baselines.

    Args:
        series: Its index in the file.
        time: (T,), of history and horizon.
        truth: (T, variables), or (history, variables) where nothing is known of the horizon.
        history: How many steps the forecast has seen.
        forecast: (horizon, variables).
        baselines: Each like `forecast`; there has to be one.
        quantiles: Level to values like `forecast`, where it was sampled; levels in pairs around the median.
        label: What the forecast is called.
        note: What has to be said loudly, above the figure.
    """
    if not baselines:
        raise ValueError("a forecast is never shown without a baseline beside it")
    names, ahead = variable_names(truth.shape[1]), time[history : history + len(forecast)]
    with style():
        figure = new_figure(7.2, 0.9 + 1.85 * len(names))
        grid = figure.subplots(len(names), 2, squeeze=False, sharex="col", width_ratios=[1.25, 1])
        for row, (name, (whole, close)) in enumerate(zip(names, grid, strict=True)):
            for axes in (whole, close):
                _bands(axes, ahead, row, quantiles or {})
            known = len(truth)
            whole.plot(time[:known], truth[:, row], color=INK, lw=1.0, label="truth")
            # Mostly dots: a forecast that runs along the truth stays to be seen.
            close.plot(time[history:known], truth[history:, row], color=INK, marker="o", ms=3, lw=0.5, label="truth")
            for baseline in shown(list(baselines)):
                colour, dashes = baseline_style(baseline)
                close.plot(ahead, baselines[baseline][:, row], color=colour, ls=dashes, label=baseline)
            for axes in (whole, close):
                axes.plot(ahead, forecast[:, row], color=MODEL, lw=1.6, label=label)
            _start_line(whole, time, history)
            in_sight = [forecast[:, row], *(values[:, row] for values in (quantiles or {}).values())]
            _keep_in_sight(whole, truth[:, row], *in_sight)
            _keep_in_sight(close, truth[history - 1 :, row], *in_sight)
            whole.set_title(f"{name}: history and forecast")
            close.set_title(f"{name}: the horizon, beside the baselines")
            whole.set_ylabel(f"{name} (original units)")
        for axes in grid[-1]:
            axes.set_xlabel(TIME)
        title = f"series {series}" + _mae(truth[history:], forecast) + (f": {note}" if note else "")
        figure.suptitle(title, fontsize=9.5, x=0.01, ha="left", color=PALETTE[1] if note else INK)
        legend_below(figure, [*grid[:, 1], *grid[:, 0]], 4)
    return figure


def _mae(truth: NDArray[Any], forecast: NDArray[Any]) -> str:
    return f", MAE {short(float(np.abs(forecast - truth).mean()))}" if len(truth) else ""


def _bands(axes: Axes, time: NDArray[Any], row: int, quantiles: Mapping[float, NDArray[Any]]) -> None:
    levels = sorted(quantiles)
    for depth in range(len(levels) // 2):
        low, high = levels[depth], levels[-1 - depth]
        axes.fill_between(
            time,
            quantiles[low][:, row],
            quantiles[high][:, row],
            color=MODEL,
            alpha=0.18 + 0.17 * depth,
            lw=0,
            label=f"{100 * (high - low):.0f} % of the samples",
        )


def _start_line(axes: Axes, time: NDArray[Any], history: int) -> None:
    """Between the last step that was seen and the first that was not."""
    if history < len(time):
        start = float(time[history - 1] + time[history]) / 2
        axes.axvline(start, color=QUIET, lw=0.8, ls=(0, (2, 2)), label="start of the forecast")


def _keep_in_sight(axes: Axes, *values: NDArray[Any]) -> None:
    """Limits by truth and forecast with room for as much again: a baseline that blows up leaves the picture."""
    every = np.concatenate(values)
    low, high = float(every.min()), float(every.max())
    room = high - low or 1.0
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, low - room), min(top, high + room))
