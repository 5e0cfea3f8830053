"""The cost of planned runs, as tables for a terminal, and in words whether the budget has room for it."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from lvjobs import remedies
from lvjobs.report.numbers import DAY, HOUR, MINUTE, four_digits, percent_of
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import new_console
from lvjobs.report.terminal.verdict_lines import plan_in_words, runs_in_words, short, verdict_lines
from lvjobs.study.digits import plain

_NOT_COUNTED = "The FLOPs of the task are not counted: write @lvjobs.task above its function (docs/tasks.md)."
_BY_TIME = "The runs declare no FLOPs: the limit of GPU-hours counts them."
_FULL = ("training", "validation", "evaluation")
_TEN = 10


def print_estimate(
    estimate: Mapping[str, Any],
    console: Console | None = None,
    *,
    where: Sequence[str] = (),
    every_convention: bool = False,
) -> None:
    """Print whether it fits, its cost by the budget's convention, time and disk space, and plans that fit.

    `where`: see `StudyContext.where`. `every_convention`: also the FLOPs by each convention.
    """
    console = console or new_console()
    more = remedies.BUDGET_SET(*where)
    for line in verdict_lines(estimate, where):
        console.print(Text(line), soft_wrap=more in line)  # a command stays on one line, so that it can be pasted
    conventions: Sequence[str] = estimate["conventions"]
    if conventions:
        _print_parts(console, estimate, estimate["convention"] if estimate["convention"] in conventions else "official")
    else:
        console.print(_BY_TIME if estimate.get("gpu_hours") else _NOT_COUNTED)
    if conventions and every_convention:
        _print_flops(console, estimate, "training only", ("training",), ("runs", "steps"))
        _print_flops(console, estimate, "with validation and evaluation", _FULL, ("windows", "series"))
    _print_times(console, estimate)
    for number, plan in enumerate(estimate["plans"], start=1):
        _print_plan(console, number, plan, estimate)
    if estimate["plans"]:
        console.print(f"\nTo write a plan into study.toml: {remedies.PLAN_APPLY(*where, number=1)}", soft_wrap=True)


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
        f"{runs_in_words(group['count'])} of {group['steps']:,} steps, validated "
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
        of_limit = percent_of(sum(figures), estimate["limit"])
        counts = (f"{row['runs']:,}", f"{row['steps']:,}")
        rows.append((row["name"], *counts, *map(_three_digits, (*figures, sum(figures))), of_limit))
    title = f"{binding} FLOPs, with a reserve for repeated steps (one checkpoint interval a run):"
    headers = ("stage", "runs", "steps", "train", "validate", "evaluate", "reserve", "in all", "of limit")
    _print_table(console, title, headers, rows)
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
            *(_size(row[key]) if row.get(key) else "" for key in ("checkpoint_bytes", "kept_bytes")),
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


def _print_plan(console: Console, number: int, plan: Mapping[str, Any], estimate: Mapping[str, Any]) -> None:
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
    headers = ("stage", "runs", "steps each", "FLOPs", "reserve")
    _print_table(console, f"Plan {number}, which fits: {plan_in_words(plan)}", headers, rows)
    console.print(
        f"Needs {short(plan['needed'])} of the {short(estimate['free'])} available at once; "
        f"{short(plan['spare'])} left for repeated steps.",
    )


def _three_digits(flops: int) -> str:
    """Return FLOPs in three digits: `4.70e12`; `0` for none."""
    return plain(f"{flops:.2e}") if flops else "0"


def _rows(estimate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the stages, and their total if there are several."""
    stages = list(estimate["stages"])
    return stages if len(stages) == 1 else [*stages, {"name": "total", **estimate["total"]}]


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
