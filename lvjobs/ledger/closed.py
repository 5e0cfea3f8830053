"""Closed runs, and all others: a reconcile pass reads only the rows of the others."""

import secrets
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import delete, func, insert, select

from lvjobs.ledger import tables
from lvjobs.ledger.records import Closed, RunRecord
from lvjobs.ledger.rows import Rows
from lvjobs.study.words import RunState

_SET = "closed set"


class Closing(Rows):
    """The part of a transaction for closed runs. It keeps what it read of the others until that changes."""

    def unclosed(self) -> list[RunRecord]:
        """Return the runs that are not closed, in the order in which they were declared."""
        return list(self._unclosed().values())

    def _unclosed(self) -> dict[str, RunRecord]:
        if "unclosed" not in self._known:
            query = select(tables.runs).outerjoin(tables.closed, tables.closed.c.run_id == tables.runs.c.id)
            query = query.where(tables.closed.c.run_id.is_(None)).order_by(tables.runs.c.ordinal)
            self._known["unclosed"] = {run.id: run for run in self._records(RunRecord, query)}
        kept: dict[str, RunRecord] = self._known["unclosed"]
        return kept

    def _reopened(self, run_ids: Iterable[str]) -> None:
        """Forget the cached open runs if one of these was closed: a trigger has reopened each run that changed."""
        if not self._known.get("unclosed", {}).keys() >= set(run_ids):
            self._known.pop("unclosed", None)

    def close_runs(self, closed: Sequence[Closed]) -> None:
        """Mark runs as closed, with their summary rows and tallies."""
        self._known.pop("unclosed", None)
        if closed:
            token = {"key": _SET, "value": secrets.token_hex(6)}
            self._connection.execute(insert(tables.settings).prefix_with("OR REPLACE").values(token))
            self._insert(tables.closed, closed)

    def reopen_all(self) -> None:
        """Mark every run as not closed, so that all results are computed again."""
        self._known.pop("unclosed", None)
        self._connection.execute(delete(tables.closed))

    def closed_mark(self) -> tuple[int, str]:
        """Return how many runs are closed, and a token that was drawn when the last ones were closed.

        The pair is the same only for the same set. An older copy of runs.db, or one that was made again, has another
        token.
        """
        count = self._connection.execute(select(func.count()).select_from(tables.closed)).scalar_one()
        query = select(tables.settings.c.value).where(tables.settings.c.key == _SET)
        return int(count), self._connection.execute(query).scalar() or ""

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
