"""The use of the GPUs and nodes, as a table for a terminal, or as plain text in a pipe."""

import textwrap
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from lvjobs.report.numbers import percent
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import new_console

_FIGURES = ("hours", "GPU-hours", "used", "goodput", "ETTR", "attempts")


def print_efficiency(efficiency: Mapping[str, Any], console: Console | None = None) -> None:
    """Print GPU-hours, goodput and ETTR of each stage and of the study, and advice on checkpoints, a line per stage."""
    console = console or new_console()
    if not efficiency["attempts"]:
        console.print("No machine has been used yet.")
        return
    rows = [(stage, *_figures(share)) for stage, share in efficiency["by_stage"].items()]
    if len(rows) > 1:
        rows.append(("all", *_figures(efficiency)))
    console.print(Table("", ("stage", *_FIGURES), rows).for_terminal())
    for line in _notes(efficiency):
        text = textwrap.fill(line, console.width, subsequent_indent="    ", break_long_words=False)
        console.print(text, soft_wrap=True, markup=False)


def _figures(share: Mapping[str, Any]) -> tuple[str, ...]:
    allocated, used = share["allocated_gpu_hours"], share["used_gpu_hours"]
    return (
        _hours(share["allocated_hours"]),
        _hours(allocated),
        f"{_hours(used)} ({100 * used / allocated:.0f} %)" if allocated else _hours(used),
        percent(share["goodput"]),
        percent(share["ettr"]),
        str(share["attempts"]),
    )


def _notes(efficiency: Mapping[str, Any]) -> list[str]:
    notes = [
        "hours and GPU-hours: allocated; used: those spent in steps and validations",
        "goodput: useful step time over allocated time",
        "ETTR: useful step time over all time since submission, queueing included",
    ]
    if efficiency["estimated"]:
        notes.append(
            f"{efficiency['estimated']} of {efficiency['attempts']} attempts are estimated: they still run, or "
            "accounting does not tell of them"
        )
    if advice := efficiency["checkpoint_advice"]:
        notes.append("checkpoints (advice, nothing is changed by itself):")
        profiles = {item["profile"] for item in advice}
        for item in advice:
            where = f" on {item['profile']}" if len(profiles) > 1 else ""
            notes.append(f"  {item['stage']}{where}: {item['words']}")
    return notes


def _hours(hours: float) -> str:
    return f"{hours:.3g}" if hours < 1 else f"{hours:.2f}"
