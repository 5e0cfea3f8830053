"""The session: a study under its lease, on which commands and passes work."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lvjobs import remedies
from lvjobs.cluster.protocol import Cluster
from lvjobs.control.backends import cluster_for, profile_of
from lvjobs.control.budget.accounts import Books, Terms
from lvjobs.control.budget.archive import books_of, full_books_of
from lvjobs.control.budget.limit import terms_of
from lvjobs.errors import Unwritable, UsageError
from lvjobs.files import close_to_others, private
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.lease import Lease, acquire
from lvjobs.ledger.records import RunRecord
from lvjobs.ledger.schema import epoch_of
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext

ClusterFactory = Callable[[StudyContext, str], Cluster]


@dataclass
class Session:
    """A study with its open ledger. Clusters are opened when they are needed."""

    study: StudyContext
    ledger: Ledger
    factory: ClusterFactory = cluster_for
    clock: Callable[[], float] = time.time
    absences: dict[str, None] = field(default_factory=dict, init=False)
    """The reasons why this host does not reach clusters that were needed, each once, as keys."""
    _clusters: dict[str, Cluster] = field(default_factory=dict, init=False)

    def cluster(self, profile: str) -> Cluster:
        """Return the cluster of a profile. It is opened once.

        Raises:
            ProfileError: the profile cannot be used.
        """
        if profile not in self._clusters:
            self._clusters[profile] = self.factory(self.study, profile)
        return self._clusters[profile]

    def cluster_of(self, run: RunRecord) -> Cluster:
        """Return the cluster by whose profile the run is submitted.

        Raises:
            ProfileError: the profile cannot be used.
        """
        return self.cluster(profile_of(self.study.layout, run))

    def absence(self, profile: str) -> str:
        """Return why this host does not reach the profile's cluster, and keep it for the pass to report.

        Return an empty string if the host reaches it.
        """
        why = self.cluster(profile).absent
        if why:
            self.absences[why] = None
        return why

    @property
    def terms(self) -> Terms:
        """Return the budget's terms."""
        return terms_of(self.study.config.budget)

    def books(self, transaction: Transaction) -> Books:
        """Return the accounts as the ledger has them, those of closed runs taken together."""
        return books_of(transaction, self.terms, self.study.layout, self.clock())

    def full_books(self, transaction: Transaction) -> Books:
        """Return the accounts of all runs, one by one."""
        return full_books_of(transaction, self.terms, self.study.layout, self.clock())


def refuse_archived(study: StudyContext, name: str) -> None:
    """Refuse a run whose files are packed (UsageError)."""
    if study.layout.archive(name).exists():
        raise UsageError(f"{name} is archived; unpack it: {remedies.UNPACK(*study.where, run=name)}")


class StudyUnwritable(UsageError, Unwritable):
    """A study directory in which the lease cannot be taken."""


@contextmanager
def held_study(study: StudyContext, *, wait: float) -> Iterator[Lease]:
    """Take the study's lease. All files written while it is held are private to this user (`files.keep_private`).

    Raises:
        LeaseTaken: another process holds the lease for longer than `wait` seconds.
        UsageError: the study directory cannot be written.
    """
    with private():
        try:
            study.layout.internal.mkdir(exist_ok=True)
            for directory in (study.layout.internal, study.layout.checkpoints, study.layout.logs):
                close_to_others(directory)
            lease = acquire(study.layout.lease, wait=wait, above=epoch_of(study.layout.database))
        except OSError as error:
            raise StudyUnwritable(
                f"{study.root} cannot be written ({error.strerror}); nothing was done: free disk space there, or "
                f"choose another "
                "--study"
            ) from error
        with lease:
            yield lease
