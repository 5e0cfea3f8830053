"""The cost of planned runs, as tables for a terminal, and in words whether the budget has room for it."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from lvjobs import remedies
from lvjobs.report.numbers import DAY, HOUR, MINUTE, four_digits, setting
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import new_console

_NOT_COUNTED = "The FLOPs of the task are not counted: write @lvjobs.task above its function (docs/tasks.md)."
_BY_TIME = "The runs declare no FLOPs: the limit of GPU-hours counts them."
_FULL = ("training", "validation", "evaluation")
_TEN = 10


def print_estimate(estimate: Mapping[str, Any], console: Console | None = None, *, where: Sequence[str] = ()) -> None:
    """Print FLOPs of training alone, then of all, by each convention; time and disk space; and whether it fits.

    `where`: see `StudyContext.where`.
    """
    console = console or new_console()
    conventions: Sequence[str] = estimate["conventions"]
    if conventions:
        binding = estimate["convention"] if estimate["convention"] in conventions else "official"
        _print_flops(console, estimate, "training only", ("training",), ("runs", "steps"))
        _print_flops(console, estimate, "with validation and evaluation", _FULL, ("windows", "series"))
        _print_parts(console, estimate, binding)
    else:
        console.print(_BY_TIME if estimate.get("gpu_hours") else _NOT_COUNTED)
    _print_times(console, estimate)
    more = remedies.BUDGET_SET(*where)
    for line in verdict_lines(estimate, where):
        console.print(Text(line), soft_wrap=more in line)  # a command stays on one line, so that it can be pasted
    for plan in estimate["plans"]:
        _print_plan(console, plan, estimate)


def estimate_lines(estimate: Mapping[str, Any], width: int = 100) -> list[str]:
    """Return the lines of `print_estimate` as plain text, for a script's comments."""
    stream = io.StringIO()
    print_estimate(estimate, Console(file=stream, width=width, highlight=False, color_system=None))
    return [line.rstrip() for line in stream.getvalue().strip("\n").split("\n")]


def proposal_lines(fit: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines of what was requested, and what would fit, with their sums; `fit` is the JSON of a proposal."""
    yield f"requested: {_grouped(fit['asked']['runs'])}: {short(fit['asked']['flops'])} FLOPs"
    left = fit["free"] - fit["proposed"]["flops"]
    yield (
        f"proposed:  {_grouped(fit['proposed']['runs'])}: {short(fit['proposed']['flops'])} FLOPs of "
        f"{short(fit['free'])} free; {short(left)} are left"
    )
    yield "          (each with a reserve of one checkpoint interval, released when the run is completed)"


def _grouped(groups: Sequence[Mapping[str, int]]) -> str:
    return ", ".join(
        f"{_runs(group['count'])} of {group['steps']:,} steps, validated "
        + ("once at the end" if group["validate_every"] >= group["steps"] else f"every {group['validate_every']:,}")
        for group in groups
    )


def _print_flops(
    console: Console, estimate: Mapping[str, Any], title: str, parts: Sequence[str], counts: Sequence[str]
) -> None:
    conventions: Sequence[str] = estimate["conventions"]
    rows = [
        (
            row["name"],
            *(f"{row[key]:,}" for key in counts),
            *(four_digits(sum(row[part][name] for part in parts)) for name in conventions),
        )
        for row in _rows(estimate)
    ]
    _print_table(console, f"{title}, FLOPs:", ("stage", *counts, *conventions), rows)


def _print_parts(console: Console, estimate: Mapping[str, Any], binding: str) -> None:
    rows = []
    for row in _rows(estimate):
        figures = [row[part].get(binding, 0) for part in (*_FULL, "replay")]
        share = 100 * sum(figures) / estimate["limit"]
        rows.append((row["name"], *map(four_digits, (*figures, sum(figures))), f"{share:.2f} %"))
    title = f"plus a reserve for repeated steps (one checkpoint interval a run), {binding} FLOPs:"
    _print_table(console, title, ("stage", *_FULL, "replay", "in all", "of limit"), rows)
    if not estimate["counts_inference"]:
        console.print("Validation and evaluation do not count against the limit ([budget] count_inference = false).")


def _print_times(console: Console, estimate: Mapping[str, Any]) -> None:
    rows = []
    for row in _rows(estimate):
        sign = "~" if row.get("time_source") == "scaled" else ""
        step = row.get("step_seconds")
        gpu_seconds = row["gpu_seconds"]
        gpu_hours = "" if gpu_seconds is None else f"{sign}{gpu_seconds / HOUR:.2f}" if gpu_seconds else "-"
        cells = (
            row["name"],
            "" if step is None else f"{sign}{step:.3g} s",
            *(_span(row.get(key), sign) for key in ("run_seconds", "stage_seconds")),
            gpu_hours,
            _size(row["checkpoint_bytes"]) if "checkpoint_bytes" in row else "",
            _size(row["kept_bytes"]),
        )
        rows.append(cells)
    headers = ("stage", "step", "a run", "the stage", "GPU-hours", "checkpoint", "kept")
    _print_table(console, "time of training and validation (without queueing), and disk:", headers, rows)
    for line in time_lines(estimate):
        console.print(line)


def _print_table(console: Console, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print(f"\n{title}")
    console.print(Table(title, headers, rows).for_terminal())


def time_lines(estimate: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each source of the times."""
    by_source: dict[tuple[str | None, str | None], list[str]] = {}
    for row in estimate["stages"]:
        by_source.setdefault((row["time_source"], row["time_from"]), []).append(row["name"])
    for (source, of), names in by_source.items():
        words = {
            "measured": "measured with runs of the same settings",
            "scaled": f"~ scaled by official FLOPs from {of}",
            "given": "from --flops-per-second",
            None: "no timing for this profile yet; give --flops-per-second to estimate",
        }
        yield f"{', '.join(names)}: {words[source]}"


def verdict_lines(estimate: Mapping[str, Any], where: Sequence[str] = ()) -> Iterator[str]:
    """Yield whether it fits, and if not, why not, one sentence each. `where`: see `StudyContext.where`."""
    spent, reserved, limit, free = (estimate[key] for key in ("spent", "reserved", "limit", "free"))
    runs, existing, several = estimate["total"]["runs"], estimate["total"]["existing"], len(estimate["stages"]) > 1
    yield ""
    if existing:
        yield f"In the ledger already: {existing} of {_runs(runs)}; their FLOPs are not needed again."
    for item in estimate["reuse"]:
        yield (
            f"{_runs(item['runs'])} of {item['stage']} repeat{'s' if item['runs'] == 1 else ''} what {item['same_as']} "
            f"trains, and {'is' if item['runs'] == 1 else 'are'} not trained again: that saves {short(item['saves'])}."
        )
    for item in estimate.get("searches", ()):
        trials = "1 trial" if item["trials"] == 1 else f"{item['trials']} trials"
        yield (
            f"{trials} of {item['stage']}, not proposed yet, counted each at the dearest point of its space: "
            f"{', '.join(f'{key} {setting(value)}' for key, value in item['dearest'].items())}."
        )
    fits = "fits" if estimate["fits"] else "does not fit"
    at_once = " (peak reservation; stages run in sequence)" if several else ""
    taken = f" ({short(spent)} spent, {short(reserved)} reserved)" if spent or reserved else ""
    is_by_time = not estimate["conventions"] and bool(estimate.get("gpu_hours"))
    if not is_by_time:
        yield (
            f"Under the {estimate['convention']} convention this {fits} the limit of {short(limit)}: "
            f"{short(estimate['needed'])} FLOPs are needed"
            f"{at_once}, {short(free)} are free{taken}."
        )
    if not estimate["fits"] and several:
        yield from _several_cause_lines(estimate, where)
    elif not estimate["fits"]:
        over = -estimate["spare"]
        advice = "add --fit to submit or sweep to see what fits"
        if estimate["needed_for_evaluation"] >= over:
            advice = "it can be submitted, but not all of its evaluation will fit"
        yield f"That is {short(over)} too many: {advice}."
    if hours := estimate.get("gpu_hours"):
        yield _gpu_hours_line(hours)


def _gpu_hours_line(hours: Mapping[str, float]) -> str:
    fits = "fits" if hours["needed"] <= hours["free"] else "does not fit"
    return (
        f"This {fits} the limit of {hours['limit']:.4g} GPU-hours: {hours['needed']:.4g} are needed, by the time "
        f"limit of each job or by the pace of similar runs, and {hours['free']:.4g} are free."
    )


def refusal(estimate: Mapping[str, Any], where: Sequence[str] = ()) -> str:
    """Return in one line why none of it may start; empty if all of it fits. `where`: see `StudyContext.where`."""
    if estimate["fits"]:
        return ""
    under = f"under the {estimate['convention']} convention"
    words = f"{under} {short(estimate['needed'])} FLOPs are needed, {short(estimate['free'])} are free"
    several = len(estimate["stages"]) > 1
    causes = list(_several_cause_lines(estimate, where)) if several else []
    plans = "; ".join(_in_words(plan) for plan in estimate["plans"])
    return "; ".join([words, *(line[0].lower() + line[1:].rstrip(".") for line in causes)]) + (
        f"; what fits: {plans}" if plans else ""
    )


def _in_words(plan: Mapping[str, Any]) -> str:
    """Return the changes that a plan makes to what was requested."""
    changes = [f"without {name}" for name in plan["left_out"]] or ["every stage"]
    changes += [
        f"{part['name']} cut from {part['asked_steps']:,} to {part['steps']:,} steps"
        for part in plan["stages"]
        if part["steps"] < part["asked_steps"]
    ]
    return ", ".join(changes)


def _several_cause_lines(estimate: Mapping[str, Any], where: Sequence[str]) -> Iterator[str]:
    cause, limit, free, plans = (estimate[key] for key in ("cause", "limit", "free", "plans"))
    if cause is None:
        yield f"Every stage is submitted already: cancel runs, or raise the limit: {remedies.BUDGET_SET(*where)}"
        return
    name = f"the {cause['stage']} run" if cause["runs"] == 1 else f"stage {cause['stage']}"
    needs = f"needs {short(cause['needs'])}"
    if cause["needs"] > limit:
        needs += ", more than the whole limit"
    elif cause["needs"] > free:
        needs += ", more than is free"
    rest = f"without it the rest fits ({short(cause['rest_needs'])})"
    if not cause["remedies"]:
        yield f"No one stage is the cause: {name} {needs}, and without it the rest does not fit either."
    elif len(cause["remedies"]) == 1:
        yield f"{name[0].upper()}{name[1:]} alone is the cause: it {needs}; {rest}."
    else:
        others = ", ".join(other for other in cause["remedies"] if other != cause["stage"])
        yield f"The largest is the cause: {name} {needs}; {rest}. So it does without any one of: {others}."
    if all(plan["left_out"] for plan in plans):
        yield f"No plan fits, even with {name} cut to one checkpoint interval."
    if not plans and cause["single"]:
        yield f"Nor without {cause['single']}."


def _print_plan(console: Console, plan: Mapping[str, Any], estimate: Mapping[str, Any]) -> None:
    rows = [
        (
            part["name"],
            f"{part['runs']:,}",
            f"{part['steps']:,}",
            four_digits(part["work"]),
            four_digits(part["replay"]),
        )
        for part in plan["stages"]
    ]
    rows.append(("sum", "", "", four_digits(plan["work"]), ""))
    headers = ("stage", "runs", "steps each", "FLOPs", "replay")
    _print_table(console, f"A plan that fits: {_in_words(plan)}", headers, rows)
    console.print(
        f"At most {short(plan['needed'])} of {short(estimate['free'])} free at once; {short(plan['spare'])} to spare "
        f"for steps that earlier stages repeat"
        ".",
    )


def _rows(estimate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the stages, and their total if there are several."""
    stages = list(estimate["stages"])
    return stages if len(stages) == 1 else [*stages, {"name": "total", **estimate["total"]}]


def short(flops: int) -> str:
    """Return FLOPs in at most four digits, without trailing zeros: 1e17."""
    mantissa, _, exponent = four_digits(flops).partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}" if exponent else "0"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _span(seconds: int | None, sign: str = "") -> str:
    if seconds is None:
        return ""
    if seconds < MINUTE:
        return f"{sign}{seconds} s"
    if seconds < HOUR:
        return f"{sign}{-(-seconds // MINUTE)} min"
    if seconds < 2 * DAY:
        return f"{sign}{seconds // HOUR} h {seconds % HOUR // MINUTE} min"
    return f"{sign}{seconds // DAY} d {seconds % DAY // HOUR} h"


def _size(count: int) -> str:
    """Return bytes in decimal units, with at least two digits."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:  # noqa: PLR2004 - decimal units
        value, units = value / 1000, units[1:]
    return f"{value:.1f} {units[0]}" if value < _TEN else f"{value:.0f} {units[0]}"
