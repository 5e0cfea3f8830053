"""The part of a transaction that turns rows into records and back, and remembers what was read or changed.

The tables that parts of the product keep between reconcile passes are read and written as their own records.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Literal, TypeVar

from sqlalchemy import Column, Connection, Row, Select, Table, delete, insert, select, text

from lvjobs.ledger import tables

_Record = TypeVar("_Record")

MOST_NAMED = 5000
"""For more run ids than this, all rows are read."""

_VARIABLES = 900
"""SQLite before release 3.32, which clusters may still have, accepts at most 999 variables in a statement."""


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
    """The rows of one transaction. The columns of a table with records are in the order of the record's fields."""

    def __init__(self, connection: Connection, known: dict[str, Any]) -> None:
        """Use `known`, which holds what transactions of the same ledger have read already.

        No other process writes while the ledger is open.
        """
        self._connection = connection
        self._known = known
        self.touched: set[str] = set()
        """Ids of the runs whose backup records changed (see `lvjobs.ledger.backup_record`)."""

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

    def _records(
        self,
        kind: Callable[..., _Record],
        query: Select[Any],
        column: Column[Any] | None = None,
        values: Collection[str] | None = None,
    ) -> list[_Record]:
        """Return the records that a query of all their columns finds. `column`, `values`: see `_among`."""
        return [kind(*row) for row in self._among(query, column, values)]

    def _among(
        self, query: Select[Any], column: Column[Any] | None, values: Collection[str] | None
    ) -> Iterator[Row[Any]]:
        """Yield the query's rows whose `column` has one of these values, or all rows for None.

        The query's own order holds only within each part of `values`, not over all parts.
        """
        if column is None or values is None:
            yield from self._connection.execute(query)
            return
        wanted = sorted(set(values))
        if len(wanted) > MOST_NAMED:
            known = frozenset(wanted)
            yield from (row for row in self._connection.execute(query) if getattr(row, column.name) in known)
            return
        for begin in range(0, len(wanted), _VARIABLES):
            yield from self._connection.execute(query.where(column.in_(wanted[begin : begin + _VARIABLES])))

    def _insert(self, table: Table, records: Iterable[Any]) -> None:
        """Insert all records by one statement; for no rows, SQLAlchemy would insert one of defaults."""
        rows = [values_of(table, record) for record in records]
        if rows:
            self._connection.execute(insert(table), rows)


def values_of(table: Table, record: Any) -> dict[str, Any]:
    """Return the columns of a record, without the numbers that the database assigns."""
    return {column.name: getattr(record, column.name) for column in table.columns if column.autoincrement is not True}
