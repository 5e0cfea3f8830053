"""The published study's seven figures as charts of the page: what `report.material` chose."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs import remedies
from lvjobs.report.evaluated import Evaluated
from lvjobs.report.material import (
    NOTHING_EVALUATED,
    Choice,
    Contexts,
    Examples,
    Forecast,
    Heat,
    StageLosses,
    StepErrors,
    SystemErrors,
    compared,
    point,
)
from lvjobs.report.numbers import short
from lvjobs.report.page.draw_stages import SCORES, bars, contexts_chart, heat, losses_chart
from lvjobs.report.page.look import (
    MARKERS,
    axis,
    baseline_key,
    line,
    log,
    named,
    numbers,
    plot,
    upright,
    words,
)
from lvjobs.report.page.parts import Chart, Key, Panel
from lvjobs.report.palette import INK, MODEL, MODELS, PALETTE, QUIET, shown, variable_names

TIME, POPULATION, ERROR = "time (units of the file)", "population", "mean absolute error"


def chart(choice: Choice) -> Chart:
    """The figure that was chosen, or why there is none."""
    stem = choice.stem.split("-")
    number, title = f"Figure {stem[1]}", choice.shows.partition(";")[0].partition(":")[0]
    bare = Chart(choice.stem, f"{title[0].upper()}{title[1:]}", number=number, missing=choice.missing)
    if choice.content is None:
        return bare
    drawn = _chart(choice.content)
    said = choice.shows[len(title) :].lstrip(":; ")
    caption = f"{drawn.caption} Shown: {said}." if said else drawn.caption
    return replace(drawn, id=bare.id, title=drawn.title or bare.title, caption=caption, number=number)


def _chart(content: Any) -> Chart:
    if isinstance(content, Examples):
        return _examples(content)
    if isinstance(content, StageLosses):
        return losses_chart(content)
    if isinstance(content, Heat):
        baselines = ", ".join(f"{name} {short(content.baselines[name])}" for name in shown(list(content.baselines)))
        beside = f" The same of the baselines: {baselines}." if baselines else ""
        made = heat(content.cells, ("LoRA rank", "learning rate"), content.quantity)
        return replace(made, caption=f"{content.title}. {made.caption}{beside}", source=SCORES)
    if isinstance(content, Contexts):
        return contexts_chart(content)
    if isinstance(content, Forecast):
        return _forecast(content)
    if isinstance(content, StepErrors):
        return _by_step(content)
    assert isinstance(content, SystemErrors)
    return _distribution(content)


def _examples(content: Examples) -> Chart:
    names = variable_names(next(iter(content.series.values())).shape[1])
    keys = [Key(name, PALETTE[n], dash=("solid", "dash")[n % 2]) for n, name in enumerate(names)]
    panels = []
    for series, values in content.series.items():
        traces = [line(key, numbers(content.time), numbers(values[:, n])) for n, key in enumerate(keys)]
        known = {"rangemode": "tozero"} if values.min() >= 0 else {}
        shapes = _start(content.time, content.history)
        made = plot(traces, axis(TIME), axis(POPULATION, **known), f"series {series}", shapes=shapes)
        panels.append(Panel(made, f"Series {series} of the data: {' and '.join(names)} over time", 210))
    return Chart(
        "",
        "",
        "Evenly over the file: nobody chose them. In the file's own units.",
        "the data file",
        panels=panels,
        keys=[*keys, _START],
        width="third",
    )


_START = Key("forecasts begin", QUIET, dash="dash", switches=False)


def _start(time: NDArray[Any], history: int) -> list[dict[str, Any]]:
    """Between the last step that was seen and the first that was not."""
    return [upright(float(time[history - 1] + time[history]) / 2, style="dash")] if history < len(time) else []


def _forecast(content: Forecast) -> Chart:
    names = variable_names(content.truth.shape[1])
    ahead, history = numbers(content.time[content.history :]), content.history
    truth, model = Key("truth", INK), Key(content.label, MODEL)
    across = [baseline_key(name) for name in shown(list(content.baselines))]
    bands, levels = [], sorted(content.quantiles)
    for depth in range(len(levels) // 2):
        low, high = levels[depth], levels[-1 - depth]
        key = Key(f"{100 * (high - low):.0f} % of the samples", MODEL, "box", opacity=0.18 + 0.17 * depth)
        bands.append((key, content.quantiles[low], content.quantiles[high]))
    panels = []
    for n, name in enumerate(names):
        drawn = [
            trace for key, low, high in bands for trace in _band(key, ahead, numbers(low[:, n]), numbers(high[:, n]))
        ]
        own = line(model, ahead, numbers(content.forecast[:, n]), width=2.4)
        whole = [*drawn, line(truth, numbers(content.time), numbers(content.truth[:, n]), width=1.3), own]
        dots = {"size": 5, "color": INK}
        close = [
            *drawn,
            line(truth, ahead, numbers(content.truth[history:, n]), "lines+markers", 0.7, marker=dots),
            *(line(key, ahead, numbers(content.baselines[key.name][:, n])) for key in across),
            own,
        ]
        in_sight = [content.forecast[:, n], *(values[:, n] for values in content.quantiles.values())]
        beyond = [content.baselines[key.name][:, n] for key in across]
        y = axis(f"{name} (original units)", range=_in_sight([content.truth[:, n], *in_sight], []))
        y_close = axis("", range=_in_sight([content.truth[history - 1 :, n], *in_sight], beyond))
        shapes = _start(content.time, history)
        left, right = f"{name}: history and forecast", f"{name}: the horizon, beside the baselines"
        panels.append(Panel(plot(whole, axis(TIME), y, left, shapes=shapes), f"Series {content.series}, {left}", 250))
        panels.append(Panel(plot(close, axis(TIME), y_close, right), f"Series {content.series}, {right}", 250))
    error = float(np.abs(content.forecast - content.truth[history:]).mean())
    caption = f"Series {content.series} of the file; the forecast's MAE on it is {short(error)}."
    if not bands:
        command = remedies.EVALUATE_SAMPLES(run=content.again)
        caption = f"{caption} It is one greedy forecast, which has no bands; for bands, type: {command}"
    keys = [truth, model, *(key for key, *_ in bands), *across, _START]
    return Chart("", "", caption, SCORES, panels=panels, keys=keys)


def _band(key: Key, x: Sequence[Any], low: Sequence[Any], high: Sequence[Any]) -> list[Any]:
    red, green, blue = (int(key.colour[place : place + 2], 16) for place in (1, 3, 5))
    none = {"width": 0}
    return [
        line(key, x, low, line=none, hoverinfo="skip", hovertemplate=None),
        line(key, x, high, line=none, fill="tonexty", fillcolor=f"rgba({red},{green},{blue},{key.opacity:.2f})",
             hoverinfo="skip", hovertemplate=None),
    ]  # fmt: skip


def _in_sight(values: Sequence[NDArray[Any]], beyond: Sequence[NDArray[Any]]) -> list[float | None]:
    """Limits by truth and forecast with room for as much again: a baseline that blows up leaves the picture."""
    every = np.concatenate(values)
    low, high = float(every.min()), float(every.max())
    room = high - low or 1.0
    drawn = np.concatenate([every, *beyond])
    bottom, top = max(float(drawn.min()), low - room), min(float(drawn.max()), high + room)
    margin = 0.05 * (top - bottom or 1.0)
    return numbers([bottom - margin, top + margin])


def _models(names: Sequence[str]) -> list[Key]:
    looks = zip(names, itertools.cycle(MODELS), strict=False)
    return [Key(name, colour, marker=MARKERS[marker]) for name, (colour, marker) in looks]


def _by_step(content: StepErrors) -> Chart:
    models, across = _models(list(content.models)), [baseline_key(name) for name in shown(list(content.baselines))]
    steps, variables = next(iter(content.models.values())).shape
    x = list(range(1, steps + 1))
    every = log(_values([*content.models.values(), *(content.baselines[key.name] for key in across)]))
    panels = []
    for n, name in enumerate(variable_names(variables)):
        traces = [line(key, x, numbers(content.baselines[key.name][:, n])) for key in across]
        traces += [line(key, x, numbers(content.models[key.name][:, n]), "lines+markers", 2.0) for key in models]
        made = plot(traces, axis("step of the horizon"), axis(ERROR if n == 0 else "", **every), name)
        panels.append(
            Panel(made, f"{ERROR} of {name} at each step of the horizon, of models beside the baselines", 320)
        )
    caption = "The axis is logarithmic: baselines differ by factors."
    return Chart("", "", caption, SCORES, panels=panels, keys=[*models, *across])


def _values(arrays: Iterable[NDArray[Any]]) -> list[float]:
    return [float(value) for values in arrays for value in values.flat]


def _distribution(content: SystemErrors) -> Chart:
    models, across = _models(list(content.models)), [baseline_key(name) for name in shown(list(content.baselines))]
    traces = []
    for key, errors, width in [
        *((key, content.baselines[key.name], 1.4) for key in across),
        *((key, content.models[key.name], 2.2) for key in models),
    ]:
        values = np.sort(errors)
        shares = np.arange(1, len(values) + 1) / len(values)
        mean = float(values.mean())
        traces.append(line(key, numbers(values), numbers(shares), width=width, line={"shape": "hv"}))
        share = float(np.searchsorted(values, mean, side="right")) / len(values)
        for at, share_at, marker in (
            (float(np.median(values)), 0.5, {"symbol": "circle", "size": 8}),
            (mean, share, {"symbol": "x-thin", "size": 9, "line": {"width": 2.5, "color": key.colour}}),
        ):
            traces.append(line(key, numbers([at]), numbers([share_at]), "markers", marker=marker))
    every = log(_values([*content.models.values(), *(content.baselines[key.name] for key in across)]))
    x, y = axis("MAE of a system (original units)", **every), axis("share of systems", range=[0, 1.03])
    caption = (
        "The share of systems with at most so much error. A dot is the median, a cross the mean: where a few systems "
        "carry most of the mean, the two lie far apart."
    )
    label = "For each model and baseline, the share of systems with at most so much error"
    panels = [Panel(plot(traces, x, y), label, 380)]
    return Chart("", "", caption, SCORES, panels=panels, keys=[*models, *across], width="full")


def scores(evaluations: Sequence[Evaluated]) -> Chart:
    """The answer at a glance: each model compared and each baseline, with its interval, the best on top."""
    chosen = compared(evaluations)
    title = "The error of the best models, beside all baselines"
    if not chosen:
        return Chart("scores", title, missing=NOTHING_EVALUATED)
    kinds = {"fine-tuned": (MODEL, "circle"), "zero-shot": (INK, "square"), "baseline": ("#7F7F7F", "diamond")}
    rows = [
        (each.subject, "zero-shot" if each.is_zero_shot else "fine-tuned", point(each.scores["scores"], "mae"))
        for each in chosen
    ]
    made = chosen[0].scores["baselines"].items()
    rows += [(name, "baseline", point(found, "mae")) for name, found in made if "problem" not in found]
    rows.sort(key=lambda row: -row[2].value)
    keys, traces = [], []
    for kind, (colour, marker) in kinds.items():
        own = [(place, name, found) for place, (name, of, found) in enumerate(rows) if of == kind]
        if own:
            keys.append(Key(kind, colour, "dot", marker=marker))
            traces.append(
                line(
                    keys[-1],
                    numbers([found.value for _, _, found in own]),
                    [place for place, _, _ in own],
                    "markers",
                    marker={"size": 9},
                    error_x=bars([found for _, _, found in own], colour, "x"),
                    hovertext=[
                        f"{words(name)}: {short(found.value)} [{short(found.low)}, {short(found.high)}]"
                        for _, name, found in own
                    ],
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
    ends = log(value for _, _, found in rows for value in (found.low, found.high))
    x = axis("MAE (original units), 95 % interval", **ends)
    y = axis("", range=[-0.6, len(rows) - 0.4], **named([name for name, _, _ in rows]))
    caption = (
        f"The best run of each stage, the base model where it was evaluated, and every baseline: "
        f"{chosen[0].circumstances}. The axis is logarithmic."
    )
    label = "; ".join(f"{name}: MAE {short(found.value)}" for name, _, found in reversed(rows))
    panels = [Panel(plot(traces, x, y), label, 90 + 27 * len(rows))]
    return Chart("scores", title, caption, SCORES, panels=panels, keys=keys, width="full")
