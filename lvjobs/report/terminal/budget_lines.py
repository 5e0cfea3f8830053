"""The budget as a table for a terminal, or as plain text in a pipe."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from lvjobs.report.numbers import counted
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import new_console

_INFERENCE = ("validation", "generation")
_MOST_RUNS = 10
"""The number of runs that are listed: those that spent most."""


def print_budget(budget: Mapping[str, Any], console: Console | None = None) -> None:
    """Print limit, spent, reserved and free FLOPs; the parts of what was spent; and the same by other conventions."""
    console = console or new_console()
    limit = budget["limit"]
    rows: list[tuple[str, str, str]] = []

    def add(name: str, flops: int, note: str = "") -> None:
        rows.append((name, f"{flops:.4g}", note or f"{100 * flops / limit:.2f} %"))

    for key in ("limit", "spent", "reserved", "free"):
        add(key, budget[key])
    for kind in ("useful", "replayed", *_INFERENCE):
        not_counted = kind in _INFERENCE and not budget["counts_inference"]
        add(f"  {kind}", budget[kind], "not counted" if not_counted else "")
        if kind == "replayed" and budget["estimated"]:
            add("    of it estimated", budget["estimated"])
    for stage, flops in budget["by_stage"].items():
        add(f"  stage {stage}", flops)
    spenders = sorted(((flops, run) for run, flops in budget["by_run"].items() if flops), reverse=True)
    for flops, run in spenders[:_MOST_RUNS]:
        add(f"  {run}", flops)
    if others := spenders[_MOST_RUNS:]:
        add(f"  {len(others)} other runs (--json has all)", sum(flops for flops, _ in others))
    for name, spent in budget["by_convention"].items():
        if name != budget["convention"]:
            rows.append((f"  spent, {name}", "unknown" if spent is None else f"{spent:.4g}", "does not bind"))
    headers = ("FLOPs", f"{budget['convention']} convention", "of the limit")
    console.print(Table("", headers, rows).for_terminal())
    if budget["by_convention"][budget["convention"]] is None:
        console.print(
            f"An earlier release declared some of the runs, without rates of the {budget['convention']} convention: "
            "they are counted by the official one."
        )
    if budget["estimated"]:
        console.print("estimated: the most that machines which died may have executed and never wrote down")
    if budget["free"] < 0:
        console.print(f"The limit was lowered below what is spent and reserved: {-budget['free']:.4g} too much.")


def print_still_fits(rooms: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print one line for each later stage: how much of it would fit into what is free now, each stage by itself."""
    console = console or new_console()
    for room in rooms:
        runs = "" if room["runs"] == 1 else f"{room['runs']} runs of "
        steps = counted(room["steps"], "steps")
        if room["fits"]:
            text = f"{runs}{counted(room['fits'], 'steps')} would still fit"
            text += "" if room["fits"] == room["steps"] else f"; {steps} would not"
        else:
            text = f"not even one checkpoint interval of its {steps} fits any more"
        console.print(f"{room['stage']}: {text}")
