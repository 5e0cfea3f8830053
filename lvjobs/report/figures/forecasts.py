"""Figures of the data and of forecasts: series, one series' forecast, and models' errors beside the baselines."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs import remedies
from lvjobs.forecasting.baselines import KNOWING
from lvjobs.forecasting.series_forecast import SeriesForecast
from lvjobs.report.chosen import Choices
from lvjobs.report.figures.elements import Axis, Band, Chart, Estimates, Key, Line, Mark, Panel, ReferenceLine
from lvjobs.report.figures.palette import (
    INK,
    MODEL,
    PALETTE,
    QUIET,
    baseline_keys,
    model_keys,
)
from lvjobs.report.figures.stages import SCORES
from lvjobs.report.material import NOTHING_EVALUATED, Arrays, point
from lvjobs.report.numbers import short, variable_names

_TIME = Axis("time (units of the file)", grid=False)
_START = Key("start of the forecast", QUIET, "dash", switches=False)


def examples(time: NDArray[Any], chosen: Mapping[int, NDArray[Any]], history: int) -> Chart:
    """Return a chart of some series, (T, variables) each, by their index; a line marks the forecast's start."""
    names = variable_names(next(iter(chosen.values())).shape[1])
    keys = [Key(name, PALETTE[n], ("solid", "dash")[n % 2]) for n, name in enumerate(names)]
    panels = []
    for series, values in chosen.items():
        marks: list[Mark] = [*_start(time, history), *(Line(key, time, values[:, n]) for n, key in enumerate(keys))]
        y = Axis("population", limits=(0 if values.min() >= 0 else None, None), grid=False)
        label = f"Series {series} of the data: {' and '.join(names)} over time"
        panels.append(Panel(marks, _TIME, y, f"series {series}", label, 210))
    caption = "Evenly over the file: not chosen by hand. In the file's own units"
    entries = [*keys, _START]
    return Chart("", "", caption=caption, source="the data file", panels=panels, keys=entries, width="third")


def _start(time: NDArray[Any], history: int) -> list[ReferenceLine]:
    """Return a line between the last step of the history and the first of the horizon."""
    return [ReferenceLine(_START, float(time[history - 1] + time[history]) / 2)] if history < len(time) else []


def forecast(found: SeriesForecast, *, label: str, warning: str = "", again: Sequence[str] = ()) -> Chart:
    """Return a chart of one series: the whole forecast on the left, the horizon beside the baselines on the right.

    Args:
        found: The series, its forecast and the baselines.
        label: The forecast's name.
        warning: A warning above the figure.
        again: The arguments of `lvjobs evaluate` that evaluate the same model on these series.
    """
    time, truth, history, made, quantiles = found.time, found.truth, found.history, found.forecast, found.quantiles
    came, model = Key("truth", INK), Key(label, MODEL)
    across = baseline_keys(found.baselines)
    bands = list(_bands(quantiles))
    known = time[: len(truth)]
    ahead = time[history : history + len(made)]
    panels = []
    for n, name in enumerate(variable_names(truth.shape[1])):
        drawn = [Band(key, ahead, low[:, n], high[:, n]) for key, low, high in bands]
        own = Line(model, ahead, made[:, n], 1.6)
        whole: list[Mark] = [*_start(time, history), *drawn, Line(came, known, truth[:, n], 1.0), own]
        # Mostly dots, so that a forecast along the truth remains visible.
        close: list[Mark] = [*drawn, Line(came, known[history:], truth[history:, n], 0.5, 3, "o")]
        close += [Line(key, ahead, found.baselines[name][:, n]) for name, key in across.items()]
        in_sight = [made[:, n], *(values[:, n] for values in quantiles.values())]
        beyond = [found.baselines[name][:, n] for name in across]
        y = Axis(f"{name} (original units)", limits=_in_sight([truth[:, n], *in_sight], []), grid=False)
        y_close = Axis("", limits=_in_sight([truth[history - 1 :, n], *in_sight], beyond), grid=False)
        left, right = f"{name}: history and forecast", f"{name}: the horizon, beside the baselines"
        panels.append(Panel(whole, _TIME, y, left, f"Series {found.series}, {left}", 250))
        panels.append(Panel([*close, own], _TIME, y_close, right, f"Series {found.series}, {right}", 250))
    heading = f"series {found.series}"
    if len(known) > history:
        heading += f", MAE {short(float(np.abs(made - truth[history:]).mean()))}"
    command = remedies.EVALUATE_SAMPLES(run=again)
    caption = "" if bands else f"It is one greedy forecast, which has no bands; for bands, type: {command}"
    keys = [came, model, *(key for key, *_ in bands), *across.values(), _START]
    return Chart("", "", heading=heading, warning=warning, caption=caption, source=SCORES, panels=panels, keys=keys)


def _bands(quantiles: Mapping[float, NDArray[Any]]) -> Iterator[tuple[Key, NDArray[Any], NDArray[Any]]]:
    """Yield a band for each pair of levels around the median, the widest first: its key, lower and upper values."""
    levels = sorted(quantiles)
    for depth in range(len(levels) // 2):
        low, high = levels[depth], levels[-1 - depth]
        key = Key(f"{100 * (high - low):.0f} % of the samples", MODEL, kind="box", opacity=0.18 + 0.17 * depth)
        yield key, quantiles[low], quantiles[high]


def _in_sight(values: Iterable[NDArray[Any]], beyond: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """Return limits from truth and forecast, with as much room again: a diverging baseline is cut off."""
    every = np.concatenate([*values])
    low, high = float(every.min()), float(every.max())
    room = high - low or 1.0
    drawn = np.concatenate([every, *beyond])
    bottom, top = max(float(drawn.min()), low - room), min(float(drawn.max()), high + room)
    margin = 0.05 * (top - bottom or 1.0)
    return bottom - margin, top + margin


def _ignorant(baselines: Arrays) -> Arrays:
    """Return the baselines that do not know the law behind the data; all, if there are no others."""
    return {name: errors for name, errors in baselines.items() if name not in KNOWING} or baselines


def _left_out(baselines: Arrays) -> str:
    """Return the errors of baselines that know the law, which would stretch the axis of all others."""
    drawn = _ignorant(baselines)
    words = [f"{name}, MAE {short(float(errors.mean()))}" for name, errors in baselines.items() if name not in drawn]
    return f". Not drawn, because it knows the law behind the data: {'; '.join(words)}" if words else ""


def by_step(models: Arrays, baselines: Arrays) -> Chart:
    """Return a chart of mean absolute errors, (horizon, variables) each, by step: one panel per variable, log axis.

    Raises:
        ValueError: there is no baseline.
    """
    own, across = model_keys(models), baseline_keys(_ignorant(baselines))
    drawn = [(key, baselines[name], 1.1, 0.0) for name, key in across.items()]
    drawn += [(key, models[key.name], 1.6, 3.0) for key in own]
    positive = np.concatenate([errors[errors > 0] for _, errors, *_ in drawn])
    limits = (positive.min() / 1.2, positive.max() * 1.2) if positive.size else (None, None)
    panels = []
    steps, variables = drawn[0][1].shape
    for n, name in enumerate(variable_names(variables)):
        marks = [Line(key, np.arange(1, steps + 1), errors[:, n], width, size) for key, errors, width, size in drawn]
        y = Axis("mean absolute error\n(original units)" if n % 2 == 0 else "", "log", limits=limits)
        label = f"mean absolute error of {name} at each step of the horizon, of models beside the baselines"
        panels.append(Panel(marks, Axis("step of the horizon", "whole", grid=False), y, name, label, 320))
    caption = f"The axis is logarithmic: baselines differ by factors{_left_out(baselines)}"
    return Chart("", "", caption=caption, source=SCORES, panels=panels, keys=[*own, *across.values()])


def distribution(models: Arrays, baselines: Arrays) -> Chart:
    """Return a chart of the share of systems with at most a given error, from errors (systems,).

    A dot is the median, a cross the mean.

    Raises:
        ValueError: there is no baseline.
    """
    own, across = model_keys(models), baseline_keys(_ignorant(baselines))
    marks = []
    for key, errors, width in [
        *((key, baselines[name], 1.1) for name, key in across.items()),
        *((key, models[key.name], 1.8) for key in own),
    ]:
        values = np.sort(errors)
        mean, median = float(values.mean()), float(np.median(values))
        share = float(np.searchsorted(values, mean, side="right")) / len(values)
        marks.append(Line(key, values, np.arange(1, len(values) + 1) / len(values), width, steps=True))
        marks.append(Line(key, [median], [0.5], 0, 5, "o", texts=[f"median {short(median)}"]))
        marks.append(Line(key, [mean], [share], 0, 6, "x", texts=[f"mean {short(mean)}"]))
    x = Axis("MAE of a system (original units): dot, the median; cross, the mean", "log")
    y = Axis("share of systems with at most this error", limits=(0, 1.03))
    caption = (
        "The share of systems with at most this error. A dot is the median, a cross the mean: where a few systems "
        f"carry most of the mean, the two lie far apart{_left_out(baselines)}"
    )
    label = "For each model and baseline, the share of systems with at most this error"
    panel = Panel(marks, x, y, "", label, 380)
    return Chart("", "", caption=caption, source=SCORES, panels=[panel], keys=[*own, *across.values()], width="full")


def scores(choices: Choices) -> Chart:
    """Return a chart of each model that is shown and each baseline, with its interval, the best on top.

    Baselines that know the law behind the data are in the caption: they would stretch the axis of all others.
    """
    title = "The error of the chosen models, beside all baselines"
    shown = choices.drawn
    if not shown:
        return Chart("scores", title, missing=NOTHING_EVALUATED)
    first = shown[0].runs[0]
    looks = {
        "fine-tuned": (MODEL, "o"),
        "zero-shot": (INK, "s"),
        "baseline": ("#7F7F7F", "D"),
    }
    rows = [
        (
            model.label,
            "zero-shot" if model.runs[0].is_zero_shot else "fine-tuned",
            point(model.runs[0].scores["scores"], "mae"),
        )
        for model in shown
    ]
    made = {name: point(found, "mae") for name, found in first.scores["baselines"].items() if "problem" not in found}
    rows += [(name, "baseline", found) for name, found in made.items() if name not in KNOWING]
    rows.sort(key=lambda row: row[2].value)
    knowing = "; ".join(f"{name}, MAE {short(found.value)}" for name, found in made.items() if name in KNOWING)
    keys, marks = [], []
    for kind, (colour, marker) in looks.items():
        own = [(place, name, found) for place, (name, of, found) in enumerate(rows) if of == kind]
        if own:
            keys.append(Key(kind, colour, marker=marker, kind="dot"))
            places, names, points = zip(*own, strict=True)
            marks.append(Estimates(keys[-1], places, points, "x", [f"{name}: " for name in names]))
    x = Axis("MAE (original units), 95 % interval", "log")
    several = " (of several training seeds the first)" * any(len(model.runs) > 1 for model in shown)
    caption = (
        f"The models that stages chose{several}, the base model where it was evaluated, and every baseline: "
        f"{first.circumstances}. The axis is logarithmic. All forecast the same series: intervals that overlap do not "
        "show two of them equal"
    ) + (f". Not drawn, because it knows the law behind the data: {knowing}" if knowing else "")
    label = "; ".join(f"{name}: MAE {short(found.value)}" for name, _, found in rows)
    labels = [name for name, *_ in rows]
    panel = Panel(marks, x, Axis.of_rows(labels), "", label, 90 + 27 * len(labels))
    return Chart("scores", title, caption=caption, source=SCORES, panels=[panel], keys=keys, width="full")
