"""Waiting jobs, and alternatives that would start sooner, for a terminal."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lvjobs.report.tables import new_console, reason_lines, start_words


def print_queue(
    waiting: Sequence[Mapping[str, Any]], alternatives: Sequence[Mapping[str, Any]], console: Console | None = None
) -> None:
    """Print why jobs wait, and a line for each alternative to the first of them."""
    console = console or new_console()
    if not waiting:
        console.print("No job of this study waits in the queue.")
        return
    for line in reason_lines(waiting):
        console.print(line, soft_wrap=True)
    console.print(f"\nBy Slurm's estimate, which changes with the queue, for {waiting[0]['name']}:\n")
    console.print(alternatives_table(alternatives))


def alternatives_table(alternatives: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of alternative requests, when such a job would start, and what to type for it."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for header in ("what", "would start", "to have it so, type"):
        table.add_column(header, overflow="fold")
    for one in alternatives:
        start = f"not at all: {one['said']}" if one["start"] is None else _when(one["start"])
        table.add_row(*map(Text, (one["what"], start, one["type"])))  # `[resources]` is no markup
    return table


def _when(start: float) -> str:
    """Return the start time; "now" if it is less than a minute away, because estimates are not more exact."""
    return "now" if start <= time.time() + 60 else start_words(start)
