"""Stages, and the runs that each compares: the part of a transaction for them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update

from lvjobs.ledger import tables
from lvjobs.ledger.records import StageRecord
from lvjobs.ledger.rows import Rows
from lvjobs.study.words import StageState


class Staging(Rows):
    """The part of a transaction for stages. Definitions are as `study.stages` writes them."""

    def stages(self) -> list[StageRecord]:
        """Return all stages, in the order of their declaration."""
        return self._records(StageRecord, select(tables.stages).order_by(tables.stages.c.ordinal))

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
                self._insert(tables.stages, [StageRecord(name, ordinal, definitions[name])])

    def update_stage(self, name: str, **changes: Any) -> None:
        """Change columns of a stage."""
        self._connection.execute(update(tables.stages).where(tables.stages.c.name == name).values(**changes))

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
