"""What a study has spent, set aside and left. Pure; exact integers, computed from counted work and the runs' rates."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lvjobs.ledger.records import Charge, RunRecord, WorkCounts

KINDS = ("useful", "replayed", "validation", "generation")
"""What work is charged as. Useful and replayed steps are both training."""

_WORK = {"useful": "training", "replayed": "training", "validation": "validation", "generation": "generation"}


@dataclass(frozen=True)
class Priced:
    """What runs of one stage have in common whose units cost the same; `ordinal` is the first one's."""

    stage: str
    rates: Mapping[str, Mapping[str, int]]
    ordinal: int = 0


@dataclass(frozen=True)
class Terms:
    """What binds: FLOPs for everything, the convention they are counted by, and whether inference counts."""

    limit: int
    convention: str = "official"
    counts_inference: bool = True

    def rate(self, run: RunRecord | Priced, kind: str) -> int:
        """FLOPs of one unit of that kind of charge, whether or not it counts.

        A run that an earlier release declared knows the official convention only, and is counted by it.
        """
        rates = run.rates.get(self.convention) or run.rates.get("official") or {}
        return int(rates.get(_WORK[kind], 0))

    def price(self, run: RunRecord | Priced, work: WorkCounts) -> int:
        """FLOPs of `work` that go against the limit."""
        flops = work.training * self.rate(run, "useful")
        if self.counts_inference:
            flops += work.validation * self.rate(run, "validation") + work.generation * self.rate(run, "generation")
        return flops


@dataclass(frozen=True)
class Account:
    """A run's, or that of closed ones together: units by kind of charge, and all that may be executed.

    `estimated` units are among the replayed ones. `reserved` counts from the run's beginning, as `executed` does; None
    where nothing is set aside.
    """

    run: RunRecord | Priced
    units: Mapping[str, int]
    estimated: int = 0
    reserved: WorkCounts | None = None

    @property
    def executed(self) -> WorkCounts:
        """All that the run has executed."""
        training = self.units.get("useful", 0) + self.units.get("replayed", 0)
        return WorkCounts(training, self.units.get("validation", 0), self.units.get("generation", 0))

    @property
    def outstanding(self) -> WorkCounts:
        """What is set aside and not executed yet."""
        return WorkCounts() if self.reserved is None else self.reserved.beyond(self.executed)

    def flops(self, terms: Terms, kind: str) -> int:
        """FLOPs of one kind of charge, whether or not it counts."""
        return self.units.get(kind, 0) * terms.rate(self.run, kind)

    def spent(self, terms: Terms) -> int:
        """FLOPs that went against the limit."""
        return terms.price(self.run, self.executed)

    def set_aside(self, terms: Terms) -> int:
        """FLOPs that are reserved and not spent."""
        return 0 if self.reserved is None else terms.price(self.run, self.outstanding)


@dataclass(frozen=True)
class Books:
    """The accounts of runs, by id; and of those that are closed, taken together."""

    terms: Terms
    accounts: Mapping[str, Account] = field(default_factory=dict)
    closed: Sequence[Account] = ()

    @property
    def all(self) -> list[Account]:
        """Every account, in the order in which runs were made."""
        return sorted((*self.closed, *self.accounts.values()), key=lambda account: account.run.ordinal)

    @property
    def spent(self) -> int:
        """FLOPs spent against the limit."""
        return sum(account.spent(self.terms) for account in (*self.closed, *self.accounts.values()))

    @property
    def reserved(self) -> int:
        """FLOPs set aside for runs that may still spend them."""
        return sum(account.set_aside(self.terms) for account in self.accounts.values())

    @property
    def free(self) -> int:
        """What may still be reserved; negative where the limit was lowered below what is spent and reserved."""
        return self.terms.limit - self.spent - self.reserved


def keep_books(
    terms: Terms,
    runs: Iterable[RunRecord],
    charges: Iterable[Charge],
    reservations: Mapping[str, WorkCounts],
    closed: Sequence[Account] = (),
) -> Books:
    """The books, from the ledger's rows; `closed` are the accounts of runs whose rows are not among them."""
    by_run: dict[str, list[Charge]] = defaultdict(list)
    for charge in charges:
        by_run[charge.run_id].append(charge)
    opened = {run.id: open_account(run, by_run[run.id], reservations.get(run.id)) for run in runs}
    return Books(terms, opened, closed)


def open_account(run: RunRecord, charges: Sequence[Charge], reserved: WorkCounts | None) -> Account:
    """One run's account."""
    units: dict[str, int] = dict.fromkeys(KINDS, 0)
    for charge in charges:
        units[charge.kind] += charge.units
    return Account(run, units, sum(charge.estimated for charge in charges), reserved)
