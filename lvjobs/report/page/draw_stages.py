"""Charts that compare a stage's runs: their losses, pairs of settings as heatmaps, context lengths."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from plotly import graph_objects as go
from plotly.colors import sample_colorscale, unlabel_rgb

from lvjobs.records.curves import LOSSES
from lvjobs.report.losses import Losses
from lvjobs.report.material import Contexts, Point, StageLosses, is_scattered
from lvjobs.report.numbers import setting, short
from lvjobs.report.page.look import MARKERS, axis, baseline_key, dash, line, named, numbers, plot, upright, words
from lvjobs.report.page.parts import Chart, Key, Panel
from lvjobs.report.palette import INK, PALETTE, QUIET, line_styles, shown

SCORES = "forecasts.h5 and scores.json of the evaluations"
_JOURNALS = "the runs' journals"
_MOST_CURVES = 12
_MOST_WRITTEN = 120
"""Cells of a heatmap up to which each has its figure in it."""
_TALLEST = 58 * 12
_TITLES = {True: ("training: all tokens of the windows", "validation: the horizon's tokens"),
           False: ("training", "validation")}  # fmt: skip
_LABELS = {"loss": "nats per token", "loss_numeric": "nats per token, numeric head"}


def losses_chart(content: StageLosses) -> Chart:
    """Training beside validation loss of a stage's best runs; the numeric head's, another objective, by itself."""

    def last(run: Losses) -> tuple[float, str]:
        return (run.validation[run.best] if run.best is not None else float("inf"), run.run)

    chosen = sorted(content.runs, key=last)[:_MOST_CURVES]
    runs = [run for run in content.runs if run in chosen]
    keys = {
        run.run: Key(run.run, colour, dash=dash(dashes))
        for run, (colour, dashes) in zip(runs, line_styles(len(runs)), strict=True)
    }
    panels = []
    for metric in [metric for metric in LOSSES if any(run.metric == metric for run in runs)]:
        of_metric = [run for run in runs if run.metric == metric]
        in_nats = all(run.in_nats for run in of_metric)
        shapes = [upright(step) for step in sorted({step for run in of_metric for step in run.resumed})]
        y, (left, right) = axis(_LABELS[metric] if in_nats else "loss"), _TITLES[in_nats]
        training = [trace for run in of_metric for trace in _training(run, keys[run.run], alone=len(of_metric) == 1)]
        validation = [trace for run in of_metric for trace in _validation(run, keys[run.run])]
        what = f"{metric} of {len(of_metric)} runs of stage {content.stage}, by step"
        panels.append(Panel(plot(training, axis("step"), y, left, shapes=shapes), f"Training {what}"))
        panels.append(Panel(plot(validation, axis("step"), y, right, shapes=shapes), f"Validation {what}"))
    resumed = any(run.resumed for run in runs)
    left_out = len(content.runs) - len(runs)
    caption = (
        f"The {len(runs)} runs with the lowest validation loss of {len(content.runs)}. " if left_out else "All runs. "
    ) + (
        "Training loss is drawn as means over a twentieth of a run; validation loss begins with the untrained model, "
        "and a ring marks each run's best. "
    )
    caption += "Dotted lines: where a run was taken up again after a death. " if resumed else ""
    entries = [*keys.values(), *([Key("taken up again", QUIET, dash="dot", switches=False)] if resumed else [])]
    return Chart("", f"Losses of {content.stage}", caption.strip(), _JOURNALS, panels=panels, keys=entries)


def _training(run: Losses, key: Key, *, alone: bool) -> list[Any]:
    steps, losses = run.smooth
    made = [line(key, numbers(steps), numbers(losses))]
    if alone and len(steps) < len(run.training):
        batches = line(key, [*run.training], numbers(run.training.values()), width=0.8, opacity=0.35, hoverinfo="skip",
                       hovertemplate=None)  # fmt: skip
        made.insert(0, batches)
    return made


def _validation(run: Losses, key: Key) -> list[Any]:
    made = [line(key, [*run.validation], numbers(run.validation.values()), "lines+markers", marker={"size": 4})]
    if run.best is not None:
        ring = {"symbol": "circle-open", "size": 11, "line": {"width": 1.5}}
        made.append(line(key, [run.best], numbers([run.validation[run.best]]), "markers", marker=ring))
    return made


def heat(
    cells: Mapping[tuple[Any, Any], float],
    names: tuple[str, str],
    quantity: str,
    *,
    digits: Callable[[float], str] = short,
    highest: bool = False,
) -> Chart:
    """A figure for each pair of settings, the best framed; a cell without a run stays empty."""
    rows, columns = (sorted({cell[place] for cell in cells}, key=_sortable) for place in (0, 1))
    values = [[cells.get((row, column)) for column in columns] for row in rows]
    best = (max if highest else min)(cells, key=lambda cell: (cells[cell], str(cell)))
    x, y = columns.index(best[1]), rows.index(best[0])
    frame = {"type": "rect", "x0": x - 0.48, "x1": x + 0.48, "y0": y - 0.48, "y1": y + 0.48}
    trace = go.Heatmap(
        z=[numbers(row) for row in values],
        x=list(range(len(columns))),
        y=list(range(len(rows))),
        colorscale="cividis",
        xgap=2,
        ygap=2,
        colorbar={"thickness": 12, "outlinewidth": 0, "title": {"text": quantity, "side": "right"}},
        customdata=[[words(f"{setting(row)}, {setting(column)}") for column in columns] for row in rows],
        hovertemplate="%{customdata}: %{z:.5g}<extra></extra>",
    )
    bare = {"showgrid": False, "ticks": ""}
    made = plot(
        [trace],
        axis(words(names[1]), **bare, **named([setting(column) for column in columns], 12)),
        axis(words(names[0]), **bare, **named([setting(row) for row in rows], 24)),
        shapes=[{**frame, "line": {"color": PALETTE[1], "width": 3}}],
        annotations=_written(values, digits) if len(rows) * len(columns) <= _MOST_WRITTEN else [],
    )
    label = f"{quantity} for each {names[0]} and {names[1]}; the best is {setting(best[0])} and {setting(best[1])}"
    caption = "The best is framed; a cell without a run is empty."
    return Chart("", "", caption, panels=[Panel(made, label, 110 + min(58 * len(rows), _TALLEST))], width="full")


def _written(values: Sequence[Sequence[float | None]], digits: Callable[[float], str]) -> list[dict[str, Any]]:
    """Each figure in its cell, white on dark and black on bright ones."""
    known = [value for row in values for value in row if value is not None and value == value]  # noqa: PLR0124
    low, high = min(known), max(known)
    made = []
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value is None or value != value:  # noqa: PLR0124
                continue
            (shade,) = sample_colorscale("cividis", [(value - low) / (high - low) if high > low else 0.0])
            red, green, blue = unlabel_rgb(shade)
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 127.5  # noqa: PLR2004 - luma by ITU-R BT.601
            font = {"color": "#FFFFFF" if dark else "#010101", "size": 13}
            made.append({"x": x, "y": y, "text": digits(value), "showarrow": False, "font": font})
    return made


def _sortable(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, (int, float)) else (1, 0.0, str(value))


def stage_heat(found: Mapping[str, Any]) -> Chart | None:
    """What the stage's rule compares, for each pair of the two settings that were varied; None where not two were."""
    if len(found["varied"]) != 2:  # noqa: PLR2004 - a heatmap has two axes
        return None
    one, two = found["varied"]
    cells = {
        (row["settings"][one], row["settings"][two]): float(row["value"])
        for row in found["candidates"]
        if row["value"] is not None
    }
    if len({first for first, _ in cells}) < 2 or len({second for _, second in cells}) < 2 or is_scattered(cells):  # noqa: PLR2004
        return None
    made = heat(cells, (one, two), "value", digits=_five, highest=found["mode"] == "max")
    title = f"What {found['stage']}'s rule compares: {found['rule']}"
    caption = f"{made.caption} Means over seeds."
    return replace(made, id=f"rule-{found['stage']}", title=title, caption=caption, source=_JOURNALS)


def _five(value: float) -> str:
    """Of losses, whose first digits are often the same."""
    return f"{value:#.5g}"


def contexts_chart(content: Contexts) -> Chart:
    """Error by the training window's length, with intervals; baselines and zero-shot are lines across."""
    lengths = sorted({length for runs in content.points.values() for length in runs})
    looks = zip(itertools.cycle(PALETTE), itertools.cycle(MARKERS.values()), strict=False)
    keys = [Key(name, colour, marker=marker) for name, (colour, marker) in zip(content.points, looks, strict=False)]
    across = [baseline_key(name) for name in shown(list(content.baselines["mae"]))]
    zero = Key("zero-shot", INK, dash="longdash")
    panels = []
    for metric in ("mae", "rmse"):
        traces = []
        for number, (key, runs) in enumerate(zip(keys, content.points.values(), strict=True)):
            chosen = [(lengths.index(length), runs[length][metric]) for length in sorted(runs)]
            beside = 0.06 * (number - (len(keys) - 1) / 2)  # runs of one length stand beside each other
            points = [found for _, found in chosen]
            traces.append(
                line(key, [place + beside for place, _ in chosen], numbers([p.value for p in points]), "lines+markers",
                     error_y=bars(points, key.colour), hovertemplate="%{y:.4g}<extra>%{fullData.name}</extra>")
            )  # fmt: skip
        ends = [-0.5, len(lengths) - 0.5]
        lines = [(key, content.baselines[metric][key.name]) for key in across]
        lines += [(zero, content.zero_shot[metric].value)] if content.zero_shot else []
        traces += [line(key, ends, numbers([value] * 2), width=1.3) for key, value in lines]
        ticks = {"tickvals": list(range(len(lengths))), "ticktext": [str(length) for length in lengths], "range": ends}
        x, y = axis("training window (tokens)", **ticks), axis(f"{metric.upper()} (original units)", rangemode="tozero")
        label = f"{metric.upper()} by the training window's length, with 95 % intervals, beside the baselines"
        panels.append(Panel(plot(traces, x, y, metric.upper()), label))
    caption = "Bars are 95 % intervals, by a bootstrap over series."
    return Chart("", "", caption, SCORES, panels=panels, keys=[*keys, *across, *([zero] if content.zero_shot else [])])


def bars(points: Sequence[Point], colour: str, along: str = "y") -> dict[str, Any]:
    """What makes points show their intervals."""
    return {
        "type": "data",
        "array": numbers([each.high - each.value for each in points]),
        "arrayminus": numbers([each.value - each.low for each in points]),
        "color": colour,
        "thickness": 1.5,
        "width": 4 if along == "y" else 5,
    }
