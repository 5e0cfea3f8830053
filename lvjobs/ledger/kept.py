"""The tables that parts of the product keep between passes, read and written as these parts' own records."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, delete, insert, select, text

from lvjobs.ledger import tables
from lvjobs.ledger.closed import rows_of

_Record = TypeVar("_Record")

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


class Keeping:
    """The rows of a transaction's kept tables. The fields of a record are the columns, and may be more than these."""

    _connection: Connection

    def rows(self, table: KeptTable, kind: Callable[..., _Record], **where: Any) -> list[_Record]:
        """Return the rows with these values, in the order in which they were written; all where none are named."""
        query = select(tables.metadata.tables[table]).filter_by(**where).order_by(text("rowid"))
        return [kind(**row) for row in rows_of(self._connection.execute(query))]

    def row(self, table: KeptTable, kind: Callable[..., _Record], **where: Any) -> _Record | None:
        """Return the one row that there may be with these values."""
        return next(iter(self.rows(table, kind, **where)), None)

    def set_rows(self, table: KeptTable, records: Iterable[Any], **where: Any) -> None:
        """Write rows in the place of those with these values; of all where none are named."""
        known = tables.metadata.tables[table]
        self._connection.execute(delete(known).filter_by(**where))
        rows = [{column.name: getattr(record, column.name) for column in known.columns} for record in records]
        if rows:
            self._connection.execute(insert(known), rows)
