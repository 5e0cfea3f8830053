"""The summary: what a reconcile pass writes for commands that make none, as `status --json` shows it (docs/json.md)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, overload

_T = TypeVar("_T")

SCHEMA = 1
"""The version for users: keys are only added within it."""

FORMAT = 7
"""The version of the fields below and of the tallies of closed runs (`lvjobs.control.budget.archive`).

Raise it whenever a field or a charge is added or computed in another way: the rows of closed runs are then made anew.
"""


def read_row(kind: type[_T], row: Mapping[str, Any]) -> _T:
    """Return a dataclass with the row's values for its fields; None for a key that an older release did not write."""
    read = object.__new__(kind)  # a frozen dataclass's __init__ takes four times as long, which 10,000 runs feel
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    vars(read).update(zip(names, map(row.get, names), strict=True))
    return read


@dataclass(frozen=True)
class RunStatus:
    """A run as the last update saw it. docs/json.md describes each field."""

    id: str
    ordinal: int
    name: str
    stage: str
    state: str
    cause: str | None
    step: int
    steps: int
    attempts: int
    job_id: str | None
    reason: str
    held_for: str
    loss: float | None
    untrained_loss: float | None
    validation_loss: float | None
    loss_numeric: float | None
    untrained_loss_numeric: float | None
    validation_loss_numeric: float | None
    checkpoint_step: int
    executed_steps: int
    replayed_steps: int
    estimated_steps: int
    flops: int
    reserved: int
    profile: str
    error: str
    not_before: float | None
    curve: Sequence[float]
    seconds_left: float | None = None
    queue_reason: str | None = None
    start_estimate: float | None = None
    after: str | None = None
    tags: Sequence[str] = ()
    created: float | None = None
    ended: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a record: pandas and polars make a table of a list of records."""
        return dict(vars(self))


RUN_FIELDS = tuple(RunStatus.__dataclass_fields__)


class RunTable(Sequence[RunStatus]):
    """The rows of runs, by field. A field is read, and a `RunStatus` is built, only when it is used."""

    def __init__(self, read: Callable[[str], Sequence[Any]]) -> None:
        """Use `read`, which returns a field's values: one for each run, in one order for all fields."""
        self._read = read
        self._columns: dict[str, Sequence[Any]] = {}

    @classmethod
    def of(cls, runs: Sequence[RunStatus]) -> "RunTable":
        """Return a table of these runs."""
        return runs if isinstance(runs, RunTable) else cls.of_rows([*map(vars, runs)])

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]]) -> "RunTable":
        """Return a table of rows as JSON holds them; None for a key that a row does not have."""
        return cls(lambda name: [row.get(name) for row in rows])

    def column(self, name: str) -> Sequence[Any]:
        """Return a field's values."""
        if name not in self._columns:
            self._columns[name] = self._read(name)
        return self._columns[name]

    @property
    def states(self) -> dict[str, str]:
        """Return the state of each run, by its name."""
        return dict(zip(self.column("name"), self.column("state"), strict=True))

    def take(self, places: Sequence[int]) -> "RunTable":
        """Return a table of the rows at these places, in this order."""
        return RunTable(lambda name: [*map(self.column(name).__getitem__, places)])

    def records(self, names: Sequence[str] = RUN_FIELDS) -> list[dict[str, Any]]:
        """Return the rows as JSON holds them, with these fields."""
        return [dict(zip(names, row, strict=True)) for row in zip(*map(self.column, names), strict=True)]

    def __len__(self) -> int:
        return len(self.column("id"))

    @overload
    def __getitem__(self, place: int) -> RunStatus: ...
    @overload
    def __getitem__(self, place: slice) -> list[RunStatus]: ...
    def __getitem__(self, place: int | slice) -> RunStatus | list[RunStatus]:
        if isinstance(place, slice):
            return list(self.take(range(len(self))[place]))
        return read_row(RunStatus, {name: self.column(name)[place] for name in RUN_FIELDS})

    def __iter__(self) -> Iterator[RunStatus]:
        return (read_row(RunStatus, row) for row in self.records())


class PassSummary(Mapping[str, Any]):
    """The summary of a pass as JSON holds it. `runs` are its runs, whose rows are built when they are used."""

    def __init__(self, values: Mapping[str, Any], runs: RunTable) -> None:
        """Use the values of all keys, and for the key `runs` the rows of `runs`."""
        self._values = values
        self.runs = runs

    @cached_property
    def _records(self) -> list[dict[str, Any]]:
        return self.runs.records()

    def __getitem__(self, key: str) -> Any:
        return self._records if key == "runs" else self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __or__(self, more: Mapping[str, Any]) -> "PassSummary":
        return PassSummary({**self._values, **more}, self.runs)


@dataclass(frozen=True)
class StageStatus:
    """A stage as of the last update: the number of its `runs`, of those `done` and `held`, and its `winner`'s name.

    `because` is the reason for the winner, and `by_hand` whether the user chose it. `reason` explains the `state`.
    `origin` is the stage whose winner's settings it takes (`from` in JSON). A search has proposed `proposed` of its
    `trials`.
    """

    name: str
    state: str
    origin: str | None
    runs: int
    done: int
    held: int
    trials: int | None
    proposed: int | None
    winner: str | None
    because: str
    by_hand: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON holds it."""
        return {"from" if key == "origin" else key: value for key, value in vars(self).items()}


@dataclass(frozen=True)
class AvoidedRow:
    """A node that the study avoids."""

    node: str
    reason: str
    since: float
    until: float
    used_in: Sequence[str]


@dataclass(frozen=True)
class Summary:
    """The whole summary; a pass writes closed runs apart. `budget` is the statement, with the efficiency.

    `answered` is the time of the last pass that every scheduler answered; the states of jobs are of that time.
    `progress` has the `seconds_left` of all open runs together (None: not measured) and the number that run `at_once`.
    """

    study: str
    time: float
    did: Sequence[str]
    problems: Sequence[str]
    runs: Sequence[RunStatus]
    stages: Sequence[StageStatus]
    avoided_nodes: Sequence[AvoidedRow]
    budget: Mapping[str, Any]
    answered: float | None = None
    progress: Mapping[str, Any] | None = None

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Summary":
        """Return the summary that JSON holds, of this release or an older one."""
        stages = [{**row, "origin": row.get("from")} for row in found.get("stages", ())]
        return cls(
            found["study"],
            found.get("time", 0.0),
            found["did"],
            found["problems"],
            found.runs if isinstance(found, PassSummary) else RunTable.of_rows(found["runs"]),
            [read_row(StageStatus, row) for row in stages],
            [read_row(AvoidedRow, row) for row in found.get("avoided_nodes", ())],
            found.get("budget") or {},
            found.get("answered"),
            found.get("progress"),
        )

    @property
    def unanswered_seconds(self) -> float | None:
        """Return how old the states of jobs were at this pass, in seconds; None if every scheduler answered it."""
        if self.answered is None or self.time - self.answered < 1:
            return None
        return self.time - self.answered

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON holds it."""
        return {
            "schema": SCHEMA,
            **vars(self),
            "runs": [row.to_dict() for row in self.runs],
            "stages": [row.to_dict() for row in self.stages],
            "avoided_nodes": [vars(row) for row in self.avoided_nodes],
        }
