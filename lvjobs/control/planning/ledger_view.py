"""The ledger as planning reads it: without a reconcile pass, and without creating a ledger."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from lvjobs.control.stages.search import kept_of
from lvjobs.errors import UsageError
from lvjobs.files import private
from lvjobs.ledger.copies import refuse_lost
from lvjobs.ledger.database import open_ledger
from lvjobs.ledger.lease import LeaseTaken, acquire
from lvjobs.ledger.read_only import open_copy
from lvjobs.ledger.records import AttemptRecord, Charge, RunRecord, WorkCounts
from lvjobs.ledger.schema import LedgerError, epoch_of
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
from lvjobs.sweep.sampling import SearchRecord


@dataclass(frozen=True)
class LedgerView:
    """The ledger's rows of runs and their charges; empty without a ledger, or if a `problem` prevented reading it.

    `winners` are the runs that won their stages, and `searches` the stages' proposals, both by the stage's name.
    """

    runs: Sequence[RunRecord] = ()
    attempts: Sequence[AttemptRecord] = ()
    charges: Sequence[Charge] = ()
    reservations: Mapping[str, WorkCounts] = field(default_factory=dict)
    winners: Mapping[str, RunRecord] = field(default_factory=dict)
    searches: Mapping[str, SearchRecord] = field(default_factory=dict)
    problem: str = ""


def read(transaction: Transaction) -> LedgerView:
    """Read the whole view in one transaction."""
    runs = transaction.runs()
    by_id = {run.id: run for run in runs}
    stages = transaction.stages()
    winners = {stage.name: by_id[stage.winner] for stage in stages if stage.winner in by_id}
    searches = {stage.name: kept_of(transaction, stage.name) for stage in stages}
    return LedgerView(
        runs, transaction.attempts(), transaction.charges(), transaction.reservations(), winners, searches
    )


def read_ledger(study: StudyContext, wait: float) -> LedgerView:
    """Return the ledger as it is. Make no pass, change nothing, and create no ledger where there is none.

    `wait` is how many seconds to wait for another process to release the lease. A ledger that cannot be read is
    reported as the view's `problem`.
    """
    try:
        refuse_lost(study)
    except UsageError as error:
        return LedgerView(problem=str(error))
    if not study.layout.database.exists():
        return LedgerView()
    try:
        with (
            private(),
            acquire(study.layout.lease, wait=wait, above=epoch_of(study.layout.database)) as lease,
            closing(open_ledger(study.layout.database, lease.number, where=study.where)) as ledger,
            ledger.transaction() as transaction,
        ):
            return read(transaction)
    except (LeaseTaken, OSError):
        pass
    try:  # another process updates the study, or its directory cannot be written: a copy can still be read
        with open_copy(study.layout.database, study.where) as ledger, ledger.transaction() as transaction:
            return read(transaction)
    except LedgerError as error:
        return LedgerView(problem=f"runs.db was not read ({error}): spent and reserved FLOPs are not included")
