"""The budget, and the use of the GPUs and nodes, as tables for a terminal, or as plain text in a pipe."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from lvjobs.report.numbers import counted, percent
from lvjobs.report.table import Table
from lvjobs.report.terminal.console import new_console
from lvjobs.study.digits import in_digits
from lvjobs.study.words import CHARGE_LABELS

_ACCOUNT = ("limit", "spent", "reserved", "free")
_INFERENCE = ("validation", "generation")
_MOST_RUNS = 10
"""The number of runs that are listed: those that spent most."""


def print_budget(budget: Mapping[str, Any], console: Console | None = None) -> None:
    """Print limit, spent, reserved and free FLOPs; the parts of what was spent; and the same by other conventions.

    Where GPU-hours are limited, print theirs too.
    """
    console = console or new_console()
    limit = budget["limit"]
    rows: list[tuple[str, str, str]] = []

    def add(name: str, flops: int, note: str = "") -> None:
        rows.append((name, f"{in_digits(flops, 4)}", note or f"{100 * flops / limit:.2f} %"))

    for key in _ACCOUNT:
        add(key, budget[key])
    rows.append(("spent, by kind", "", ""))
    for kind in ("useful", "replayed", *_INFERENCE):
        not_counted = kind in _INFERENCE and not budget["counts_inference"]
        add(f"  {CHARGE_LABELS[kind]}", budget[kind], "not counted" if not_counted else "")
        if kind == "replayed" and budget["estimated"]:
            add("    estimated part", budget["estimated"])
    if budget["by_stage"]:
        rows.append(("spent, by stage", "", ""))
    for stage, flops in budget["by_stage"].items():
        add(f"  {stage}", flops)
    spenders = sorted(((flops, run) for run, flops in budget["by_run"].items() if flops), reverse=True)
    if spenders:
        rows.append(("spent, by run", "", ""))
    for flops, run in spenders[:_MOST_RUNS]:
        add(f"  {run}", flops)
    if others := spenders[_MOST_RUNS:]:
        add(f"  {len(others)} other runs (--json has all)", sum(flops for flops, _ in others))
    rows.append(("spent, by another convention", "", ""))
    for name, spent in budget["by_convention"].items():
        if name != budget["convention"]:
            rows.append((f"  {name}", "unknown" if spent is None else in_digits(round(spent), 4), "does not apply"))
    headers = ("FLOPs", f"{budget['convention']} convention", "of the limit")
    console.print(Table("", headers, rows).for_terminal())
    if hours := budget.get("gpu_hours"):
        shares = [(key, f"{hours[key]:.4g}", f"{100 * hours[key] / hours['limit']:.2f} %") for key in _ACCOUNT]
        console.print(Table("", ("GPU-hours", "", "of the limit"), shares).for_terminal())
        if hours["free"] < 0:
            console.print(f"The GPU-hours spent and reserved exceed the limit by {-hours['free']:.4g}.")
    if budget["by_convention"][budget["convention"]] is None:
        console.print(
            f"An earlier release declared some of the runs, without rates of the {budget['convention']} convention: "
            "they are counted by the official convention."
        )
    if budget["estimated"]:
        console.print("estimated: the upper bound for steps that failed nodes executed and did not record")
    if budget["free"] < 0:
        console.print(f"The FLOPs spent and reserved exceed the limit by {-budget['free']:.4g}.")


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
            text = f"no room for one checkpoint interval of its {steps}"
        console.print(f"{room['stage']}: {text}")


_FIGURES = ("hours", "GPU-hours", "used", "goodput", "ETTR", "attempts")


def print_efficiency(efficiency: Mapping[str, Any], console: Console | None = None) -> None:
    """Print GPU-hours, goodput and ETTR of each stage and of the study, and advice on checkpoints, a line per stage."""
    console = console or new_console()
    if not efficiency["attempts"]:
        console.print("No machine time used yet.")
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
        "hours and GPU-hours: allocated; used: spent in steps and validations",
        "goodput: useful step time over allocated time",
        "ETTR: useful step time over all time since submission, queueing included",
    ]
    if efficiency["estimated"]:
        notes.append(
            f"{efficiency['estimated']} of {efficiency['attempts']} attempts are estimated: they still run, or "
            f"accounting does not list them"
        )
    if advice := efficiency["checkpoint_advice"]:
        notes.append("checkpoint interval (advice):")
        profiles = {item["profile"] for item in advice}
        for item in advice:
            where = f" on {item['profile']}" if len(profiles) > 1 else ""
            notes.append(f"  {item['stage']}{where}: {item['words']}")
    return notes


def _hours(hours: float) -> str:
    return f"{hours:.3g}" if hours < 1 else f"{hours:.2f}"
