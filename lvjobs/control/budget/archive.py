"""The archive of closed runs: their summary rows and tallies are kept, so that passes do not read the runs again.

The tally of runs is what they add to a study's sums of work, hours, goodput and step times; `total` adds tallies up.
The ledger keeps a tally of each closed run, and one of all closed runs together.

A run is closed when nothing about it can change without the user. Any later change to it in the ledger, by a command
or otherwise, reopens it (triggers, `lvjobs.ledger.tables.closed`).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from operator import add
from typing import Any

from lvjobs.control.backends import digest_of, gpus_by_default
from lvjobs.control.budget.accounts import KINDS, Account, Books, Priced, Terms, keep_books
from lvjobs.control.budget.charges import VANISHED, charges_of
from lvjobs.control.budget.efficiency import Share, shares_of
from lvjobs.control.budget.gpu_hours import gpu_hours_of
from lvjobs.control.budget.intervals import Groups, Measured, measure
from lvjobs.control.budget.pace import Kind, Sample, samples_of
from lvjobs.ledger.reading import by_run, current_rates
from lvjobs.ledger.records import AttemptRecord, Closed, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.summary import FORMAT, RunStatus
from lvjobs.study.layout import StudyLayout
from lvjobs.study.run import canonical_json
from lvjobs.study.words import MemberState

ORPHAN_SECONDS = 2 * 86400.0
"""The time for which passes keep reading the journal of a vanished attempt, also after its run has ended."""


@dataclass(frozen=True)
class StageWork:
    """The units of some runs by kind of charge. `estimated` units are part of the replayed ones.

    `first` is the ordinal of the first of these runs.
    """

    first: int
    useful: int
    replayed: int
    validation: int
    generation: int
    estimated: int

    def __add__(self, other: "StageWork") -> "StageWork":
        _, *sums = map(add, vars(self).values(), vars(other).values())
        return StageWork(min(self.first, other.first), *sums)


@dataclass(frozen=True)
class Tally:
    """Sums over runs: `work` by stage and rates (as JSON), and `shares` by stage.

    `groups` are as `measure` returns them, `samples` as `samples_of` does.
    """

    work: Mapping[tuple[str, str], StageWork] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)
    groups: Groups = field(default_factory=dict)
    samples: Mapping[str, Sample] = field(default_factory=dict)

    @property
    def accounts(self) -> list[Account]:
        """Return the executed work, as one account for each stage and set of rates."""
        return [
            Account(
                Priced(stage, current_rates(json.loads(rates)), work.first),
                {kind: getattr(work, kind) for kind in KINDS},
                work.estimated,
            )
            for (stage, rates), work in self.work.items()
        ]

    @property
    def profiles(self) -> set[str]:
        """Return the profiles on which this work was executed."""
        return {profile for _, profile, _ in self.groups}

    def to_json(self) -> str:
        """Return the tally as one JSON object."""
        value = {
            "work": [[*key, *astuple(work)] for key, work in self.work.items()],
            "shares": [[stage, *astuple(share)] for stage, share in self.shares.items()],
            "groups": [[*key, *astuple(group)] for key, group in self.groups.items()],
            "samples": [[*astuple(sample)] for sample in self.samples.values()],
        }
        return json.dumps(value)


def parse_tally(text: str) -> Tally:
    """Parse a tally that `Tally.to_json` wrote."""
    value: dict[str, list[Any]] = json.loads(text)
    samples = [
        Sample(Kind(name, profile, settings, model, (step, window)), *rest)
        for (name, profile, settings, model, (step, window)), *rest in value["samples"]
    ]
    return Tally(
        {(stage, rates): StageWork(*rest) for stage, rates, *rest in value["work"]},
        {stage: Share(*rest) for stage, *rest in value["shares"]},
        {(stage, profile, every): Measured(*rest) for stage, profile, every, *rest in value["groups"]},
        {sample.kind.settings: sample for sample in samples},
    )


def tally_of(
    runs: Sequence[RunRecord],
    books: Books,
    attempts: Mapping[str, Sequence[AttemptRecord]],
    now: float,
    gpus: Mapping[str, int],
) -> Tally:
    """Return the tally of some runs, up to `now` (seconds since the epoch).

    `attempts` are by run id. `gpus` are those that a job gets by default, by `RunRecord.submitted_by`.
    """
    alike: dict[tuple[str, int], list[Account]] = defaultdict(list)
    for run in runs:
        # Equal rates are mostly one object, as the ledger reads them. This saves the text of each run's rates.
        alike[run.stage, id(run.rates)].append(books.accounts[run.id])
    work: dict[tuple[str, str], StageWork] = {}
    for (stage, _), accounts in alike.items():
        key, part = (stage, canonical_json(accounts[0].run.rates)), _work_of(accounts)
        work[key] = work[key] + part if key in work else part
    every = [attempt for run in runs for attempt in attempts.get(run.id, ())]
    return Tally(work, shares_of(runs, attempts, now, gpus), measure(runs, attempts), samples_of(runs, every))


def _work_of(accounts: Sequence[Account]) -> StageWork:
    units = {kind: sum(account.units.get(kind, 0) for account in accounts) for kind in KINDS}
    first = min(account.run.ordinal for account in accounts)
    return StageWork(first, **units, estimated=sum(account.estimated for account in accounts))


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of the tallies."""
    found: dict[str, dict[Any, Any]] = {item.name: {} for item in fields(Tally)}
    for tally in tallies:
        for name, sums in found.items():
            for key, part in getattr(tally, name).items():
                sums[key] = sums[key] + part if key in sums else part
    return Tally(**found)


# -- closed runs in the ledger ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sums:
    """The tally of all closed runs (JSON), and the mark of their set."""

    count: int
    token: str
    tally: str


@dataclass(frozen=True)
class _Basis:
    """The rules by which runs were closed. `gpus`: the default GPUs of each profile. `profiles`: hashes of these."""

    format: int = 0
    terms: Mapping[str, Any] = field(default_factory=dict)
    gpus: Mapping[str, int] = field(default_factory=dict)
    profiles: Mapping[str, str] = field(default_factory=dict)


def closed_tally(transaction: Transaction) -> Tally:
    """Return the tally of all closed runs; recompute and keep it if their set has changed."""
    kept, mark = transaction.row("closed_sums", _Sums), transaction.closed_mark()
    if kept is not None and (kept.count, kept.token) == mark:
        return parse_tally(kept.tally)
    if not mark[0]:
        return total([])
    tally = total([parse_tally(text) for text in transaction.closed_tallies()])
    _keep(transaction, tally)
    return tally


def _keep(transaction: Transaction, tally: Tally) -> None:
    transaction.set_rows("closed_sums", [_Sums(*transaction.closed_mark(), tally.to_json())])


def books_of(
    transaction: Transaction, terms: Terms, layout: StudyLayout, now: float, naming: Sequence[RunRecord] = ()
) -> Books:
    """Return the accounts of all runs that are not closed, and the sums of the others, at `now` (epoch seconds).

    If one of the runs in `naming` is closed, return each run's own account instead: the caller needs that run's.
    """
    if transaction.closed_among([run.id for run in naming]):
        return full_books_of(transaction, terms, layout, now)
    runs, closed = transaction.unclosed(), closed_tally(transaction)
    ids = [run.id for run in runs]
    attempts = transaction.attempts(ids) if terms.gpu_seconds is not None else ()
    samples = total([closed, Tally(samples=samples_of(runs, attempts))]).samples
    held = sum(share.allocated_gpu for share in closed.shares.values())
    shared = sharing_of(transaction)
    hours = gpu_hours_of(terms.gpu_seconds, layout, runs, by_run(attempts), samples, now, sharing=shared, closed=held)
    return keep_books(terms, runs, transaction.charges(ids), transaction.reservations(), closed.accounts, hours)


def full_books_of(transaction: Transaction, terms: Terms, layout: StudyLayout, now: float) -> Books:
    """Return the accounts of all runs, one by one, at `now` (epoch seconds)."""
    runs, attempts = transaction.runs(), transaction.attempts()
    samples = samples_of(runs, attempts) if terms.gpu_seconds is not None else {}
    shared = sharing_of(transaction)
    hours = gpu_hours_of(terms.gpu_seconds, layout, runs, by_run(attempts), samples, now, sharing=shared)
    return keep_books(terms, runs, transaction.charges(), transaction.reservations(), gpu_hours=hours)


def sharing_of(transaction: Transaction) -> dict[str, int]:
    """Return how many runs share the live job of each run that has one, by run id."""
    submissions = {each.token: each for each in transaction.submissions()}
    live = [member for member in transaction.members() if member.state is MemberState.LIVE]
    return {each.run_id: found.size if (found := submissions[each.token]).packed else 1 for each in live}


def reopen_older(transaction: Transaction) -> None:
    """Reopen all runs if another release closed them, and recompute all charges: its rules were different."""
    kept = transaction.row("closed_basis", _Basis)
    if kept is not None and kept.format != FORMAT:
        transaction.reopen_all()
        attempts = by_run(transaction.attempts())
        charges = {run.id: charges_of(run, attempts[run.id]) for run in transaction.runs() if attempts[run.id]}
        transaction.replace_charges(charges)


def check_basis(transaction: Transaction, terms: Terms) -> None:
    """Reopen all runs if the rules have changed since they were closed: the convention, or a profile's GPUs."""
    binding = {key: value for key, value in asdict(terms).items() if key not in ("limit", "gpu_seconds")}
    before = transaction.row("closed_basis", _Basis) or _Basis()
    known, digests = before.gpus, before.profiles
    profiles = {profile: digest_of(profile) for profile in sorted(closed_tally(transaction).profiles)}
    gpus = {
        profile: known[profile] if profile in known and digests.get(profile) == digest else gpus_by_default(profile)
        for profile, digest in profiles.items()
    }
    is_other = (before.format, before.terms) != (FORMAT, binding)
    if is_other or any(known.get(profile, count) != count for profile, count in gpus.items()):
        transaction.reopen_all()
        gpus, profiles = {}, {}
    basis = _Basis(FORMAT, binding, gpus, profiles)
    if basis != before:
        transaction.set_rows("closed_basis", [basis])


def close_what_is_over(
    transaction: Transaction,
    books: Books,
    rows: Mapping[str, RunStatus],
    attempts: Mapping[str, Sequence[AttemptRecord]],
    now: float,
    gpus: Mapping[str, int],
) -> set[str]:
    """Close the runs that are over, and return their ids.

    `rows` are the summary rows of the runs that are not closed, and `attempts` their attempts, both by run id. `gpus`
    are the default GPUs by `RunRecord.submitted_by`. `now` is in seconds since the epoch.
    """
    busy = {member.run_id for member in transaction.members()} | transaction.reservations().keys()
    busy |= transaction.runs_without_last_word(VANISHED, now - ORPHAN_SECONDS)
    over = [run for run in transaction.unclosed() if run.state.is_final and run.id not in busy]
    over = [run for run in over if all(attempt.cause is not None for attempt in attempts.get(run.id, ()))]
    if not over:
        return set()
    before = closed_tally(transaction)
    tallies = {run.id: tally_of([run], books, attempts, now, gpus) for run in over}
    transaction.close_runs(
        [Closed(run.id, json.dumps(rows[run.id].to_dict()), tallies[run.id].to_json()) for run in over]
    )
    _keep(transaction, total([before, *tallies.values()]))
    # A copy of a profile never changes. Only a profile that is used without a copy can get other GPUs.
    used = {run.profile: gpus[run.profile] for run in over if not run.profile_copy}
    basis = transaction.row("closed_basis", _Basis) or _Basis()
    if not used.items() <= basis.gpus.items():  # for the next `check_basis` to compare
        transaction.set_rows("closed_basis", [replace(basis, gpus={**basis.gpus, **used})])
    return set(tallies)
