"""The tables of runs in `lvjobs status`: as many columns as fit, the same ones for the tables of all stages."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain, repeat

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from lvjobs.records.summary import RunTable
from lvjobs.report.numbers import duration, flops
from lvjobs.report.terminal.console import COLOURS, bar, is_plain, short_start, sparkline

_NAME, _WON = "run", " *"
_PARTS = re.compile(r"(?<!\de)-")
"""The gap between two parts of a name: a dash, except in a number such as 1e-05."""
_NAME_LEAST = 16
"""The least number of characters to which a name is shortened, however narrow the terminal is."""
_WORTH_MORE = 5
"""The rank up to which columns are worth more than the middle of a long name."""


@dataclass(frozen=True)
class Column:
    """A column: its header, and the cells of each table; `right` aligns it. Columns of rank 0 are always shown.

    `coloured` cells have the colour of the run's state. `fixed` is the width in the tables of all stages; None if the
    name has to be folded. `least` is the least width, so that columns stay in place while their cells change.
    """

    header: str
    cells: Sequence[Sequence[str]]
    right: bool = False
    rank: int = 0
    coloured: bool = False
    fixed: int | None = None
    least: int = 0

    @cached_property
    def width(self) -> int:
        """Return the number of screen columns that its widest cell takes."""
        return max(_width(self.header), *map(_width, set(chain.from_iterable(self.cells))), self.least)


def _width(cell: str) -> int:
    """Return the number of screen columns that the text takes."""
    return len(cell) if cell.isascii() else cell_len(cell)


def fitting_columns(
    tables: Sequence[RunTable], console: Console, winners: Collection[str] = (), *, wide: bool = False
) -> list[Column]:
    """Return as many columns of these tables as fit the console, those of the lowest rank first; `wide`: all of them.

    The names of `winners` are marked. Unless `wide`, a terminal shows names without what all runs of a table share.
    """
    if not any(tables):
        return []
    made, plain = [], is_plain(console)
    has_ended = any("completed" in runs.column("state") for runs in tables)
    for header, names, cell, right, rank, least in _CELLS:
        values = [map(runs.column, names) for runs in tables]
        cells = [[*map(cell, *each, repeat(plain))] for each in values]
        if not rank or (rank <= _STAY and not has_ended) or header == _STAYS or any(map(any, cells)):
            made.append(Column(header, cells, right, rank, cell in (_state, _progress), least=least))
    if wide:
        made[0] = _marked(made[0], [runs.column("name") for runs in tables], winners)
        return [replace(column, fixed=column.width) for column in made]
    if console.is_terminal:
        made[0] = replace(made[0], cells=[own_parts(*map(runs.column, ("name", "stage"))) for runs in tables])
        room = console.width - sum(column.width + 1 for column in made[1:] if column.rank <= _WORTH_MORE) - 2
        made[0] = _shortened(made[0], max(_NAME_LEAST, room - len(_WON)), plain=plain)
    made[0] = replace(made[0], least=made[0].width + len(_WON))  # also before the winner is known
    made[0] = _marked(made[0], [runs.column("name") for runs in tables], winners)
    chosen = [column for column in made if not column.rank]
    room = console.width - sum(column.width + 1 for column in chosen) - 1
    for column in sorted((each for each in made if each.rank), key=lambda column: column.rank):
        if column.width + 1 <= room:
            room -= column.width + 1
            chosen.append(column)
    chosen = [column for column in made if column in chosen]
    return [replace(column, fixed=column.width) for column in chosen] if room >= 0 else chosen


def own_parts(names: Sequence[str], stages: Sequence[str]) -> Sequence[str]:
    """Return the names of a table's runs without their stage and the parts that all of them share.

    `study.run.find_name` accepts such a name. A name alone, and names of different forms, stay as they are.
    """
    if len(names) < 2:  # noqa: PLR2004 - nothing is shared
        return names
    cut = [_PARTS.split(name.removeprefix(f"{stage}-")) for name, stage in zip(names, stages, strict=True)]
    if len({len(parts) for parts in cut}) > 1 or len({parts[-1] for parts in cut}) < len(cut):
        return names
    varied = [at for at, values in enumerate(zip(*cut, strict=True)) if len({*values}) > 1]
    return ["-".join(parts[at] for at in varied) for parts in cut] if len(varied) > 1 else names


def _marked(names: Column, whole: Sequence[Sequence[str]], winners: Collection[str]) -> Column:
    """Return the column with a star after each winner; `whole` are the names, which may be shortened in the column."""
    cells = [
        [f"{cell}{_WON}" if name in winners else cell for cell, name in zip(*each, strict=True)]
        for each in zip(names.cells, whole, strict=True)
    ]
    return replace(names, cells=cells)


def _shortened(names: Column, most: int, *, plain: bool) -> Column:
    """Return names of at most `most` characters. Their last four are kept, which suffice to name a RUN."""
    gap = ".." if plain else "…"

    def shortened(name: str) -> str:
        return name if _width(name) <= most else f"{name[: most - len(gap) - 4]}{gap}{name[-4:]}"

    return replace(names, cells=[[*map(shortened, cells)] for cells in names.cells])


_often = lru_cache(1024)  # many runs have the same cell


def _state(state: str, _plain: bool) -> str:
    return state


@_often
def _progress(step: int, steps: int, plain: bool) -> str:
    return bar(min(1.0, step / steps), 5, plain=plain)


@_often
def _steps(step: int, steps: int, _plain: bool) -> str:
    return f"{step}/{steps}".rjust(2 * len(str(steps)) + 1)


@_often
def _attempts(attempts: int, cause: str | None, state: str, _plain: bool) -> str:
    """Return the number of attempts, and the cause that ended the last one unless the state has it."""
    last = "" if cause in (None, state) else f", {cause}"
    return f"{attempts}{last}" if attempts else ""


def _when(seconds_left: float | None, start_estimate: float | None, not_before: float | None, _plain: bool) -> str:
    """Return the time left of a running run; else Slurm's latest expected start, or the earliest next submission."""
    if seconds_left is not None:
        return f"{duration(seconds_left)} left"
    if start_estimate:
        return f"start {short_start(start_estimate)}"
    return f"after {short_start(not_before)}" if not_before else ""


@_often
def _loss(loss: float | None, numeric: float | None, _plain: bool) -> str:
    """Return a loss as text, marked `n` if it is a numeric head's."""
    if numeric is not None:
        return f"{numeric:.3f}n"
    return "" if loss is None else f"{loss:.3f}"


@_often
def _flops(number: int, _plain: bool) -> str:
    return flops(number) if number else ""


def _tags(tags: Sequence[str] | None, _plain: bool) -> str:
    return " ".join(tags or ())


def _if_any(value: object, _plain: bool) -> str:
    return str(value) if value else ""


_STAYS = "expected"
"""The column of rank 1 or more that is shown even if all its cells are empty: a run may start at any time."""
_STAY = 6
"""The rank up to which empty columns are shown, so that none moves, until a completed run shows that they stay so."""
_CELLS: Sequence[tuple[str, tuple[str, ...], Callable[..., str], bool, int, int]] = (
    (_NAME, ("name",), _if_any, False, 0, 0),
    ("state", ("state",), _state, False, 0, 11),
    ("", ("step", "steps"), _progress, False, 5, 0),
    ("step", ("step", "steps"), _steps, True, 0, 0),
    ("expected", ("seconds_left", "start_estimate", "not_before"), _when, False, 2, 11),
    ("validation", ("validation_loss", "validation_loss_numeric"), _loss, True, 1, 0),
    ("loss", ("loss", "loss_numeric"), _loss, True, 4, 6),
    ("FLOPs", ("flops",), _flops, True, 3, 6),
    ("attempts", ("attempts", "cause", "state"), _attempts, False, 0, 12),
    ("", ("curve",), lambda curve, plain: sparkline(curve or (), 8, plain=plain), False, 6, 8),
    ("job", ("job_id",), _if_any, True, 7, 0),
    ("repeated", ("replayed_steps",), _if_any, True, 8, 0),
    ("untrained", ("untrained_loss", "untrained_loss_numeric"), _loss, True, 9, 0),
    ("tags", ("tags",), _tags, False, 10, 0),
)
"""The columns: the header, the fields of a run that a cell shows, their function, `right`, `rank` and least width."""


def as_text(columns: Sequence[Column], place: int, *, is_first: bool) -> str:
    """Return the table at `place` as text, for a pipe: much faster than rich's, and no line is broken in either."""
    padded = [_padded(column, [*[column.header] * is_first, *column.cells[place]]) for column in columns]
    return "\n".join(" ".join(cells).rstrip() for cells in zip(*padded, strict=True))


def _padded(column: Column, cells: Sequence[str]) -> Iterable[str]:
    width, pad = column.width, str.rjust if column.right else str.ljust
    if "".join(cells).isascii():
        return map(pad, cells, repeat(width))
    return (pad(cell, width + len(cell) - _width(cell)) for cell in cells)


def as_table(columns: Sequence[Column], place: int, states: Sequence[str], *, is_first: bool) -> Table:
    """Return the table at `place` for a terminal, with a header if it `is_first`. `states` are the runs' states."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_header=is_first)
    for column in columns:
        least = 0 if column.header == _NAME else column.width
        justify: JustifyMethod = "right" if column.right else "left"
        table.add_column(column.header, justify=justify, overflow="fold", min_width=least, width=column.fixed)
    for state, *cells in zip(states, *(column.cells[place] for column in columns), strict=True):
        styles = (COLOURS[state] if column.coloured else "" for column in columns)
        table.add_row(*map(Text, cells, styles))
    return table
