"""Status as a table for a terminal; plain text in a pipe."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_COLOURS = {
    "running": "green",
    "completed": "bold green",
    "queued": "cyan",
    "submitting": "cyan",
    "planned": "cyan",
    "interrupted": "yellow",
    "paused": "yellow",
    "held": "bold red",
    "cancelled": "dim",
}


_WIDE = 100
"""Columns from which on there is room for what the run began from and the steps it had to redo."""


_NAMED = 3
"""Runs that are named where the same is to be said of many."""


def print_status(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """The runs of a pass's summary, one a line, and below them why those that are not well are not."""
    console = console or new_console()
    runs: Sequence[Mapping[str, Any]] = summary["runs"]
    if not runs:
        console.print("No runs yet. Type: lvjobs submit train")
        return
    wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("run", overflow="fold")
    for header in ("state", "last end"):
        table.add_column(header, no_wrap=True)
    numbers = ("step", "loss", "valid.", *(("before", "redone") if wide else ()), "tries", "job")
    for header in numbers:
        table.add_column(header, justify="right", no_wrap=True)
    for run in runs:
        more = (_loss(run, "untrained_loss"), str(run["replayed_steps"])) if wide else ()
        table.add_row(
            run["name"],
            Text(run["state"], style=_COLOURS[run["state"]]),
            "" if run["cause"] in (None, run["state"]) else run["cause"],
            f"{run['step']}/{run['steps']}",
            _loss(run, "loss"),
            _loss(run, "validation_loss"),
            *more,
            str(run["attempts"]),
            run["job_id"] or "",
        )
    console.print(table)
    if any(_is_numeric(run) for run in runs):
        console.print("n: of a numeric head, over a series' characters alone; not to be compared with the others")
    print_reasons(runs, console)


def print_reasons(runs: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A line for each reason why runs are not well, or wait, with their names."""
    for (state, reason), names in _reasons(runs).items():
        console.print(Text(f"{_together(names)}: {reason}", style=_COLOURS[state]), soft_wrap=True)


def _reasons(runs: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """Why those that are not well are not: the names of those of whom the same is to be said."""
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        reason = run["reason"] or (run["error"] if run["state"] == "held" else "")
        if reason and run["state"] not in ("completed", "cancelled"):
            found.setdefault((run["state"], reason + _start(run.get("start_estimate"))), []).append(run["name"])
    return found


def _start(estimate: float | None) -> str:
    """When Slurm expects it to start."""
    return "" if estimate is None else f"; Slurm expects it to start {start_words(estimate)}"


def start_words(estimate: float) -> str:
    """A time of one of the next days: `Tue 03 Feb 14:05`."""
    return time.strftime("%a %d %b %H:%M", time.localtime(estimate))


def _together(names: Sequence[str]) -> str:
    """At most three names, and how many more there are."""
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def new_console() -> Console:
    """The terminal as wide as it is; a pipe as wide as a table may want, so that no name is folded for a program."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


_LOSSES = ("loss", "validation_loss", "untrained_loss")


def _is_numeric(run: Mapping[str, Any]) -> bool:
    """Whether its losses are a numeric head's. Summaries of earlier releases have no such key."""
    return any(run.get(f"{name}_numeric") is not None for name in _LOSSES)


def _loss(run: Mapping[str, Any], name: str) -> str:
    """Marked where it is a numeric head's."""
    value, mark = (run[f"{name}_numeric"], "n") if _is_numeric(run) else (run[name], "")
    return "" if value is None else f"{value:.3f}{mark}"
