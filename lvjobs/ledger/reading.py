"""The conversion of rows, and of their form in backup records, to records."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lvjobs.ledger.records import AttemptRecord, Member, RunRecord, StageRecord
from lvjobs.study.words import (
    FORMER_CONVENTIONS,
    Breakdown,
    Cause,
    HeldFor,
    LeaveCause,
    MemberState,
    RunState,
    StageState,
)

_Record = TypeVar("_Record", RunRecord, AttemptRecord, Member, StageRecord)


def current_rates(rates: Mapping[str, Mapping[str, int]]) -> dict[str, Mapping[str, int]]:
    """Return a run's rates with each convention under its current name."""
    return {FORMER_CONVENTIONS.get(name, name): rate for name, rate in rates.items()}


_READERS: Mapping[type, Mapping[str, Callable[[Any], Any]]] = {
    RunRecord: {"state": RunState, "cause": Cause, "held_for": HeldFor, "rates": current_rates},
    AttemptRecord: {"cause": Cause, "leave_cause": LeaveCause, "died": Breakdown},
    Member: {"state": MemberState},
    StageRecord: {"state": StageState},
}


def record_of(kind: type[_Record], values: dict[str, Any]) -> _Record:
    """Return the record with these values, as a row or a backup record has them. Words become enums in place."""
    for name, read in _READERS[kind].items():
        if values.get(name) is not None:
            values[name] = read(values[name])
    return kind(**values)
