"""Helpers for rows that were read: rows by their run, and rates by the conventions' current names."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

from lvjobs.ledger.records import AttemptRecord, Charge, Member
from lvjobs.study.words import FORMER_CONVENTIONS

_Row = TypeVar("_Row", AttemptRecord, Charge, Member)


def by_run(rows: Iterable[_Row]) -> Mapping[str, list[_Row]]:
    """Return the rows of each run by its id, in their order; an empty list for a run without rows."""
    found: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        found[row.run_id].append(row)
    return found


def current_rates(rates: Mapping[str, Mapping[str, int]]) -> dict[str, Mapping[str, int]]:
    """Return a run's rates with each convention under its current name."""
    return {FORMER_CONVENTIONS.get(name, name): rate for name, rate in rates.items()}
