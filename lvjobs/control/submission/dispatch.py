"""The submission of waiting runs in turn, oldest first, as arrays: as many as the site's limits allow.

Runs that share jobs are submitted pack by pack. Runs that do not fit wait for a later pass. If the site does not report
its limits, sbatch's refusals show them: the array is halved until sbatch accepts one. After a submission with an
unclear outcome, no more are sent.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.protocol import Cap, Cluster, ClusterError, JobRequest, Limits, Load
from lvjobs.control.budget.accounts import Terms
from lvjobs.control.submission.send import PreparedJob, SubmitResult, prepare_job, request_for, send
from lvjobs.control.submission.slots import FreeSlots, choices, halves, pack_size, room_for, split, with_more
from lvjobs.control.submission.time_limits import Timing, is_automatic, timing_of
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
from lvjobs.study.words import SubmitOutcome

_FRESH_SECONDS = 3600.0
"""The time after which a site's limits are read again; less if sbatch contradicts them."""


@dataclass(frozen=True)
class _Known:
    """A site's limits on similar jobs, and when they were read."""

    key: str
    time: float
    caps: Sequence[Mapping[str, Any]]
    members: int | None
    minutes: int | None

    @property
    def limits(self) -> Limits:
        caps = [Cap(**{**cap, "place": tuple(cap["place"])}) for cap in self.caps]
        return Limits(tuple(caps), self.members, self.minutes)


class Queue:
    """The room that clusters have left during one pass.

    `now` is in seconds since the epoch. `loads` are by backend, as they were observed; None where a load is unknown.
    """

    def __init__(self, ledger: Ledger, now: float, loads: Mapping[str, Load | None] | None = None) -> None:
        self.ledger = ledger
        self._now = now
        self._loads = {backend: load for backend, load in (loads or {}).items() if load is not None}
        self._fresh: dict[str, _Known] = {}

    def limits(self, cluster: Cluster, profile: str, request: JobRequest) -> Limits:
        """Return the site's limits on such jobs, read once an hour; without any limit if the site does not answer."""
        names = ("partition", "account", "qos", "max_queued")  # jobs with the same of these have the same limits
        key = json.dumps([profile, *(request.resources.get(name) for name in names)])
        known = self._fresh.get(key) or self.ledger.call(Transaction.row, "site_limits", _Known, key=key)
        if known is not None and 0 <= self._now - known.time < _FRESH_SECONDS:
            return known.limits
        try:
            limits = cluster.limits(request)
        except ClusterError:
            return Limits()  # sbatch's refusal will show the limits
        caps = [asdict(cap) for cap in limits.caps]
        self._fresh[key] = _Known(key, self._now, caps, limits.members, limits.minutes)
        return limits

    def keep_limits(self, transaction: Transaction) -> None:
        """Write the limits that were read, for later passes."""
        for key, known in self._fresh.items():
            transaction.set_rows("site_limits", [known], key=key)

    def room(self, cluster: Cluster, profile: str, limits: Limits) -> FreeSlots:
        """Return how many more jobs fit within `limits`."""
        backend = backend_of(profile).name
        if not limits.caps:
            return FreeSlots()
        if backend not in self._loads:
            with suppress(ClusterError):  # then sbatch's refusal will show the limits
                self._loads[backend] = cluster.load()
        return room_for(limits, self._loads[backend]) if backend in self._loads else FreeSlots()

    def add(self, profile: str, limits: Limits, jobs: int) -> None:
        """Count `jobs` more jobs that are in the queue, or may be."""
        backend = backend_of(profile).name
        if backend in self._loads:
            self._loads[backend] = with_more(self._loads[backend], limits, jobs)

    def forget_limits(self) -> None:
        """Delete all kept limits, because sbatch has contradicted them."""
        self._fresh.clear()
        with self.ledger.transaction() as transaction:
            transaction.set_rows("site_limits", ())


@dataclass(frozen=True)
class PreparedSubmission:
    """Runs that can share an array, ready to be submitted: their computed time limits, and the first job or array."""

    runs: Sequence[RunRecord]
    timing: Timing
    first: PreparedJob


def prepare_submission(
    study: StudyContext, queue: Queue, cluster: Cluster, runs: Sequence[RunRecord]
) -> PreparedSubmission:
    """Prepare runs of the same profile, resources and code. The cluster is asked only to compute time limits."""
    limits, pack = Limits(), pack_size(runs[0])
    if is_automatic(runs[0].resources):
        limits = queue.limits(cluster, runs[0].profile, request_for(study, runs, ""))
    timing = timing_of(study.layout, queue.ledger, runs, limits)
    first = timing.applied(runs[:pack] if pack > 1 else runs)
    return PreparedSubmission(runs, timing, prepare_job(study, first, choices(runs[0].resources)))


def send_in_turn(
    study: StudyContext,
    queue: Queue,
    cluster: Cluster,
    prepared: PreparedSubmission,
    terms: Terms,
    now: float,
    later: Sequence[RunRecord] = (),
    declare: Callable[[Transaction], object] | None = None,
) -> Iterator[SubmitResult]:
    """Submit prepared runs, array by array in their order, while there is room.

    Args:
        study: The study.
        queue: The room that is left.
        cluster: The cluster that the runs' profile names.
        prepared: Runs without live submissions.
        terms: The prices and the limit of the budget.
        now: The time of submission, in seconds since the epoch.
        later: Runs that come after these. With each array, the FLOPs of all of these and `later` are reserved.
        declare: What adds the runs to the ledger, if they are not in it and the budget has room. One commit is enough
            for that and for the first submission.

    Yields:
        The outcome of each submission, as `send` returns it. The last is `limited` if there is no room for the rest,
        which then waits, with the reason.
    """
    job, profile = prepared.first, prepared.runs[0].profile
    offers = _offers(queue, cluster, profile, job)

    def begin(transaction: Transaction) -> None:
        queue.keep_limits(transaction)
        if declare is not None:
            declare(transaction)

    first: Callable[[Transaction], None] | None = begin
    most = len(prepared.runs)
    waiting = list(prepared.runs)
    while waiting:
        rooms = [queue.room(cluster, profile, limits) for _, limits in offers]
        fit = [(*offer, room) for offer, room in zip(offers, rooms, strict=True) if room.jobs != 0]
        choice = [one for one, _, _ in fit]
        sent = SubmitResult((), "", SubmitOutcome.LIMITED, said=rooms[0].reason)
        pack = pack_size(waiting[0])
        sizes: Sequence[int] = ()
        if fit and pack > 1:
            sizes = [min(pack, len(waiting))]  # one job for all runs of the pack
        elif fit:
            _, limits, room = fit[0]
            size = min(most, split(len(waiting), limits, room))
            sizes = [size, *halves(size)]
        for tried in sizes:
            if tried < sizes[0]:
                queue.forget_limits()
                most = tried  # later arrays cannot be larger either
            array = prepared.timing.applied(waiting[:tried])
            if (array, choice) != (job.runs, job.choice):
                job = prepare_job(study, array, choice)
            sent = send(study, queue.ledger, cluster, job, terms, now, (*waiting[tried:], *later), first)
            first = None
            if sent.outcome is not SubmitOutcome.LIMITED:
                break
        if first is not None:  # there was no room for any
            queue.ledger.call(first)
        if sent.outcome is SubmitOutcome.LIMITED:
            wait(queue.ledger, waiting, sent.said)
        yield sent
        if sent.outcome is not SubmitOutcome.SUBMITTED:
            break
        queue.add(profile, fit[sent.choice][1], 1 if pack > 1 else len(sent.runs))
        waiting = waiting[len(sent.runs) :]


def _offers(queue: Queue, cluster: Cluster, profile: str, job: PreparedJob) -> list[tuple[Mapping[str, str], Limits]]:
    """Return each choice of QOS and partition for the job, with the site's limits on it."""
    by_qos: dict[str | None, Limits] = {}
    for choice, request in zip(job.choice, job.requests, strict=True):
        qos = choice.get("qos")
        if qos not in by_qos:
            by_qos[qos] = queue.limits(cluster, profile, request)
    return [(choice, by_qos[choice.get("qos")]) for choice in job.choice]


def wait(ledger: Ledger, runs: Sequence[RunRecord], reason: str) -> None:
    """Record why runs are not submitted now; a later pass tries again."""
    ledger.call(Transaction.update_runs, {run.id: {"reason": reason} for run in runs if run.reason != reason})
