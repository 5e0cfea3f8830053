"""Charts of how the study went: the budget's burn-down, what each stage spent, and attempts by how they ended."""

from collections.abc import Mapping, Sequence
from typing import Any

from plotly import graph_objects as go

from lvjobs import remedies
from lvjobs.report.page.course import Spans, cause_of, course, crowd, rows
from lvjobs.report.page.look import CAUSES, KINDS, axis, filled, line, moment, named, numbers, plot, stroke, words
from lvjobs.report.page.parts import Chart, Key, Panel
from lvjobs.report.palette import INK, QUIET

_LEDGER = "attempts and charges of runs.db"
_BARELY = 0.05
"""The share of the limit up to which a burn-down is a flat line, and says in words how little was spent."""
NOTHING_RAN = f"no run has begun; type: {remedies.SUBMIT_TRAIN}"
_DATES = {"type": "date", "tickangle": 0}
_MILLI = 1000.0


def burn_down(spans: Spans, budget: Mapping[str, Any]) -> Chart:
    """What was left of the limit over time; and what was spent until then, useful and replayed FLOPs apart."""
    found = course(spans, budget)
    title = "FLOPs left and spent, over time"
    if found is None:
        return Chart("burn-down", title, missing=NOTHING_RAN)
    times = [moment(time) for time in found.times]
    limit = budget["limit"]
    left, bound = Key("left of the limit", INK), Key("the limit", "#D55E00", dash="dash")
    kinds = [kind for kind in KINDS if any(found.spent[kind])]
    keys = [Key(kind, KINDS[kind][0], "box", pattern=KINDS[kind][1]) for kind in kinds]
    remaining = [
        line(left, times, numbers(found.left), width=2.2, hovertemplate="%{x}: %{y:.4s} left<extra></extra>"),
        line(bound, [times[0], times[-1]], [float(limit)] * 2, width=1.5),
    ]
    stacked = [
        line(
            key,
            times,
            numbers(found.spent[key.name]),
            width=0.8,
            stackgroup="spent",
            hovertemplate="%{x}: %{y:.4s}<extra>%{fullData.name}</extra>",
            **filled(key.colour, key.pattern),
        )
        for key in keys
    ]
    spent = sum(budget[kind] for kind in kinds)
    if limit <= 2 * spent:
        stacked.append(line(bound, [times[0], times[-1]], [float(limit)] * 2, width=1.5))
    y = axis("FLOPs", rangemode="tozero", exponentformat="power")
    date = axis("time (UTC)", **_DATES)
    label = f"{budget['free']:.4g} of {limit:.4g} FLOPs are neither spent nor reserved at the end"
    parts = ", ".join(f"{kind} {budget[kind]:.4g}" for kind in kinds)
    share = budget["spent"] / limit
    note = {"text": f"{100 * share:.3g} % of the limit is spent", "showarrow": False, "xref": "paper", "yref": "paper"}
    notes = [{**note, "x": 0.5, "y": 0.5}] if share < _BARELY else []
    panels = [
        Panel(plot(remaining, date, y, "left of the limit", annotations=notes), f"FLOPs left over time: {label}", 300),
        Panel(plot(stacked, date, y, "spent, by kind"), f"FLOPs spent over time, stacked: {parts}", 300),
    ]
    counted = "All of it counts" if budget["counts_inference"] else "Validation and generation do not count"
    said = "" if limit <= 2 * spent else f" The limit, {limit:.3g}, is far above the right panel."
    caption = (
        f"By the {budget['convention']} convention. {counted} against the limit; replayed is what was lost with a "
        f"death and done again. What an attempt cost is spread evenly over its time.{said}"
    )
    return Chart("burn-down", title, caption, _LEDGER, panels=panels, keys=[left, bound, *keys])


def by_stage(budget: Mapping[str, Any]) -> Chart:
    """What each stage spent, by kind."""
    title = "FLOPs spent by each stage"
    spent = budget["by_stage_and_kind"]
    stages = [stage for stage in budget["by_stage"] if any(spent[stage].values())]
    if not stages:
        return Chart("spent-by-stage", title, missing=NOTHING_RAN)
    keys = [
        Key(kind, colour, "box", pattern=pattern)
        for kind, (colour, pattern) in KINDS.items()
        if any(spent[stage][kind] for stage in stages)
    ]
    traces = [
        go.Bar(
            y=list(range(len(stages))),
            x=[float(spent[stage][key.name]) for stage in stages],
            orientation="h",
            name=key.name,
            meta=key.name,
            marker={"color": key.colour, "pattern": _pattern(key)},
            hovertemplate="%{x:.4s}<extra>%{fullData.name}</extra>",
        )
        for key in keys
    ]
    y = axis("", range=[len(stages) - 0.5, -0.5], showgrid=False, **named(stages))
    made = plot(traces, axis("FLOPs", exponentformat="power"), y, barmode="stack")
    label = "; ".join(f"{stage}: {budget['by_stage'][stage]:.4g} FLOPs" for stage in stages)
    panels = [Panel(made, label, 90 + 30 * len(stages))]
    caption = f"By the {budget['convention']} convention."
    return Chart("spent-by-stage", title, caption, _LEDGER, panels=panels, keys=keys, width="full")


def gantt(spans: Spans) -> Chart:
    """Each attempt from its beginning to its end, a row a run, coloured by how it ended."""
    title = "Attempts over time, by how they ended"
    if not spans:
        return Chart("attempts-over-time", title, missing=NOTHING_RAN)
    shown, left_out = rows(spans)
    keys = _causes(spans)
    place = {run: number for number, run in enumerate(shown)}
    traces = []
    for key in keys:
        own = [span for span in spans if cause_of(span) == key.name and span["run"] in place]
        traces.append(
            go.Bar(
                base=[moment(span["started"]) for span in own],
                x=[round(_MILLI * (span["ended"] - span["started"])) for span in own],
                y=[place[span["run"]] for span in own],
                orientation="h",
                width=0.72,
                name=key.name,
                meta=key.name,
                marker={"color": key.colour, "pattern": _pattern(key), "line": {"width": 0.6, "color": INK}},
                hovertext=[_said(span) for span in own],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    y = axis("", range=[len(shown) - 0.4, -0.6], showgrid=False, **named(shown))
    made = plot(traces, axis("time (UTC)", **_DATES), y, barmode="overlay")
    counts = ", ".join(f"{sum(cause_of(span) == key.name for span in spans):,} {key.name}" for key in keys)
    label = f"{len(spans):,} attempts of {len(shown) + left_out:,} runs: {counts}"
    caption = f"{label}. "
    if left_out:
        caption += (
            f"The {len(shown)} runs with most attempts have a row; the next figure has all {len(spans):,} attempts. "
        )
    panels = [Panel(made, label, 80 + 17 * len(shown))]
    return Chart("attempts-over-time", title, caption.strip(), _LEDGER, panels=panels, keys=keys, width="full")


def at_once(spans: Spans) -> Chart:
    """How many attempts ran at once, over time."""
    title = "How many attempts ran at once"
    if not spans:
        return Chart("attempts-at-once", title, missing=NOTHING_RAN)
    found, keys = crowd(spans), _causes(spans)
    times = [moment(time) for time in found.times]
    traces = [
        line(
            key,
            times,
            numbers(found.by_cause[key.name]),
            width=0.6,
            stackgroup="all",
            line={"shape": "hvh"},
            hovertemplate="%{x}: %{y:.2f}<extra>%{fullData.name}</extra>",
            **filled(key.colour, key.pattern),
        )
        for key in keys
    ]
    made = plot(traces, axis("time (UTC)", **_DATES), axis("attempts", rangemode="tozero"))
    caption = f"Of all {len(spans):,} attempts, means over a hundred-and-fiftieth of the time, by how each ended."
    label = f"How many of {len(spans)} attempts ran at once, over time, stacked by how they ended"
    return Chart("attempts-at-once", title, caption, _LEDGER, panels=[Panel(made, label, 240)], keys=keys, width="full")


def _causes(spans: Spans) -> list[Key]:
    met = {cause_of(span) for span in spans}
    named = [cause for cause in CAUSES if cause in met] + sorted(met - set(CAUSES))
    return [Key(cause, *_look(cause)) for cause in named]


def _look(cause: str) -> Sequence[Any]:
    colour, pattern = CAUSES.get(cause, (QUIET, "x"))
    return colour, "box", "solid", "", pattern


def _pattern(key: Key) -> dict[str, Any]:
    return {"shape": key.pattern, "fgcolor": stroke(key.colour), "fillmode": "overlay", "size": 6, "solidity": 0.3}


def _said(span: Mapping[str, Any]) -> str:
    seconds = span["ended"] - span["started"]
    where = f" on {span['host']}" if span["host"] else ""
    parts = [
        span["run"],
        f"{cause_of(span)}, job {span['job']}{where}",
        f"steps {span['resumed_from']} to {span['step']}, {seconds:,.0f} s",
        span["evidence"],
    ]
    return "<br>".join(words(part) for part in parts if part)
