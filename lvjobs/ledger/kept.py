"""The tables that parts of the product keep between reconcile passes, read and written as their own records."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from sqlalchemy import delete, select, text

from lvjobs.ledger import tables
from lvjobs.ledger.rows import Rows

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


class Keeping(Rows):
    """The rows of a transaction's kept tables. A record's fields include the columns; it may have more fields."""

    def rows(self, table: KeptTable, kind: Callable[..., _Record], **where: Any) -> list[_Record]:
        """Return the rows with these values, in the order in which they were written; all where none is given."""
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
