"""Figures that compare a stage's runs: their losses, pairs of settings as heatmaps, context lengths."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lvjobs.forecasting.baselines import KNOWING, row_name
from lvjobs.records.curves import LOSSES
from lvjobs.report.figures.elements import Axis, Cells, Chart, Estimates, Key, Line, Panel, ReferenceLine
from lvjobs.report.figures.palette import INK, MARKERS, PALETTE, QUIET, baseline_keys, line_keys
from lvjobs.report.material import Losses, Point
from lvjobs.report.numbers import setting, short

SCORES = "forecasts.h5 and scores.json of the evaluations"
_JOURNALS = "the runs' journals"
_MOST_WRITTEN = 120
"""The number of cells of a heatmap up to which each shows its value."""
_TALLEST = 58 * 12
_FEW = 3
_FIVE_DIGITS = "{:#.5g}"
"""The format of losses, whose first digits are often the same."""
_MOST_RATES = 8
_TITLES = {True: ("training: all tokens of the windows", "validation: the horizon's tokens"),
           False: ("training", "validation")}  # fmt: skip
_LABELS = dict(zip(LOSSES, ("loss (nats per token)", "loss of the numeric head\n(nats per token)"), strict=True))


def losses(stage: str, every: Sequence[Losses], most: int | None = None) -> Chart:
    """Return a chart of training beside validation loss; a numeric head, with another objective, has panels of its own.

    If there are more runs than `most`, those with the lowest validation loss are drawn.
    """

    def last(run: Losses) -> tuple[float, str]:
        return (run.validation[run.best] if run.best is not None else float("inf"), run.run)

    chosen = sorted(every, key=last)[:most]
    runs = [run for run in every if run in chosen]
    keys = {key.name: key for key in line_keys([run.run for run in runs])}
    resumed = Key("resumed", QUIET, "dot", switches=False)
    batches, panels = [], []
    for metric in [metric for metric in LOSSES if any(run.metric == metric for run in runs)]:
        of_metric = [run for run in runs if run.metric == metric]
        in_nats = all(run.in_nats for run in of_metric)
        rules = [ReferenceLine(resumed, step) for step in sorted({step for run in of_metric for step in run.resumed})]
        training: list[Line] = []
        if len(of_metric) == 1 and len(of_metric[0].smooth[0]) < len(of_metric[0].training):
            (run,) = of_metric
            batches.append(Key(f"{run.run}: each batch", keys[run.run].colour))
            training.append(Line(batches[-1], [*run.training], [*run.training.values()], 0.6, opacity=0.35, texts=()))
        training += [Line(keys[run.run], *run.smooth) for run in of_metric]
        validation = [line for run in of_metric for line in _validation(run, keys[run.run])]
        y, (left, right) = Axis(_LABELS[metric] if in_nats else "loss"), _TITLES[in_nats]
        what = f"{metric} of {len(of_metric)} runs of stage {stage}, by step"
        panels.append(Panel([*rules, *training], Axis("step", "whole"), y, left, f"Training {what}"))
        at = Axis("step (a ring marks the best)", "whole")
        panels.append(Panel([*rules, *validation], at, y, right, f"Validation {what}"))
    is_resumed = any(run.resumed for run in runs)
    left_out = len(every) - len(runs)
    caption = (
        f"The {len(runs)} runs with the lowest validation loss of {len(every)}. " if left_out else "All runs. "
    ) + (
        "Training loss is drawn as means over a twentieth of a run; validation loss begins with the untrained model "
        "(of a run that continues another: later), and a ring marks each run's best"
    )
    caption += ". Dotted lines: where a run was resumed after a failure" if is_resumed else ""
    entries = [*keys.values(), *batches, *([resumed] if is_resumed else [])]
    title = f"Losses of {stage}"
    return Chart("", title, caption=caption, source=_JOURNALS, panels=panels, keys=entries, stage=stage)


def _validation(run: Losses, key: Key) -> list[Line]:
    lines = [Line(key, [*run.validation], [*run.validation.values()], size=3)]
    if run.best is not None:
        lines.append(Line(key, [run.best], [run.validation[run.best]], 0, 8, "ring"))
    return lines


def heat(cells: Mapping[tuple[int, float], float], heading: str, baselines: Mapping[str, float]) -> Chart:
    """Return a heatmap of an error by LoRA rank and learning rate, with the baselines' errors below."""
    ordered = sorted(baselines, key=lambda name: name in KNOWING)
    words = ", ".join(f"{row_name(name)} {short(baselines[name])}" for name in ordered)
    beside = f"the same of the baselines: {words}" if words else ""
    made = _heat(cells, ("LoRA rank", "learning rate"), "MAE (original units)", short)
    return replace(made, heading=heading, beside=beside, source=SCORES)


def stage_heat(found: Mapping[str, Any]) -> Chart | None:
    """Return a heatmap of what the stage's rule compares; None unless two settings were varied on a grid."""
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
    made = _heat(cells, (one, two), "value", _FIVE_DIGITS.format, highest=found["mode"] == "max")
    title = f"What {found['stage']}'s rule compares: {found['rule']}"
    caption = f"{made.caption}. Means over seeds"
    return replace(made, id=f"rule-{found['stage']}", title=title, caption=caption, source=_JOURNALS)


def is_scattered(cells: Collection[tuple[Any, Any]]) -> bool:
    """Return whether a sampler chose the points, each with its own rate, so that most of a heatmap would be empty."""
    ranks, rates = {rank for rank, _ in cells}, {rate for _, rate in cells}
    return len(rates) > _MOST_RATES and 2 * len(cells) < len(ranks) * len(rates)


def _heat(
    cells: Mapping[tuple[Any, Any], float],
    names: tuple[str, str],
    quantity: str,
    digits: Callable[[float], str],
    *,
    highest: bool = False,
) -> Chart:
    rows, columns = (sorted({cell[place] for cell in cells}, key=_sortable) for place in (0, 1))
    values = np.array([[cells.get((row, column), np.nan) for column in columns] for row in rows])
    best = (max if highest else min)(cells, key=lambda cell: (cells[cell], str(cell)))
    written = [["no run" if np.isnan(value) else digits(float(value)) for value in row] for row in values]
    x, y = (
        Axis(name, "names", [setting(value) for value in found], (-0.5, len(found) - 0.5), grid=False)
        for name, found in ((names[1], columns), (names[0], rows))
    )
    place = rows.index(best[0]), columns.index(best[1])
    marks = [Cells(y.names, x.names, values, place, quantity, written if values.size <= _MOST_WRITTEN else ())]
    label = f"{quantity} for each {names[0]} and {names[1]}; the best is {setting(best[0])} and {setting(best[1])}"
    panel = Panel(marks, x, y, "", label, 110 + min(58 * len(rows), _TALLEST))
    return Chart("", "", caption="The best is framed", panels=[panel], width="full" if len(columns) > _FEW else "half")


def _sortable(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, (int, float)) else (1, 0.0, str(value))


def contexts(
    points: Mapping[str, Mapping[int, Mapping[str, Point]]],
    baselines: Mapping[str, Mapping[str, float]],
    zero_shot: Mapping[str, Point] | None,
) -> Chart:
    """Return a chart of the error by the training window's length; baselines and zero-shot are lines across.

    Args:
        points: Label of some runs -> context length -> metric -> figure.
        baselines: Metric -> name -> figure, of the same series of data.
        zero_shot: The base model's own figures, if it was evaluated.
    """
    lengths = sorted({length for runs in points.values() for length in runs})
    looks = zip(itertools.cycle(PALETTE), itertools.cycle(MARKERS), strict=False)
    keys = [Key(name, colour, marker=marker) for name, (colour, marker) in zip(points, looks, strict=False)]
    across, zero = baseline_keys(baselines["mae"], needed=False), Key("zero-shot", INK, "longdash")
    x = Axis("training window (tokens)", "names", [str(length) for length in lengths], (-0.5, len(lengths) - 0.5))
    panels = []
    for metric in ("mae", "rmse"):
        marks: list[Any] = [ReferenceLine(key, baselines[metric][name], "y") for name, key in across.items()]
        marks += [ReferenceLine(zero, zero_shot[metric].value, "y")] if zero_shot else []
        for number, (key, runs) in enumerate(zip(keys, points.values(), strict=True)):
            beside = 0.06 * (number - (len(keys) - 1) / 2)  # runs of one length stand side by side
            places = [lengths.index(length) + beside for length in sorted(runs)]
            marks.append(Estimates(key, places, [runs[length][metric] for length in sorted(runs)]))
        label = f"{metric.upper()} by the training window's length, with 95 % intervals, beside the baselines"
        y = Axis(f"{metric.upper()} (original units)", limits=(0, None))
        panels.append(Panel(marks, x, y, "", label))
    caption = "Bars are 95 % intervals, by a bootstrap over series"
    entries = [*keys, *across.values(), *([zero] if zero_shot else [])]
    return Chart("", "", caption=caption, source=SCORES, panels=panels, keys=entries)
