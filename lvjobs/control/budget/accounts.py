"""A study's accounts: FLOPs and GPU-seconds spent, reserved and free. Pure; exact integers from counted work."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from lvjobs.control.budget.gpu_hours import GpuHours, hours
from lvjobs.flops.conventions import BINDING
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import AttemptRecord, Charge, RunRecord, WorkCounts

KINDS = ("useful", "replayed", "validation", "generation")
"""The kinds of charge. Useful and replayed steps are both training."""

_WORK = {"useful": "training", "replayed": "training", "validation": "validation", "generation": "generation"}


@dataclass(frozen=True)
class Priced:
    """The stage and rates shared by runs of one stage with equal rates; `ordinal` is the first run's."""

    stage: str
    rates: Mapping[str, Mapping[str, int]]
    ordinal: int = 0


@dataclass(frozen=True)
class Amount:
    """An amount of what the budget limits. `gpu_seconds` is infinite in what is free without a limit of GPU-hours."""

    flops: int = 0
    gpu_seconds: float = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.flops + other.flops, self.gpu_seconds + other.gpu_seconds)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.flops - other.flops, self.gpu_seconds - other.gpu_seconds)

    def fits(self, free: "Amount") -> bool:
        """Return whether this much is free. What takes no GPU-seconds needs none to be free."""
        return self.flops <= free.flops and (self.gpu_seconds <= 0 or self.gpu_seconds <= free.gpu_seconds)


@dataclass(frozen=True)
class Terms:
    """The budget's terms: the limit in FLOPs, the convention that counts them, and whether inference counts.

    `gpu_seconds` is the limit of GPU-hours, in seconds; None: there is none.
    """

    limit: int
    convention: str = "official"
    counts_inference: bool = True
    gpu_seconds: int | None = None

    def rate(self, run: RunRecord | Priced, kind: str) -> int:
        """Return the FLOPs of one unit of `kind` (one of `KINDS`), whether or not the kind counts.

        A run declared by an earlier release has rates of the official convention only. It is counted by these.
        """
        return int(self._rates(run).get(_WORK[kind], 0))

    def price(self, run: RunRecord | Priced, work: WorkCounts) -> int:
        """Return the FLOPs of `work` that count against the limit."""
        rates = self._rates(run)
        flops = work.training * int(rates.get("training", 0))
        if self.counts_inference:
            flops += work.validation * int(rates.get("validation", 0)) + work.generation * int(
                rates.get("generation", 0)
            )
        return flops

    def amount(self, run: RunRecord | Priced, work: WorkCounts) -> Amount:
        """Return what `work` takes of each limit."""
        return Amount(self.price(run, work), 0 if self.gpu_seconds is None else work.gpu_seconds)

    def _rates(self, run: RunRecord | Priced) -> Mapping[str, int]:
        return run.rates.get(self.convention) or run.rates.get("official") or {}


@dataclass(frozen=True)
class ForecastsElsewhere:
    """The series that a trained run forecasts from another origin, at the rates of such a forecast."""

    rates: Mapping[str, Mapping[str, int]]
    series: int

    def less(self, made: int) -> "ForecastsElsewhere":
        """Return what is left of them when so many series are forecast or declared already."""
        return replace(self, series=max(0, self.series - made))

    def price(self, terms: Terms) -> int:
        """Return their FLOPs that count against the limit."""
        return terms.price(Priced("", self.rates), WorkCounts(generation=self.series))


@dataclass(frozen=True)
class Account:
    """The account of one run, or of several closed runs together: executed units by kind of charge, and a reservation.

    `estimated` units are part of the replayed ones. `reserved` counts from the run's beginning, as `executed` does. It
    is None where nothing is reserved. `gpu_seconds` are those that the run has held (`RunHours`).
    """

    run: RunRecord | Priced
    units: Mapping[str, int]
    estimated: int = 0
    reserved: WorkCounts | None = None
    gpu_seconds: int = 0

    @cached_property
    def executed(self) -> WorkCounts:
        """Return all work that the run has executed."""
        training = self.units.get("useful", 0) + self.units.get("replayed", 0)
        validation, generation = (self.units.get(kind, 0) for kind in ("validation", "generation"))
        return WorkCounts(training, validation, generation, self.gpu_seconds)

    @cached_property
    def outstanding(self) -> WorkCounts:
        """Return the work that is reserved and not executed yet."""
        return WorkCounts() if self.reserved is None else self.reserved.beyond(self.executed)

    def flops(self, terms: Terms, kind: str) -> int:
        """Return the FLOPs of one kind of charge, whether or not it counts."""
        return self.units.get(kind, 0) * terms.rate(self.run, kind)

    def spent(self, terms: Terms) -> int:
        """Return the FLOPs that counted against the limit."""
        return terms.price(self.run, self.executed)

    def set_aside(self, terms: Terms) -> int:
        """Return the FLOPs that are reserved and not spent."""
        return self.amount_set_aside(terms).flops

    def amount_set_aside(self, terms: Terms) -> Amount:
        """Return what is reserved of each limit and not spent."""
        return Amount() if self.reserved is None else terms.amount(self.run, self.outstanding)


@dataclass(frozen=True)
class Books:
    """The accounts of runs by run id, and in `closed` those of closed runs taken together."""

    terms: Terms
    accounts: Mapping[str, Account] = field(default_factory=dict)
    closed: Sequence[Account] = ()
    gpu_hours: GpuHours = field(default_factory=GpuHours)

    @property
    def all(self) -> list[Account]:
        """Return every account, in the order in which the runs were declared."""
        return sorted((*self.closed, *self.accounts.values()), key=lambda account: account.run.ordinal)

    @cached_property
    def spent(self) -> int:
        """Return the FLOPs spent against the limit."""
        return sum(account.spent(self.terms) for account in (*self.closed, *self.accounts.values()))

    @cached_property
    def reserved(self) -> int:
        """Return the FLOPs reserved for runs that may still spend them."""
        return sum(account.set_aside(self.terms) for account in self.accounts.values())

    @property
    def free(self) -> int:
        """Return the FLOPs that may still be reserved; negative if the limit is below what is spent and reserved."""
        return self.terms.limit - self.spent - self.reserved

    @cached_property
    def gpu_seconds(self) -> tuple[int, int]:
        """Return the GPU-seconds spent, and those reserved for runs that may still spend them."""
        spent = self.gpu_hours.closed + sum(account.gpu_seconds for account in self.accounts.values())
        return spent, sum(account.outstanding.gpu_seconds for account in self.accounts.values())

    @property
    def room(self) -> Amount:
        """Return what is free of each limit; negative where the limit is below what is spent and reserved."""
        limit = self.terms.gpu_seconds
        return Amount(self.free, math.inf if limit is None else limit - sum(self.gpu_seconds))

    def with_account(self, run: RunRecord, charges: Sequence[Charge], attempts: Sequence[AttemptRecord]) -> "Books":
        """Return the books with the account of one run replaced, computed from these charges and attempts."""
        hours = self.gpu_hours.with_attempts(run, attempts)
        opened = open_account(run, charges, self.accounts[run.id].reserved, hours.of(run).held)
        return replace(self, accounts={**self.accounts, run.id: opened}, gpu_hours=hours)


def keep_books(
    terms: Terms,
    runs: Iterable[RunRecord],
    charges: Iterable[Charge],
    reservations: Mapping[str, WorkCounts],
    closed: Sequence[Account] = (),
    gpu_hours: GpuHours | None = None,
) -> Books:
    """Return the books, computed from the ledger's rows.

    `charges` are those of `runs`, `reservations` are by run id. `closed` are the accounts of runs that are not in
    `runs`. `gpu_hours` are those of the study; None: they are not limited.
    """
    charged, hours = by_run(charges), gpu_hours or GpuHours()
    opened = {run.id: open_account(run, charged[run.id], reservations.get(run.id), hours.of(run).held) for run in runs}
    return Books(terms, opened, closed, hours)


def open_account(
    run: RunRecord, charges: Sequence[Charge], reserved: WorkCounts | None, gpu_seconds: int = 0
) -> Account:
    """Return the account of one run, from its charges and its reservation (None: no reservation)."""
    units: dict[str, int] = dict.fromkeys(KINDS, 0)
    for charge in charges:
        units[charge.kind] += charge.units
    return Account(run, units, sum(charge.estimated for charge in charges), reserved, gpu_seconds)


def statement(books: Books, executed: Sequence[Account] | None = None) -> dict[str, Any]:
    """Return limit, spent, reserved and free; the FLOPs by kind and by stage; and the total spent by each convention.

    `spent` is exactly the sum of the kinds that count, and exactly the sum of `by_stage`. `executed` is the work of the
    books in fewer accounts (see `Tally.accounts`); None: each run's account.
    """
    terms = books.terms
    accounts = books.all if executed is None else sorted(executed, key=lambda account: account.run.ordinal)
    by_stage: dict[str, int] = defaultdict(int)
    by_stage_and_kind: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(KINDS, 0))
    for account in accounts:
        by_stage[account.run.stage] += account.spent(terms)
        for kind in KINDS:
            by_stage_and_kind[account.run.stage][kind] += account.flops(terms, kind)
    spent, reserved = sum(by_stage.values()), books.reserved
    return {
        "convention": terms.convention,
        "counts_inference": terms.counts_inference,
        "limit": terms.limit,
        "spent": spent,
        "reserved": reserved,
        "free": terms.limit - spent - reserved,
        **{kind: sum(flops[kind] for flops in by_stage_and_kind.values()) for kind in KINDS},
        "estimated": sum(account.estimated * terms.rate(account.run, "replayed") for account in accounts),
        "by_stage": dict(by_stage),
        "by_stage_and_kind": dict(by_stage_and_kind),
        "gpu_hours": _gpu_statement(books),
        "by_convention": {name: _spent_by(accounts, replace(terms, convention=name)) for name in BINDING},
    }


def _gpu_statement(books: Books) -> dict[str, float] | None:
    """Return limit, spent, reserved and free GPU-hours; None where they are not limited."""
    limit = books.terms.gpu_seconds
    if limit is None:
        return None
    seconds = dict(zip(("spent", "reserved"), books.gpu_seconds, strict=True))
    seconds = {"limit": limit, **seconds, "free": limit - sum(seconds.values())}
    return {name: round(hours(each), 6) for name, each in seconds.items()}


def _spent_by(accounts: Sequence[Account], terms: Terms) -> int | None:
    """Return the FLOPs spent by another convention's terms; None if a run was declared before lvjobs knew it."""
    if any(account.run.rates and terms.convention not in account.run.rates for account in accounts):
        return None
    return sum(account.spent(terms) for account in accounts)
