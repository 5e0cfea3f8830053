"""The doctor's findings for a terminal: level, subject and fact; below it the consequence, and the remedy."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lvjobs.report.terminal.console import new_console

_COLOURS = {"fine": "green", "note": "yellow", "error": "bold red"}
_ORDER = tuple(_COLOURS)


def print_findings(findings: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print what is fine, then notes, then errors, next to the prompt; a subject is named once within each level."""
    console = console or new_console()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column("level", no_wrap=True)
    table.add_column("subject", no_wrap=True)
    table.add_column("what", overflow="fold")
    before = ("", "")
    ordered = sorted(findings, key=lambda finding: _ORDER.index(finding["level"]))
    for finding in ordered:
        subject = (finding["level"], finding["subject"])
        table.add_row(
            Text(finding["level"], style=_COLOURS[finding["level"]]),
            Text("" if subject == before else finding["subject"], style="bold"),
            _words(finding),
        )
        before = subject
    console.print(table)
    worst = ordered[-1]["level"] if ordered else "fine"
    console.print(Text(summary(findings), style=_COLOURS[worst]))


def _words(finding: Mapping[str, Any]) -> Text:
    text = Text(finding["what"])
    if finding["means"]:
        text.append(f"\n{finding['means']}", style="dim")
    if finding["remedy"]:
        text.append(f"\n-> {finding['remedy']}", style="" if finding["level"] == "fine" else "cyan")
    return text


def summary(findings: Sequence[Mapping[str, Any]]) -> str:
    """Return the last line: the numbers of errors and notes."""
    counts = Counter(finding["level"] for finding in findings)
    notes = f"; {counts['note']} note{'' if counts['note'] == 1 else 's'}" if counts["note"] else ""
    if not counts["error"]:
        return f"fine: no problem for runs was found{notes}"
    names = dict.fromkeys(finding["subject"] for finding in findings if finding["level"] == "error")
    return f"{counts['error']} error{'' if counts['error'] == 1 else 's'} ({', '.join(names)}){notes}"
