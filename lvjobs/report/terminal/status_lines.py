"""The text of `lvjobs status` for a terminal: stage by stage, folded to fit the screen; plain text in a pipe."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from lvjobs import remedies
from lvjobs.records.summary import RunStatus, RunTable, StageStatus, Summary, read_row
from lvjobs.report.numbers import counted as numbered
from lvjobs.report.numbers import duration, flops, percent_of
from lvjobs.report.terminal.console import (
    COLOURS,
    avoided_lines,
    new_console,
    reason_lines,
    short_start,
    with_whole_command,
)
from lvjobs.report.terminal.stage_lines import stage_line
from lvjobs.report.terminal.status_table import as_table, as_text, fitting_columns
from lvjobs.study.digits import in_digits

_BEGIN = str(remedies.SUBMIT_TRAIN)

_FIRST_SHOWN = ("held", "running", "interrupted", "submitting", "paused", "queued", "planned", "completed", "cancelled")
"""The order in which runs are shown, by state, if not all fit."""
_OVER = frozenset({"completed", "cancelled"})
_EXPLAINED = ("name", "state", "reason", "error", "after", "held_for", "start_estimate", "not_before", "cause")
_NUMERIC = ("loss_numeric", "validation_loss_numeric", "untrained_loss_numeric")
_LEAST = 1
"""The least number of runs shown of an open stage, however many stages there are."""
_REASONS = 3
"""The number of lines of a folded stage that explain why runs wait or are held."""
_CHANGES_SHOWN = 3
"""The number of lines shown of what an update changed."""


@dataclass(frozen=True)
class Block:
    """A stage with its `shown` runs; its `hidden` runs are counted by state."""

    stage: StageStatus
    shown: RunTable
    hidden: Mapping[str, int]


def print_status(
    summary: Summary,
    console: Console | None = None,
    *,
    whole: bool = True,
    begin: str = _BEGIN,
    where: Sequence[str] = (),
    age: float | None = None,
    wide: bool = False,
) -> None:
    """Print a study's state from a pass's summary. `whole`: every run; else as many as fit the terminal.

    The pass was made `age` seconds ago (None: now). `wide`: all columns, on lines of any length.

    `begin` and `where`: see `StudyContext.begin` and `StudyContext.where`.
    """
    console, every = console or new_console(), remedies.STATUS_ALL(*where)
    for part in render_status(summary, console, None if whole else console.height, begin, where, age, wide=wide):
        if isinstance(part, str):
            console.file.write(f"{part}\n")
        else:
            unbroken = not console.is_terminal or every in str(part)  # so that a command can be pasted
            shown = with_whole_command(part, console.width) if isinstance(part, Text) and not unbroken else part
            console.print(shown, soft_wrap=isinstance(part, Text) and unbroken)


def render_status(
    summary: Summary,
    console: Console,
    lines: int | None,
    begin: str = _BEGIN,
    where: Sequence[str] = (),
    age: float | None = None,
    *,
    wide: bool = False,
) -> list[RenderableType]:
    """Return the parts of the status, from top to bottom, in about `lines` lines (None: no limit)."""
    if not summary.runs and all(stage.state == "declared" for stage in summary.stages):
        return [Text(f"No runs yet. Type: {begin}")]
    runs = RunTable.of(summary.runs)
    head = head_line(summary.study, runs)
    feet = foot_lines(summary, runs, age, None if lines is None else _CHANGES_SHOWN)
    blocks = fold(runs, summary.stages, None if lines is None else lines - len(feet) - 3)
    parts: list[RenderableType] = [head]
    winners = {stage.winner for stage in summary.stages if stage.winner}
    columns = fitting_columns([block.shown for block in blocks], console, winners, wide=wide)
    first = next((block for block in blocks if block.shown), None)
    for place, block in enumerate(blocks):
        table: RenderableType | None = None
        if block.shown and console.is_terminal and not wide:
            table = as_table(columns, place, block.shown.column("state"), is_first=block is first)
        elif block.shown:
            table = as_text(columns, place, is_first=block is first)
        parts += _render_block(block, table, where)
    if any(value is not None for block in blocks for name in _NUMERIC for value in block.shown.column(name)):
        parts.append(Text("n: of a numeric head, over a series' characters alone; not comparable with the others"))
    return [*parts, Text(), *feet]


def head_line(study: str, runs: RunTable) -> Text:
    """Return the study's name, and the number of runs in each state."""
    counted, total = Counter(runs.column("state")), len(runs)
    text = Text(f"{PurePath(study).name}: {total} run{'s' if total != 1 else ''}", style="bold")
    for state in COLOURS:
        if counted[state]:
            text.append(f", {counted[state]} {state}", style=f"not bold {COLOURS[state]}")
    return text


# -- which runs are shown -------------------------------------------------------------------------------------------


def fold(runs: Sequence[RunStatus], stages: Sequence[StageStatus], lines: int | None) -> list[Block]:
    """Return the stages that were requested, with their runs, in about `lines` lines (None: no limit).

    If not all fit, runs that may need the user's attention are shown first, then running ones; finished stages show
    none.
    """
    table, by_stage = RunTable.of(runs), dict[str, list[int]]()
    for place, name in enumerate(table.column("stage")):
        by_stage.setdefault(name, []).append(place)
    declared = {stage.name: stage for stage in stages if stage.state != "declared" or stage.name in by_stage}
    order = [*declared, *(name for name in by_stage if name not in declared)]
    # A stage that study.toml does not declare has no state: its runs were submitted one by one.
    nameless = {name: read_row(StageStatus, {"name": name, "state": ""}) for name in by_stage}
    found = [({**nameless, **declared}[name], table.take(by_stage.get(name, ()))) for name in order]
    if lines is None or sum(2 + len(own) for _, own in found) + 1 <= lines:
        return [Block(stage, own, {}) for stage, own in found]
    open_ones = sum(_is_open(stage, own) for stage, own in found)
    room = lines - 1 - 3 * len(found) - _REASONS * open_ones
    share = max(_LEAST, room // open_ones) if open_ones else 0
    return [_folded(stage, own, share if _is_open(stage, own) else 0) for stage, own in found]


def _is_open(stage: StageStatus, runs: RunTable) -> bool:
    """Return whether runs of the stage can still change: those that a decided stage has paused cannot."""
    return stage.state != "completed" and not _OVER.issuperset(runs.column("state"))


def _folded(stage: StageStatus, runs: RunTable, most: int) -> Block:
    if len(runs) <= most:
        return Block(stage, runs, {})
    states = runs.column("state")
    urgent = sorted(range(len(runs)), key=lambda at: (_FIRST_SHOWN.index(states[at]), at))[:most]
    kept = set(urgent)
    hidden = Counter(state for at, state in enumerate(states) if at not in kept)
    return Block(stage, runs.take(sorted(kept)), hidden)


def _render_block(block: Block, table: RenderableType | None, where: Sequence[str]) -> list[RenderableType]:
    """Return the parts of a stage; `table` has its shown runs."""
    parts: list[RenderableType] = [Text()]
    stage = block.stage
    if stage.state:
        parts.append(Text(stage_line(stage), style=f"bold {COLOURS[stage.state].removeprefix('bold ')}"))
    else:
        parts.append(Text(stage.name, style="bold"))
    if table is not None:
        parts.append(table)
    if block.hidden:
        counted = ", ".join(f"{count} {state}" for state, count in block.hidden.items())
        more = "and " if block.shown else ""
        parts.append(Text(f"{more}{counted} ({remedies.STATUS_ALL(*where)})", style="dim"))
    rows = block.shown.records(_EXPLAINED)
    waiting = [read_row(RunStatus, row) for row in rows if row["state"] not in _OVER]
    return [*parts, *reason_lines(waiting, _REASONS if block.hidden else None)]


# -- below the runs -------------------------------------------------------------------------------------------------


def foot_lines(summary: Summary, runs: RunTable, age: float | None, changes: int | None) -> list[Text]:
    """Return the progress, the budget, avoided nodes, and the last update with at most `changes` of its changes."""
    return [
        *_progress_lines(summary, runs),
        *_budget_lines(summary.budget),
        *avoided_lines(summary.avoided_nodes),
        *_update_lines(summary, age, changes),
    ]


def _progress_lines(summary: Summary, runs: RunTable) -> list[Text]:
    """Return how much of all runs' steps is done, and when the open runs would end at the present rate, in one line."""
    progress = summary.progress
    if not progress:
        return []
    kept = [at for at, state in enumerate(runs.column("state")) if state != "cancelled"]
    done, steps = (sum(runs.column(name)[at] for at in kept) for name in ("step", "steps"))
    if not steps:
        return []
    words = f"progress: {100 * done // steps} % of the steps of {numbered(len(kept), 'runs')}"
    if progress["seconds_left"] and progress["at_once"]:
        left = max(progress["longest"], progress["seconds_left"] / progress["at_once"])
        end = short_start(summary.time + left)
        words += f"; expected end {end} ({numbered(progress['at_once'], 'runs')} at once, without queueing)"
    return [Text(words)]


def _budget_lines(budget: Mapping[str, Any]) -> list[Text]:
    """Return the FLOPs spent, reserved and free, in one line, and the GPU-hours in another where they are limited."""
    if not budget:
        return []
    spent, limit = budget["spent"], budget["limit"]
    words = f"budget: {flops(spent)} of {in_digits(limit)} FLOPs spent ({percent_of(spent, limit)})"
    words += f", {flops(budget['reserved'])} reserved, {flops(budget['free'])} free"
    if budget["replayed"] and spent:
        words += f"; {percent_of(budget['replayed'], spent)} repeated"
    lines = [Text(words, style="bold red" if budget["free"] < 0 else "")]
    if hours := budget.get("gpu_hours"):
        words = (
            f"budget: {hours['spent']:.3g} of {hours['limit']:.4g} GPU-hours spent, {hours['reserved']:.3g} reserved"
        )
        words += f", {hours['free']:.3g} free"
        lines.append(Text(words, style="bold red" if hours["free"] < 0 else ""))
    return lines


def _update_lines(summary: Summary, age: float | None, most: int | None) -> list[Text]:
    """Return when the study was updated, and what changed, in at most `most` lines and a count of the rest.

    `age` is the age of the summary in seconds (None: it was just made).
    """
    did = summary.did
    when = "just now" if age is None else f"{duration(age)} ago"
    unanswered = summary.unanswered_seconds
    of_what = " from the runs' journals" if unanswered is not None else ""
    lines = [Text(f"Updated {when}{of_what}: {did[0] if did else 'no changes.'}")]
    if unanswered is not None:
        old = duration(unanswered + (age or 0.0))
        lines.insert(0, Text(f"Slurm did not answer: states of jobs are {old} old", style="bold red"))
    most = len(did) if most is None else most
    lines += [Text(f"  {line}") for line in did[1:most]]
    if len(did) > most:
        lines.append(Text(f"  and {len(did) - most} more"))
    return lines
