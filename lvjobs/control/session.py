"""A study under the lease: what commands and passes work on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lvjobs.cluster.protocol import Cluster
from lvjobs.control.backends import cluster_for, profile_of
from lvjobs.control.budget.accounts import Books, Terms, keep_books
from lvjobs.control.budget.archive import books_of
from lvjobs.control.budget.limit import terms_of
from lvjobs.errors import UsageError
from lvjobs.files import close_to_others, private
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.lease import Lease, acquire
from lvjobs.ledger.records import RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext

ClusterFactory = Callable[[StudyContext, str], Cluster]


@dataclass
class Session:
    """The ledger is open, and clusters are made as they are needed."""

    study: StudyContext
    ledger: Ledger
    factory: ClusterFactory = cluster_for
    clock: Callable[[], float] = time.time

    def cluster(self, profile: str) -> Cluster:
        """The cluster of a profile; made once."""
        made = self.__dict__.setdefault("_clusters", {})
        if profile not in made:
            made[profile] = self.factory(self.study, profile)
        cluster: Cluster = made[profile]
        return cluster

    def cluster_of(self, run: RunRecord) -> Cluster:
        """Return the cluster by whose profile the run is submitted.

        Raises:
            ProfileError: the profile cannot be used.
        """
        return self.cluster(profile_of(self.study.layout, run))

    @property
    def absences(self) -> dict[str, None]:
        """Why this host does not reach clusters that something was to be done on: each once."""
        found: dict[str, None] = self.__dict__.setdefault("_absences", {})
        return found

    def absence(self, profile: str) -> str:
        """Return why this host does not reach the profile's cluster, for the pass to report; empty where it does."""
        why = self.cluster(profile).absent
        if why:
            self.absences[why] = None
        return why

    @property
    def terms(self) -> Terms:
        """The budget that binds."""
        return terms_of(self.study.config.budget)

    def books(self, transaction: Transaction) -> Books:
        """The accounts as the ledger has them, those of closed runs taken together."""
        return books_of(transaction, self.terms)

    def full_books(self, transaction: Transaction) -> Books:
        """The accounts of all runs, one by one."""
        return keep_books(self.terms, transaction.runs(), transaction.charges(), transaction.reservations())


@contextmanager
def held_study(study: StudyContext, *, wait: float) -> Iterator[Lease]:
    """The study's lease, and all that is written while it is held is for this user alone: see `files.keep_private`.

    Raises:
        LeaseTaken: another process is making a pass, for longer than `wait` seconds.
        UsageError: the study directory cannot be written.
    """
    with private():
        try:
            study.layout.internal.mkdir(exist_ok=True)
            for directory in (study.layout.internal, study.layout.checkpoints, study.layout.logs):
                close_to_others(directory)
            lease = acquire(study.layout.lease, wait=wait)
        except OSError as error:
            raise UsageError(
                f"{study.root} cannot be written ({error.strerror}); nothing was done: make room there, or choose "
                "another --study"
            ) from error
        with lease:
            yield lease
