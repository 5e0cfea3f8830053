"""The common parts of tables for a terminal: the width, colours, and the formats of times and curves."""

import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from lvjobs.records.summary import AvoidedRow, RunStatus
from lvjobs.study.words import HeldFor

COLOURS = {
    "running": "green",
    "completed": "bold green",
    "queued": "cyan",
    "submitting": "cyan",
    "planned": "cyan",
    "asked": "cyan",
    "declared": "dim",
    "interrupted": "yellow",
    "paused": "yellow",
    "held": "bold red",
    "cancelled": "dim",
}
"""Colours by the state of a run or of a stage."""

_HALF_A_DAY, _DAYS = 12 * 3600, 6 * 86400
_NAMED = 3
"""The number of runs that are named if many share a line."""

_LEVELS = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS = "_.-~^"


def new_console() -> Console:
    """Return a console as wide as the terminal, or 200 columns in a pipe, so that no name is folded for a program."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def sparkline(values: Sequence[float], width: int, *, plain: bool = False) -> str:
    """Return a curve as at most `width` characters; `plain`: for terminals without block characters."""
    shown = values
    if len(values) > width:  # the means of parts that are as equal as possible
        cuts = [round(at * len(values) / width) for at in range(width + 1)]
        shown = [sum(values[one:two]) / (two - one) for one, two in pairwise(cuts)]
    if not shown:
        return ""
    levels = _PLAIN_LEVELS if plain else _LEVELS
    low, high = min(shown), max(shown)
    height = (high - low) or 1.0
    return "".join(levels[round((value - low) / height * (len(levels) - 1))] for value in shown)


def bar(done: float, width: int, *, plain: bool = False) -> str:
    """Return a share (0 to 1) as a bar; it is full only at 1."""
    full = int(done * width)
    return ("#" if plain else "█") * full + ("." if plain else "░") * (width - full)


def with_whole_command(line: Text, width: int) -> Text:
    """Return the line with the command that ends it on a line of its own, where `width` columns would break it."""
    start = line.plain.rfind(" lvjobs ")
    command = line.plain[start + 1 :]
    if start < 0 or len(line) <= width or len(command) > width:
        return line
    (*_, last) = wrap(line.plain[:start], width) or [""]
    if len(last) + 1 + len(command) <= width:
        return line
    return Text("\n").join([line[:start], line[start + 1 :]])


def is_plain(console: Console) -> bool:
    """Return whether the console's encoding may be ASCII only."""
    return not console.encoding.lower().startswith("utf")


def start_words(estimate: float) -> str:
    """Return a time within a few days: `Tue 03 Feb 14:05`."""
    return time.strftime("%a %d %b %H:%M", time.localtime(estimate))


def short_start(estimate: float) -> str:
    """Return a time for a table: `14:05` within half a day, `Tue 14:05` within some days, else the date alone."""
    ahead = estimate - time.time()
    form = "%H:%M" if ahead < _HALF_A_DAY else "%a %H:%M" if ahead < _DAYS else "%d %b"
    return time.strftime(form, time.localtime(estimate))


def avoided_lines(nodes: Sequence[AvoidedRow]) -> list[Text]:
    """Return the nodes that the study avoids, in one line: why, until when, and partitions that use one anyway."""
    words = []
    for node in nodes:
        used = f", still used in partition {', '.join(node.used_in)}: no other node there can run the job"
        words.append(f"{node.node} until {short_start(node.until)} ({node.reason}){used if node.used_in else ''}")
    return [Text(f"avoided nodes: {'; '.join(words)}", style="yellow")] if words else []


def reason_lines(runs: Sequence[RunStatus], most: int | None = None) -> list[Text]:
    """Return a line for each reason why runs wait or are held, with their names; at most `most` lines."""
    found: dict[tuple[str, str], list[RunStatus]] = {}
    for run in runs:
        reason = run.reason or (run.error if run.state == "held" else "")
        if not reason and run.state == "interrupted" and run.not_before:
            reason = f"{run.cause}; lvjobs submits it again after {short_start(run.not_before)}"
        if reason and run.state not in ("completed", "cancelled"):
            found.setdefault((run.state, reason), []).append(run)
    awaiting = [key for key, runs in found.items() if key[0] == "planned" and runs[0].after]
    _merge(found, awaiting, "each depends on an unfinished run")
    short_of_flops = [key for key, runs in found.items() if runs[0].held_for == HeldFor.BUDGET]
    _merge(found, short_of_flops, "the first {first}")  # each needs other FLOPs
    order = sorted(found, key=lambda key: list(COLOURS).index(key[0]), reverse=True)  # the worst first
    lines = [_reason_line(*key, found[key]) for key in order]
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], Text(f"and {len(lines) - most + 1} other reasons", style="dim")]
    return lines


def _merge(found: dict[tuple[str, str], list[RunStatus]], keys: Sequence[tuple[str, str]], words: str) -> None:
    """Join the reasons of these keys into one, `words` with the first of them."""
    if len(keys) > 1:
        state, first = keys[0]
        found[state, words.format(first=first)] = [run for key in keys for run in found.pop(key)]


def _reason_line(state: str, reason: str, runs: Sequence[RunStatus]) -> Text:
    starts = [run.start_estimate for run in runs if run.start_estimate]
    which = "it" if len(runs) == 1 else "the first"
    when = f"; Slurm expects {which} to start {start_words(min(starts))}" if starts else ""
    names = ", ".join(run.name for run in runs[:_NAMED])
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return Text(f"{names}{more}: {reason}{when}", style=COLOURS[state])
