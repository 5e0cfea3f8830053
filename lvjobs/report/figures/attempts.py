"""The course of a study: what it spent and what ran at each moment; and the figures of that."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs import remedies
from lvjobs.report.figures.elements import Axis, Band, Bars, Chart, Key, Line, Mark, Panel, ReferenceLine
from lvjobs.report.figures.palette import CAUSES, INK, KINDS, QUIET
from lvjobs.study.words import CHARGE_LABELS

_MOST_MOMENTS = 300
_PARTS = 150
_MOST_RUNS = 40

Spans = Sequence[Mapping[str, Any]]
"""Attempts in the form of `control.inspect.report_data`."""


def course(
    spans: Spans, budget: Mapping[str, Any]
) -> tuple[Sequence[float], Mapping[str, Sequence[float]], Sequence[float]]:
    """Return moments of the study; the FLOPs spent by then, kind by kind; and the rest of the limit.

    The FLOPs of an attempt are spread evenly over its time. The last moment has exact sums of charges, as the budget
    has.
    """
    starts, ends = _times(spans)
    moments = np.unique(np.concatenate([starts, ends]))
    if len(moments) > _MOST_MOMENTS:
        moments = np.linspace(moments[0], moments[-1], _MOST_MOMENTS)
    long = np.maximum(ends - starts, 1e-9)
    shares = np.clip((moments[:, None] - starts) / long, 0.0, 1.0)
    spent: dict[str, list[float]] = {}
    for kind in KINDS:
        flops = [span["flops"].get(kind, 0) for span in spans]
        spent[kind] = [*(shares @ np.array(flops, dtype=float))[:-1].tolist(), sum(flops)]
    counted = KINDS if budget["counts_inference"] else ("useful", "replayed")
    left = [budget["limit"] - sum(spent[kind][place] for kind in counted) for place in range(len(moments))]
    return moments.tolist(), spent, left


def crowd(spans: Spans) -> tuple[Sequence[float], Mapping[str, Sequence[float]]]:
    """Return the middle of each time interval, and the mean number of attempts that ran in it, by how they ended.

    Causes are in the order of their first attempt.
    """
    starts, ends = _times(spans)
    edges = np.linspace(starts.min(), max(ends.max(), starts.min() + 1.0), _PARTS + 1)
    width = edges[1] - edges[0]
    causes = np.array([cause_of(span) for span in spans])
    overlap = np.clip(np.minimum(ends[:, None], edges[1:]) - np.maximum(starts[:, None], edges[:-1]), 0.0, None)
    found = {cause: (overlap[causes == cause].sum(axis=0) / width).tolist() for cause in dict.fromkeys(causes.tolist())}
    return ((edges[1:] + edges[:-1]) / 2).tolist(), found


def cause_of(span: Mapping[str, Any]) -> str:
    """Return why the attempt ended; `running` if it has not."""
    return span["cause"] or "running"


def rows(spans: Spans) -> tuple[list[str], int]:
    """Return the runs that get a row of their own, ordered by their start, and the number of the others.

    The runs with the most attempts get a row.
    """
    count = Counter(span["run"] for span in spans)
    first: dict[str, float] = {}
    for span in spans:
        first[span["run"]] = min(first.get(span["run"], span["started"]), span["started"])
    chosen = sorted(count, key=lambda run: (-count[run], first[run], run))[:_MOST_RUNS]
    return sorted(chosen, key=lambda run: (first[run], run)), len(count) - len(chosen)


def _times(spans: Spans) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.array([span["started"] for span in spans]), np.array([span["ended"] for span in spans])


_LEDGER = "attempts and charges of runs.db"
_BARELY = 0.05
"""The share of the limit up to which a burn-down would look flat, so a note gives the share in words."""
NOTHING_RAN = f"no run has started; type: {remedies.SUBMIT_TRAIN}"
NO_FLOPS = "no FLOPs are spent: no step was executed, or the programs declare none"
_TIME = Axis("time (UTC)", "time")
_DAY = 86400.0


def burn_down(spans: Spans, budget: Mapping[str, Any]) -> Chart:
    """Return a chart of the FLOPs left over time, and of those spent until then, stacked by kind."""
    title = "FLOPs left and spent, over time"
    if not spans:
        return Chart("burn-down", title, missing=NOTHING_RAN)
    times, by_kind, rest = course(spans, budget)
    days, limit = _days(times), budget["limit"]
    left, bound = Key("left of the limit", INK), Key("the limit", "#D55E00", "dash")
    kinds = [kind for kind in KINDS if any(by_kind[kind])]
    if not kinds:
        return Chart("burn-down", title, missing=NO_FLOPS)
    keys = [Key(CHARGE_LABELS[kind], KINDS[kind][0], kind="box", pattern=KINDS[kind][1]) for kind in kinds]
    share, spent = budget["spent"] / limit, sum(budget[kind] for kind in kinds)
    reached = limit <= 2 * spent
    across = ReferenceLine(bound, limit, "y")
    remaining: list[Mark] = [Line(left, days, rest, 1.8, texts=_at(times, rest)), across]
    stacked = _stacked(keys, days, times, {CHARGE_LABELS[kind]: by_kind[kind] for kind in kinds})
    label = f"FLOPs left over time: {budget['free']:.4g} of {limit:.4g} FLOPs are neither spent nor reserved at the end"
    parts = ", ".join(f"{CHARGE_LABELS[kind]} {budget[kind]:.4g}" for kind in kinds)
    note = f"{100 * share:.3g} % of the limit is spent" if share < _BARELY else ""
    panels = [
        Panel(remaining, _TIME, Axis("FLOPs", limits=(0, 1.05 * limit)), "left of the limit", label, 300, note),
        Panel(
            [*stacked, across] if reached else stacked,
            _TIME,
            Axis("FLOPs", limits=(0, None)),
            "spent, by kind",
            f"FLOPs spent over time, stacked: {parts}",
            300,
        ),
    ]
    counted = "All of it counts" if budget["counts_inference"] else "Validation and generation do not count"
    above = "" if reached else f" The limit, {limit:.3g}, is far above the right panel."
    caption = (
        f"By the {budget['convention']} convention. {counted} against the limit; repeated: steps lost in a failure "
        f"and executed again. What an attempt cost is spread evenly over its time.{above}"
    )
    return Chart("burn-down", title, caption=caption, source=_LEDGER, panels=panels, keys=[left, bound, *keys])


def by_stage(budget: Mapping[str, Any]) -> Chart:
    """Return a chart of the FLOPs that each stage spent, by kind."""
    title, spent = "FLOPs spent by each stage", budget["by_stage_and_kind"]
    stages = [stage for stage in budget["by_stage"] if any(spent[stage].values())]
    if not stages:
        return Chart("spent-by-stage", title, missing=NO_FLOPS if budget["by_stage"] else NOTHING_RAN)
    keys, bars, places = [], [], range(len(stages))
    start = np.zeros(len(stages))
    for kind, (colour, pattern) in KINDS.items():
        flops = np.array([float(spent[stage][kind]) for stage in stages])
        if flops.any():
            keys.append(Key(CHARGE_LABELS[kind], colour, kind="box", pattern=pattern))
            bars.append(Bars(keys[-1], places, start, start + flops, [f"{value:.4g}" for value in flops]))
            start = start + flops
    label = "; ".join(f"{stage}: {budget['by_stage'][stage]:.4g} FLOPs" for stage in stages)
    panel = Panel(bars, Axis("FLOPs", limits=(0, None)), Axis.of_rows(stages), "", label, 90 + 30 * len(stages))
    caption = f"By the {budget['convention']} convention"
    return Chart("spent-by-stage", title, caption=caption, source=_LEDGER, panels=[panel], keys=keys, width="full")


def gantt(spans: Spans) -> Chart:
    """Return a chart of each attempt from start to end, one row per run, coloured by how it ended."""
    title = "Attempts over time, by how they ended"
    if not spans:
        return Chart("attempts-over-time", title, missing=NOTHING_RAN)
    shown, left_out = rows(spans)
    keys = _causes(spans)
    place = {run: number for number, run in enumerate(shown)}
    bars = []
    for key in keys:
        own = [span for span in spans if cause_of(span) == key.name and span["run"] in place]
        starts, ends = (_days([span[end] for span in own]) for end in ("started", "ended"))
        bars.append(Bars(key, [place[span["run"]] for span in own], starts, ends, [_describe(span) for span in own]))
    counts = ", ".join(f"{sum(cause_of(span) == key.name for span in spans):,} {key.name}" for key in keys)
    label = f"{len(spans):,} attempts of {len(shown) + left_out:,} runs: {counts}"
    caption = label
    if left_out:
        caption += (
            f". The {len(shown)} runs with most attempts have a row; the next figure has all {len(spans):,} attempts"
        )
    panel = Panel(bars, _TIME, Axis.of_rows(shown), "", label, 80 + 17 * len(shown))
    return Chart("attempts-over-time", title, caption=caption, source=_LEDGER, panels=[panel], keys=keys, width="full")


def at_once(spans: Spans) -> Chart:
    """Return a chart of how many attempts ran at once, over time."""
    title = "How many attempts ran at once"
    if not spans:
        return Chart("attempts-at-once", title, missing=NOTHING_RAN)
    (times, by_cause), keys = crowd(spans), _causes(spans)
    bands = _stacked(keys, _days(times), times, by_cause, steps=True)
    caption = f"Of all {len(spans):,} attempts, means over a hundred-and-fiftieth of the time, by how each ended"
    label = f"How many of {len(spans)} attempts ran at once, over time, stacked by how they ended"
    panel = Panel(bands, _TIME, Axis("attempts", limits=(0, None)), "", label, 240)
    return Chart("attempts-at-once", title, caption=caption, source=_LEDGER, panels=[panel], keys=keys, width="full")


def _stacked(
    keys: Iterable[Key], x: Sequence[float], times: Sequence[float], values: Mapping[str, Sequence[float]], *,
    steps: bool = False,
) -> list[Band]:  # fmt: skip
    bands, low = [], np.zeros(len(x))
    for key in keys:
        high = low + np.array(values[key.name], dtype=float)
        bands.append(Band(key, x, low, high, steps, _at(times, values[key.name])))
        low = high
    return bands


def _days(times: Iterable[float]) -> list[float]:
    return [time / _DAY for time in times]


def _at(times: Iterable[float], values: Iterable[float]) -> list[str]:
    moments = (datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S") for time in times)
    return [f"{moment}: {value:.4g}" for moment, value in zip(moments, values, strict=True)]


def _causes(spans: Spans) -> list[Key]:
    met = {cause_of(span) for span in spans}
    named = [cause for cause in CAUSES if cause in met] + sorted(met - set(CAUSES))
    looks = [CAUSES.get(cause, (QUIET, "x")) for cause in named]
    return [Key(cause, look[0], kind="box", pattern=look[1]) for cause, look in zip(named, looks, strict=True)]


def _describe(span: Mapping[str, Any]) -> str:
    seconds = span["ended"] - span["started"]
    where = f" on {span['host']}" if span["host"] else ""
    parts = [
        span["run"],
        f"{cause_of(span)}, job {span['job']}{where}",
        f"steps {span['resumed_from']} to {span['step']}, {seconds:,.0f} s",
        span["evidence"],
    ]
    return "\n".join(part for part in parts if part)
