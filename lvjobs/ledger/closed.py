"""Runs that are over, and those that are not: a pass reads the rows of these alone."""

import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Column, Connection, CursorResult, Select, delete, func, insert, select

from lvjobs.ledger import tables
from lvjobs.ledger.reading import record_of
from lvjobs.ledger.records import Closed, RunRecord
from lvjobs.study.words import RunState

_SET = "closed set"

MOST_NAMED = 5000
"""Of more runs than that, all rows are read."""

_VARIABLES = 900
"""SQLite takes no more than 999 in a statement before its release 3.32, which clusters of today may have."""


class Closing:
    """What a transaction knows of closed runs. What is read of the others is kept until it changes."""

    _connection: Connection
    _known: dict[str, Any]

    def unclosed(self) -> list[RunRecord]:
        """The runs that are not closed, in the order they were made."""
        return list(self._unclosed().values())

    def _unclosed(self) -> dict[str, RunRecord]:
        if "unclosed" not in self._known:
            query = select(tables.runs).outerjoin(tables.closed, tables.closed.c.run_id == tables.runs.c.id)
            query = query.where(tables.closed.c.run_id.is_(None)).order_by(tables.runs.c.ordinal)
            found = [record_of(RunRecord, row) for row in rows_of(self._connection.execute(query))]
            self._known["unclosed"] = {run.id: run for run in found}
        kept: dict[str, RunRecord] = self._known["unclosed"]
        return kept

    def _reopened(self, run_ids: Iterable[str]) -> None:
        """Something of these runs changed: a trigger has seen to it that none of them is closed."""
        if not self._known.get("unclosed", {}).keys() >= set(run_ids):
            self._known.pop("unclosed", None)

    def close_runs(self, closed: Sequence[Closed]) -> None:
        """Say of runs that they are over, and what they came to."""
        self._known.pop("unclosed", None)
        if closed:
            token = {"key": _SET, "value": secrets.token_hex(6)}
            self._connection.execute(insert(tables.settings).prefix_with("OR REPLACE").values(token))
            rows = [{"run_id": each.run_id, "row": each.row, "tally": each.tally} for each in closed]
            self._connection.execute(insert(tables.closed), rows)

    def reopen_all(self) -> None:
        """Forget what was closed: it is worked out anew."""
        self._known.pop("unclosed", None)
        self._connection.execute(delete(tables.closed))

    def closed_mark(self) -> tuple[int, str]:
        """How many are closed, and a token drawn when the last ones were: the same for the same set, and for no other.

        Nor for that of an older copy of runs.db that was put in its place, or of one that was made anew.
        """
        count = self._connection.execute(select(func.count()).select_from(tables.closed)).scalar_one()
        query = select(tables.settings.c.value).where(tables.settings.c.key == _SET)
        return int(count), self._connection.execute(query).scalar() or ""

    def closed_rows(self) -> list[str]:
        """The summary's rows of closed runs, as JSON, in the order in which the runs were made."""
        query = select(tables.closed.c.row).join(tables.runs, tables.runs.c.id == tables.closed.c.run_id)
        return list(self._connection.execute(query.order_by(tables.runs.c.ordinal)).scalars())

    def closed_tallies(self) -> list[str]:
        """What each closed run adds to sums, as JSON."""
        return list(self._connection.execute(select(tables.closed.c.tally).order_by(tables.closed.c.number)).scalars())

    def closed_among(self, run_ids: Collection[str]) -> set[str]:
        """Those of these runs that are closed."""
        rows = rows_among(self._connection, select(tables.closed.c.run_id), tables.closed.c.run_id, run_ids)
        return {row["run_id"] for row in rows}

    def cell_states(self) -> dict[str, dict[RunState, int]]:
        """How many of each stage's runs stand how."""
        runs, cells = tables.runs.c, tables.cells.c
        query = select(cells.stage, runs.state, func.count()).join_from(tables.cells, tables.runs)
        found: dict[str, dict[RunState, int]] = {}
        for stage, state, count in self._connection.execute(query.group_by(cells.stage, runs.state)):
            found.setdefault(stage, {})[RunState(state)] = count
        return found

    def find_runs(self, run_ids: Collection[str]) -> list[RunRecord]:
        """Those of these runs that there are, closed or not, in the order they were made."""
        open_, wanted = self._unclosed(), set(run_ids)
        found = [open_[run_id] for run_id in wanted & open_.keys()]
        if missing := wanted - open_.keys():
            rows = rows_among(self._connection, select(tables.runs), tables.runs.c.id, missing)
            found += [record_of(RunRecord, row) for row in rows]
        return sorted(found, key=lambda run: run.ordinal)


def rows_of(result: CursorResult[Any]) -> Iterator[dict[str, Any]]:
    """Rows by column. Each row by itself would list its columns anew: half the time of reading many."""
    columns = tuple(result.keys())
    for row in result:
        yield dict(zip(columns, row, strict=True))


def rows_among(
    connection: Connection, query: Select[Any], column: Column[str], values: Collection[str]
) -> Iterator[dict[str, Any]]:
    """The query's rows whose `column` has one of these values; sorted as the query says within parts of them."""
    wanted = sorted(set(values))
    if len(wanted) > MOST_NAMED:
        known = frozenset(wanted)
        yield from (row for row in rows_of(connection.execute(query)) if row[column.name] in known)
        return
    for begin in range(0, len(wanted), _VARIABLES):
        yield from rows_of(connection.execute(query.where(column.in_(wanted[begin : begin + _VARIABLES]))))
