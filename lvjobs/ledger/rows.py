"""The part of a transaction that turns rows into records and back, and remembers what was read or changed.

The tables that parts of the product keep between reconcile passes are read and written as their own records. A
reconcile pass reads only the rows of the runs that are not closed.
"""

import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Delete,
    Insert,
    Row,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from lvjobs.ledger import tables
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import AttemptRecord, Charge, Closed, RunRecord
from lvjobs.study.words import RunState

_Record = TypeVar("_Record")
_OfRun = TypeVar("_OfRun", AttemptRecord, Charge)

MOST_NAMED = 5000
"""For more run ids than this, all rows are read."""

_VARIABLES = 900
"""SQLite before release 3.32, which clusters may still have, accepts at most 999 variables in a statement."""

_SET = "closed set"

KeptTable = Literal[
    "avoided_nodes",
    "told_jobs",
    "driver",
    "notices",
    "searches",
    "prunings",
    "watch",
    "suspensions",
    "site_limits",
    "closed_sums",
    "closed_basis",
]


class Rows:
    """The rows of one transaction, which keeps what it read of open runs until that changes.

    The columns of a table with records are in the order of the record's fields.
    """

    def __init__(self, connection: Connection, known: dict[str, Any]) -> None:
        """Use `known`, which holds what transactions of the same ledger have read already.

        No other process writes while the ledger is open.
        """
        self._connection = connection
        self._known = known
        self._read_on: set[str] = set()
        """Ids of runs of which the log omits what this transaction read in journals."""

    def setting(self, key: str) -> str | None:
        """Return a study-wide value, or None."""
        query = select(tables.settings.c.value).where(tables.settings.c.key == key)
        return self._connection.execute(query).scalar()

    def set_setting(self, key: str, value: str) -> None:
        """Store a study-wide value."""
        self._connection.execute(insert(tables.settings).prefix_with("OR REPLACE").values(key=key, value=value))

    def rows(self, table: KeptTable, kind: Callable[..., _Record], **where: Any) -> list[_Record]:
        """Return the rows of a kept table with these values (all without any), in the order in which they were written.

        A record's fields include the columns; it may have more fields.
        """
        query = select(tables.metadata.tables[table]).filter_by(**where).order_by(text("rowid"))
        return [kind(**row) for row in self._connection.execute(query).mappings()]

    def row(self, table: KeptTable, kind: Callable[..., _Record], **where: Any) -> _Record | None:
        """Return the row with these values, or None. At most one row may have them."""
        return next(iter(self.rows(table, kind, **where)), None)

    def set_rows(self, table: KeptTable, records: Iterable[Any], **where: Any) -> None:
        """Replace the rows that have these values; all where none is given."""
        known = tables.metadata.tables[table]
        self._connection.execute(delete(known).filter_by(**where))
        self._insert(known, records)

    def _kept(self, name: str, read: Callable[[], _Record]) -> _Record:
        """Return what is known under this name; read it if nothing is."""
        if name not in self._known:
            self._known[name] = read()
        kept: _Record = self._known[name]
        return kept

    def _forget(self, *names: str) -> None:
        """Forget what is known under these names, because it changes."""
        for name in names:
            self._known.pop(name, None)

    def _of_runs(self, name: str, kind: type[_OfRun], table: Table, run_ids: Collection[str] | None) -> list[_OfRun]:
        """Return the rows of these runs, or of all. Those of given runs are kept under `name`, by run."""
        if run_ids is None:
            return self._records(kind, select(table))
        kept = self._known.setdefault(name, {})
        missing = set(run_ids) - kept.keys()
        found = by_run(self._records(kind, select(table), table.c.run_id, missing))
        kept.update({run_id: found[run_id] for run_id in missing})
        return [row for run_id in run_ids for row in kept[run_id]]

    def _records(
        self,
        kind: type[_Record],
        query: Select[Any],
        column: Column[Any] | None = None,
        values: Collection[str] | None = None,
    ) -> list[_Record]:
        """Return the records that a query of all their columns finds. `column`, `values`: see `_among`."""
        names, found = [item.name for item in fields(kind)], []  # type: ignore[arg-type]
        for row in self._among(query, column, values):
            record = object.__new__(kind)  # a frozen dataclass's __init__ takes four times as long
            vars(record).update(zip(names, row, strict=True))
            found.append(record)
        return found

    def _among(
        self, query: Select[Any], column: Column[Any] | None, values: Collection[str] | None
    ) -> Iterator[Row[Any]]:
        """Yield the query's rows whose `column` has one of these values, or all rows for None.

        The query's own order holds only within each part of `values`, not over all parts.
        """
        if column is None or values is None:
            yield from self._connection.execute(query).all()  # in one go: row by row takes twice as long
            return
        wanted = sorted(set(values))
        if len(wanted) > MOST_NAMED:
            known = frozenset(wanted)
            yield from (row for row in self._connection.execute(query).all() if getattr(row, column.name) in known)
            return
        for begin in range(0, len(wanted), _VARIABLES):
            yield from self._connection.execute(query.where(column.in_(wanted[begin : begin + _VARIABLES]))).all()

    def _insert(self, table: Table, records: Iterable[Any]) -> None:
        """Insert all records by one statement. SQLAlchemy would name each value of each row: twice the time."""
        columns = [column for column in table.columns if column.autoincrement is not True]
        names, marks = ", ".join(column.name for column in columns), ", ".join("?" * len(columns))
        rows = list(zip(*self._stored(columns, list(records)), strict=True))
        if rows:
            self._connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)  # noqa: S608

    def _stored(self, columns: Iterable[Column[Any]], records: Sequence[Any]) -> Iterator[Iterable[Any]]:
        """Yield for each column the values of all records, as they are stored."""
        for column in columns:
            store = column.type.dialect_impl(self._connection.dialect).bind_processor(self._connection.dialect)
            values = [getattr(record, column.name) for record in records]
            if store is not None:  # the runs of a stage have the same objects in most columns
                stored = {key: store(value) for key, value in {id(value): value for value in values}.items()}
                values = [stored[id(value)] for value in values]
            yield values

    def _update(
        self,
        table: Table,
        keys: Sequence[str],
        changes: Mapping[tuple[Any, ...], Mapping[str, Any]],
        *,
        logged: bool = True,
    ) -> None:
        """Change columns of rows, by the values that the rows have in the columns `keys`. `logged`: see `_execute`."""
        alike: dict[frozenset[str], list[Mapping[str, Any]]] = defaultdict(list)  # one statement for the same columns
        for key, values in changes.items():
            of_row = {f"of_{name}": value for name, value in zip(keys, key, strict=True)}
            alike[frozenset(values)].append({**values, **of_row})
        query = update(table).where(*(table.c[name] == bindparam(f"of_{name}") for name in keys))
        for rows in alike.values():
            self._execute(query, rows, logged=logged)

    def _execute(
        self, change: Insert | Update | Delete, rows: Sequence[Mapping[str, Any]], *, logged: bool = True
    ) -> None:
        """Make a change with each of these rows; for no rows, SQLAlchemy would insert one of defaults.

        `logged`: whether the ledger's log gets the change.
        """
        if rows:
            self._connection.execute(change, rows, execution_options={"logged": logged})

    def unclosed(self) -> list[RunRecord]:
        """Return the runs that are not closed, in the order in which they were declared."""
        return list(self._unclosed().values())

    def _unclosed(self) -> dict[str, RunRecord]:
        query = select(tables.runs).outerjoin(tables.closed, tables.closed.c.run_id == tables.runs.c.id)
        query = query.where(tables.closed.c.run_id.is_(None)).order_by(tables.runs.c.ordinal)
        return self._kept("unclosed", lambda: {run.id: run for run in self._records(RunRecord, query)})

    def _reopened(self, run_ids: Iterable[str]) -> None:
        """Forget the open runs if one of these runs was closed: a trigger has reopened it."""
        if not self._known.get("unclosed", {}).keys() >= set(run_ids):
            self._forget("unclosed")

    def close_runs(self, closed: Sequence[Closed]) -> None:
        """Mark runs as closed, with their summary rows and tallies."""
        self._forget("unclosed")
        if closed:
            self.set_setting(_SET, secrets.token_hex(6))
            self._insert(tables.closed, closed)

    def reopen_all(self) -> None:
        """Mark every run as not closed, so that all results are computed again."""
        self._forget("unclosed")
        self._connection.execute(delete(tables.closed))

    def closed_mark(self) -> tuple[int, str]:
        """Return how many runs are closed, and a token that was drawn when the last ones were closed.

        The pair is the same only for the same set. An older copy of runs.db, or one that was made again, has another
        token.
        """
        count = self._connection.execute(select(func.count()).select_from(tables.closed)).scalar_one()
        return int(count), self.setting(_SET) or ""

    def closed_rows(self) -> list[str]:
        """Return the summary's rows of closed runs, as JSON, in the order in which the runs were declared."""
        query = select(tables.closed.c.row).join(tables.runs, tables.runs.c.id == tables.closed.c.run_id)
        return list(self._connection.execute(query.order_by(tables.runs.c.ordinal)).scalars())

    def closed_tallies(self) -> list[str]:
        """Return each closed run's contribution to sums, as JSON."""
        return list(self._connection.execute(select(tables.closed.c.tally).order_by(tables.closed.c.number)).scalars())

    def closed_among(self, run_ids: Collection[str]) -> set[str]:
        """Return which of these runs are closed."""
        column = tables.closed.c.run_id
        return {row.run_id for row in self._among(select(column), column, run_ids)}

    def cell_states(self) -> dict[str, dict[RunState, int]]:
        """Return how many runs of each stage are in which state."""
        runs, cells = tables.runs.c, tables.cells.c
        query = select(cells.stage, runs.state, func.count()).join_from(tables.cells, tables.runs)
        found: dict[str, dict[RunState, int]] = {}
        for stage, state, count in self._connection.execute(query.group_by(cells.stage, runs.state)):
            found.setdefault(stage, {})[state] = count
        return found

    def find_runs(self, run_ids: Collection[str]) -> list[RunRecord]:
        """Return those of these runs that exist, closed or not, in the order in which they were declared."""
        open_, wanted = self._unclosed(), set(run_ids)
        found = [open_[run_id] for run_id in wanted & open_.keys()]
        if missing := wanted - open_.keys():
            found += self._records(RunRecord, select(tables.runs), tables.runs.c.id, missing)
        return sorted(found, key=lambda run: run.ordinal)


def values_of(table: Table, record: Any) -> dict[str, Any]:
    """Return the columns of a record, without the numbers that the database assigns."""
    return {name: getattr(record, name) for name in _given(table)}


@cache
def _given(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.autoincrement is not True]
