"""The text of `lvjobs status` for a terminal: stage by stage, folded to fit the screen; plain text in a pipe."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

from rich.cells import cell_len
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from lvjobs import remedies
from lvjobs.records.summary import AvoidedRow, RunStatus, StageStatus, Summary, read_row
from lvjobs.report.numbers import duration, flops
from lvjobs.report.terminal.console import (
    COLOURS,
    bar,
    describe_avoided,
    is_plain,
    new_console,
    reason_lines,
    short_start,
    sparkline,
)
from lvjobs.report.terminal.stage_lines import stage_line

_BEGIN = str(remedies.SUBMIT_TRAIN)

_FIRST_SHOWN = ("held", "running", "interrupted", "submitting", "paused", "queued", "planned", "completed", "cancelled")
"""The order in which runs are shown, by state, if not all fit."""
_NAME = "run"
_NAME_LEAST = 24
"""The least number of characters to which a name is shortened, however narrow the terminal is."""
_WORTH_MORE = 4
"""The rank up to which columns are worth more than the middle of a long name."""
_TENTH = 0.1
_LEAST = 1
"""The least number of runs shown of an open stage, however many stages there are."""
_REASONS = 3
"""The number of lines of a folded stage that explain why runs wait or are held."""
_CHANGES_SHOWN = 3
"""The number of lines shown of what a pass did."""


@dataclass(frozen=True)
class Block:
    """A stage with its `shown` runs; its `hidden` runs are counted by state."""

    stage: StageStatus
    shown: Sequence[RunStatus]
    hidden: Mapping[str, int]


def print_status(
    summary: Summary,
    console: Console | None = None,
    *,
    whole: bool = True,
    begin: str = _BEGIN,
    where: Sequence[str] = (),
    age: float | None = None,
) -> None:
    """Print a study's state from a pass's summary. `whole`: every run; else as many as fit the terminal.

    The pass was made `age` seconds ago (None: now).

    `begin` and `where`: see `StudyContext.begin` and `StudyContext.where`.
    """
    console, every = console or new_console(), remedies.STATUS_ALL(*where)
    for part in render_status(summary, console, None if whole else console.height, begin, where, age):
        if isinstance(part, str):
            console.file.write(f"{part}\n")
        else:
            unbroken = not console.is_terminal or every in str(part)  # so that a command can be pasted
            console.print(part, soft_wrap=isinstance(part, Text) and unbroken)


def render_status(
    summary: Summary,
    console: Console,
    lines: int | None,
    begin: str = _BEGIN,
    where: Sequence[str] = (),
    age: float | None = None,
) -> list[RenderableType]:
    """Return the parts of the status, from top to bottom, in about `lines` lines (None: no limit)."""
    if not summary.runs and all(stage.state == "declared" for stage in summary.stages):
        return [Text(f"No runs yet. Type: {begin}")]
    head, changes = _head_line(summary), _pass_lines(summary.did, age, None if lines is None else _CHANGES_SHOWN)
    feet = [*_budget_lines(summary.budget), *_node_lines(summary.avoided_nodes), *changes]
    blocks = fold(summary.runs, summary.stages, None if lines is None else lines - len(feet) - 3)
    parts: list[RenderableType] = [head]
    columns = _columns(blocks, console)
    first = next((block for block in blocks if block.shown), None)
    for block in blocks:
        parts += _render_block(block, columns, where, is_first=block is first, whole_lines=not console.is_terminal)
    if any(_is_numeric(run) for block in blocks for run in block.shown):
        parts.append(Text("n: of a numeric head, over a series' characters alone; not to be compared with the others"))
    return [*parts, Text(), *feet]


def _head_line(summary: Summary) -> Text:
    """Return the study's name, and the number of runs in each state."""
    counted = Counter(run.state for run in summary.runs)
    total = counted.total()
    text = Text(f"{PurePath(summary.study).name}: {total} run{'s' if total != 1 else ''}", style="bold")
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
    by_stage: dict[str, list[RunStatus]] = {}
    for run in runs:
        by_stage.setdefault(run.stage, []).append(run)
    declared = {stage.name: stage for stage in stages if stage.state != "declared" or stage.name in by_stage}
    order = [*declared, *(name for name in by_stage if name not in declared)]
    # A stage that study.toml does not declare has no state: its runs were submitted one by one.
    nameless = {name: read_row(StageStatus, {"name": name, "state": ""}) for name in by_stage}
    found = [({**nameless, **declared}[name], by_stage.get(name, [])) for name in order]
    if lines is None or sum(2 + len(own) for _, own in found) + 1 <= lines:
        return [Block(stage, own, {}) for stage, own in found]
    open_ones = sum(_is_open(stage, own) for stage, own in found)
    room = lines - 1 - 3 * len(found) - _REASONS * open_ones
    share = max(_LEAST, room // open_ones) if open_ones else 0
    return [_folded(stage, own, share if _is_open(stage, own) else 0) for stage, own in found]


def _is_open(stage: StageStatus, runs: Sequence[RunStatus]) -> bool:
    """Return whether runs of the stage can still change: those that a decided stage has paused cannot."""
    return stage.state != "completed" and any(run.state not in ("completed", "cancelled") for run in runs)


def _folded(stage: StageStatus, runs: Sequence[RunStatus], most: int) -> Block:
    if len(runs) <= most:
        return Block(stage, runs, {})
    urgent = sorted(range(len(runs)), key=lambda at: (_FIRST_SHOWN.index(runs[at].state), at))[:most]
    kept = set(urgent)
    hidden = Counter(run.state for at, run in enumerate(runs) if at not in kept)
    return Block(stage, [run for at, run in enumerate(runs) if at in kept], hidden)


# -- what is shown of a run -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """A column: its header, and each run's cell; `right` aligns it. Columns of rank 0 are always shown.

    `coloured` cells have the colour of the run's state. `fixed` is the width in the tables of all stages; None if the
    name has to be folded.
    """

    header: str
    cells: Mapping[str, str]
    right: bool = False
    rank: int = 0
    coloured: bool = False
    fixed: int | None = None

    @cached_property
    def width(self) -> int:
        return max(_width(self.header), *map(_width, set(self.cells.values())), 0)

    def padded(self, cells: Sequence[str]) -> list[str]:
        width, pad = self.width, str.rjust if self.right else str.ljust
        return [pad(cell, width if cell.isascii() else width + len(cell) - _width(cell)) for cell in cells]


def _width(cell: str) -> int:
    """Return the number of screen columns that the text takes."""
    return len(cell) if cell.isascii() else cell_len(cell)


def _columns(blocks: Sequence[Block], console: Console) -> list[_Column]:
    """Return as many columns as fit, those of the lowest rank first."""
    runs = [run for block in blocks for run in block.shown]
    if not runs:
        return []
    plain = is_plain(console)
    made = [
        _Column(header, {run.name: cell(run, plain) for run in runs}, right, rank, cell in (_state, _progress))
        for header, cell, right, rank in _CELLS
    ]
    made = [column for column in made if not column.rank or any(column.cells.values())]
    if console.is_terminal:
        room = console.width - sum(column.width + 1 for column in made[1:] if column.rank <= _WORTH_MORE) - 2
        made[0] = _shortened(made[0], max(_NAME_LEAST, room), plain=plain)
    chosen = [column for column in made if not column.rank]
    room = console.width - sum(column.width + 1 for column in chosen) - 1
    for column in sorted((each for each in made if each.rank), key=lambda column: column.rank):
        if column.width + 1 <= room:
            room -= column.width + 1
            chosen.append(column)
    chosen = [column for column in made if column in chosen]
    return [replace(column, fixed=column.width) for column in chosen] if room >= 0 else chosen


def _shortened(names: _Column, most: int, *, plain: bool) -> _Column:
    """Return names of at most `most` characters. Their last four are kept, which suffice to name a RUN."""
    gap = ".." if plain else "…"
    cells = {
        name: cell if _width(cell) <= most else f"{name[: most - len(gap) - 4]}{gap}{name[-4:]}"
        for name, cell in names.cells.items()
    }
    return replace(names, cells=cells)


def _state(run: RunStatus, _plain: bool) -> str:
    return str(run.state)


def _progress(run: RunStatus, plain: bool) -> str:
    return bar(min(1.0, run.step / run.steps), 5, plain=plain)


def _tries(run: RunStatus, _plain: bool) -> str:
    """Return the number of attempts, and why the last one ended unless the state says it."""
    last = "" if run.cause in (None, run.state) else f" {run.cause}"
    return f"{run.attempts}{last}" if run.attempts else ""


def _when(run: RunStatus, _plain: bool) -> str:
    """Return the time left of a running run; else Slurm's expected start, or the earliest next submission."""
    if run.seconds_left is not None:
        return f"{duration(run.seconds_left)} left"
    if run.start_estimate:
        return f"at {short_start(run.start_estimate)}"
    return f"from {short_start(run.not_before)}" if run.not_before else ""


def _is_numeric(run: RunStatus) -> bool:
    """Return whether its losses are a numeric head's."""
    return (run.loss_numeric, run.validation_loss_numeric, run.untrained_loss_numeric) != (None, None, None)


def _loss(run: RunStatus, name: str) -> str:
    """Return a loss as text, marked `n` if it is a numeric head's."""
    numeric = _is_numeric(run)
    value, mark = getattr(run, f"{name}_numeric" if numeric else name), "n" if numeric else ""
    return "" if value is None else f"{value:.3f}{mark}"


_CELLS: Sequence[tuple[str, Callable[[RunStatus, bool], str], bool, int]] = (
    (_NAME, lambda run, _plain: str(run.name), False, 0),
    ("state", _state, False, 0),
    ("", _progress, False, 4),
    ("step", lambda run, _plain: f"{run.step}/{run.steps}", True, 0),
    ("loss", lambda run, _plain: _loss(run, "loss"), True, 0),
    ("", lambda run, plain: sparkline(run.curve or (), 8, plain=plain), False, 3),
    ("valid.", lambda run, _plain: _loss(run, "validation_loss"), True, 5),
    ("before", lambda run, _plain: _loss(run, "untrained_loss"), True, 8),
    ("tries", _tries, False, 0),
    ("redone", lambda run, _plain: str(run.replayed_steps or ""), True, 7),
    ("", _when, False, 1),
    ("FLOPs", lambda run, _plain: flops(run.flops) if run.flops else "", True, 2),
    ("job", lambda run, _plain: run.job_id or "", True, 6),
)


def _lines(runs: Sequence[RunStatus], columns: Sequence[_Column], *, is_first: bool) -> str:
    """Return the table as text, for a pipe: ten times as fast as rich's table, and no line is broken in either."""
    names = [run.name for run in runs]
    headers = [[column.header] if is_first else [] for column in columns]
    padded = [
        column.padded([*header, *map(column.cells.__getitem__, names)])
        for column, header in zip(columns, headers, strict=True)
    ]
    return "\n".join(" ".join(cells).rstrip() for cells in zip(*padded, strict=True))


def _table(runs: Sequence[RunStatus], columns: Sequence[_Column], *, is_first: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_header=is_first)
    for column in columns:
        least = 0 if column.header == _NAME else column.width
        justify: JustifyMethod = "right" if column.right else "left"
        table.add_column(column.header, justify=justify, overflow="fold", min_width=least, width=column.fixed)
    for run in runs:
        cells = [(column.cells[run.name], COLOURS[run.state] if column.coloured else "") for column in columns]
        table.add_row(*(Text(cell, style=style) for cell, style in cells))
    return table


def _render_block(
    block: Block, columns: Sequence[_Column], where: Sequence[str], *, is_first: bool, whole_lines: bool
) -> list[RenderableType]:
    parts: list[RenderableType] = [Text()]
    stage = block.stage
    if stage.state:
        parts.append(Text(stage_line(stage), style=f"bold {COLOURS[stage.state].removeprefix('bold ')}"))
    else:
        parts.append(Text(stage.name, style="bold"))
    if block.shown and whole_lines:
        parts.append(_lines(block.shown, columns, is_first=is_first))
    elif block.shown:
        parts.append(_table(block.shown, columns, is_first=is_first))
    if block.hidden:
        counted = ", ".join(f"{count} {state}" for state, count in block.hidden.items())
        more = "and " if block.shown else ""
        parts.append(Text(f"{more}{counted} ({remedies.STATUS_ALL(*where)})", style="dim"))
    parts += reason_lines(block.shown, _REASONS if block.hidden else None)
    return parts


# -- below the runs -------------------------------------------------------------------------------------------------


def _budget_lines(budget: Mapping[str, Any]) -> list[Text]:
    """Return the FLOPs spent, reserved and free, in one line."""
    if not budget:
        return []
    spent, limit = budget["spent"], budget["limit"]
    words = f"budget: {flops(spent)} of {limit:.3g} FLOPs spent ({100 * spent / limit:.1f} %)"
    words += f", {flops(budget['reserved'])} reserved, {flops(budget['free'])} free"
    if budget["replayed"] and spent:
        share = 100 * budget["replayed"] / spent
        words += f"; {f'{share:.1f}' if share >= _TENTH else 'less than 0.1'} % was done again"
    return [Text(words, style="bold red" if budget["free"] < 0 else "")]


def _node_lines(nodes: Sequence[AvoidedRow]) -> list[Text]:
    """Return the nodes that the study avoids, in one line."""
    return [Text(f"avoided nodes: {'; '.join(map(describe_avoided, nodes))}", style="yellow")] if nodes else []


def _pass_lines(did: Sequence[str], age: float | None, most: int | None) -> list[Text]:
    """Return what the last pass did, and when, in at most `most` lines and a count of the rest."""
    when = "just now" if age is None else f"{duration(age)} ago"
    lines = [Text(f"last pass, {when}: {did[0] if did else 'nothing was to be done'}")]
    most = len(did) if most is None else most
    lines += [Text(f"  {line}") for line in did[1:most]]
    if len(did) > most:
        lines.append(Text(f"  and {len(did) - most} more"))
    return lines
