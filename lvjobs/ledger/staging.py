"""Stages, and the runs that each compares: the part of a transaction for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from lvjobs.ledger import tables
from lvjobs.ledger.reading import record_of
from lvjobs.ledger.records import StageRecord
from lvjobs.study.words import StageState


class Staging:
    """The part of a transaction for stages. Definitions are as `study.stages` writes them."""

    _connection: Connection
    touched: set[str]
    """Ids of runs whose backup records have to be written again."""

    def stages(self) -> list[StageRecord]:
        """Return all stages, in the order of their declaration."""
        rows = self._connection.execute(select(tables.stages).order_by(tables.stages.c.ordinal))
        return [record_of(StageRecord, dict(row._mapping)) for row in rows]  # noqa: SLF001

    def declare_stages(self, definitions: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the stages as study.toml declares them now, in order. A requested stage keeps its definition of then.

        So does a stage that a requested one names and that study.toml no longer has: otherwise the name would refer to
        no stage.
        """
        known = {stage.name: stage for stage in self.stages()}
        kept = {name for name, stage in known.items() if stage.state is not StageState.DECLARED}
        named = kept
        while named := {other for name in named for other in _named(known[name])} & known.keys() - kept:
            named -= definitions.keys()
            kept |= named
        self._connection.execute(delete(tables.stages).where(tables.stages.c.name.not_in(sorted(kept))))
        gone = [name for name in known if name in kept and name not in definitions]
        for ordinal, name in enumerate([*definitions, *gone]):
            if name in kept:
                self.update_stage(name, ordinal=ordinal)
            else:
                self._connection.execute(
                    insert(tables.stages).values(**values_of(StageRecord(name, ordinal, definitions[name])))
                )

    def update_stage(self, name: str, **changes: Any) -> None:
        """Change columns of a stage."""
        self._connection.execute(update(tables.stages).where(tables.stages.c.name == name).values(**plain(changes)))

    def cells(self) -> dict[str, list[str]]:
        """Return the ids of the runs that each stage compares, in the order of declaration."""
        found: dict[str, list[str]] = {}
        for row in self._connection.execute(select(tables.cells).order_by(tables.cells.c.position)):
            found.setdefault(row.stage, []).append(row.run_id)
        return found

    def add_cells(self, stage: str, run_ids: Sequence[str]) -> None:
        """Let a stage compare these runs too; the runs that it already has keep their places."""
        known = dict.fromkeys(self.cells().get(stage, []))
        new = [run_id for run_id in dict.fromkeys(run_ids) if run_id not in known]
        self.touched.update(new)
        rows = [{"stage": stage, "run_id": each, "position": len(known) + at} for at, each in enumerate(new)]
        if rows:
            self._connection.execute(insert(tables.cells), rows)


def _named(stage: StageRecord) -> Iterator[str]:
    """Yield the other stages that its definition names."""
    for key in ("from", "after", "evaluate"):
        value = stage.definition.get(key) or ()
        yield from [value] if isinstance(value, str) else value


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns as SQLite stores them: enums by their values."""
    return {key: value.value if isinstance(value, Enum) else value for key, value in values.items()}


def values_of(record: Any) -> dict[str, Any]:
    """Return a record's columns."""
    return plain({item.name: getattr(record, item.name) for item in fields(record)})
