"""Waiting jobs, and alternatives that would start sooner, for a terminal."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from lvjobs.records.summary import RunStatus
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import new_console, reason_lines, start_words


def print_queue(
    waiting: Sequence[RunStatus], alternatives: Sequence[Mapping[str, Any]], console: Console | None = None
) -> None:
    """Print why jobs wait, and a line for each alternative to the first of them."""
    console = console or new_console()
    if not waiting:
        console.print("No job of this study waits in the queue.")
        return
    for line in reason_lines(waiting):
        console.print(line, soft_wrap=True)
    console.print(f"\nBy Slurm's estimate, which changes with the queue, for {waiting[0].name}:\n")
    console.print(alternatives_table(alternatives).for_terminal())


def alternatives_table(alternatives: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of alternative requests, when such a job would start, and what to type for it."""
    rows = []
    for one in alternatives:
        start = one["start"]
        if start is None:
            when = f"not at all: {one['said']}"
        else:  # an estimate is not exact to the minute
            when = "now" if start <= time.time() + 60 else start_words(start)
        rows.append((one["what"], when, one["type"]))
    return Table("", ("what", "would start", "to have it so, type"), rows, words=3)
