"""The submission of waiting runs in turn, oldest first, as arrays: as many as the site's limits allow.

Runs that share jobs are submitted pack by pack. Runs that do not fit wait for a later pass. If the site does not report
its limits, sbatch's refusals show them: the array is halved until sbatch accepts one. After a submission with an
unclear outcome, no more are sent.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.protocol import Cap, Cluster, ClusterError, JobRequest, Limits, Load
from lvjobs.control.budget.accounts import Terms
from lvjobs.control.submission.send import SubmitResult, request_for, send
from lvjobs.control.submission.slots import FreeSlots, choices, halves, pack_size, room_for, split, with_more
from lvjobs.control.submission.timing import timing_of
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import RunRecord
from lvjobs.study.config import StudyContext
from lvjobs.study.words import SubmitOutcome

_FRESH_SECONDS = 3600.0
"""The time after which a site's limits are read again; less if sbatch contradicts them."""


@dataclass(frozen=True)
class _Known:
    """A site's limits on similar jobs (`_key`), and when they were read."""

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

    def limits(self, cluster: Cluster, profile: str, request: JobRequest) -> Limits:
        """Return the site's limits on such jobs, read once an hour; without any limit if the site does not answer."""
        key = _key(profile, request)
        with self.ledger.transaction() as transaction:
            known = transaction.row("site_limits", _Known, key=key)
        if known is not None and 0 <= self._now - known.time < _FRESH_SECONDS:
            return known.limits
        try:
            limits = cluster.limits(request)
        except ClusterError:
            return Limits()  # sbatch's refusal will show the limits
        fresh = _Known(key, self._now, [asdict(cap) for cap in limits.caps], limits.members, limits.minutes)
        with self.ledger.transaction() as transaction:
            transaction.set_rows("site_limits", [fresh], key=key)
        return limits

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
        with self.ledger.transaction() as transaction:
            transaction.set_rows("site_limits", ())


def send_in_turn(
    study: StudyContext,
    queue: Queue,
    cluster: Cluster,
    runs: Sequence[RunRecord],
    terms: Terms,
    now: float,
    later: Sequence[RunRecord] = (),
) -> Iterator[SubmitResult]:
    """Submit runs that can share an array, array by array in their order, while there is room.

    Args:
        study: The study.
        queue: The room that is left.
        cluster: The cluster that the runs' profile names.
        runs: Runs of the same profile, resources and code, without live submissions.
        terms: The prices and the limit of the budget.
        now: The time of submission, in seconds since the epoch.
        later: Runs that come after these. With each array, the FLOPs of all of `runs` and `later` are reserved.

    Yields:
        The outcome of each submission, as `send` returns it. The last is `limited` if there is no room for the rest,
        which then waits, with the reason.
    """
    profile = runs[0].profile
    offers = _offers(study, queue, cluster, runs)
    timing = timing_of(study.layout, queue.ledger, runs, offers[0].limits)
    most = len(runs)
    waiting = list(runs)
    while waiting:
        rooms = {offer: queue.room(cluster, profile, offer.limits) for offer in offers}
        fit = [offer for offer in offers if rooms[offer].jobs != 0]
        sent = SubmitResult((), "", SubmitOutcome.LIMITED, said=rooms[offers[0]].reason)
        pack = pack_size(waiting[0])
        sizes: Sequence[int] = ()
        if fit and pack > 1:
            sizes = [min(pack, len(waiting))]  # one job for all runs of the pack
        elif fit:
            size = min(most, split(len(waiting), fit[0].limits, rooms[fit[0]]))
            sizes = [size, *halves(size)]
        for tried in sizes:
            if tried < sizes[0]:
                queue.forget_limits()
                most = tried  # later arrays cannot be larger either
            array, others = timing.applied(waiting[:tried]), (*waiting[tried:], *later)
            choice = [dict(offer.choice) for offer in fit]
            sent = send(study, queue.ledger, cluster, array, terms, now, others, choice)
            if sent.outcome is not SubmitOutcome.LIMITED:
                break
        if sent.outcome is SubmitOutcome.LIMITED:
            wait(queue.ledger, waiting, sent.said)
        yield sent
        if sent.outcome is not SubmitOutcome.SUBMITTED:
            break
        queue.add(profile, fit[sent.choice].limits, 1 if pack > 1 else len(sent.runs))
        waiting = waiting[len(sent.runs) :]


@dataclass(frozen=True)
class _Offer:
    """One choice of QOS and partition for a job, and the site's limits on it."""

    choice: tuple[tuple[str, str], ...]
    limits: Limits


def _offers(study: StudyContext, queue: Queue, cluster: Cluster, runs: Sequence[RunRecord]) -> list[_Offer]:
    by_qos: dict[str | None, Limits] = {}
    offers = []
    for choice in choices(runs[0].resources):
        qos = choice.get("qos")
        if qos not in by_qos:
            by_qos[qos] = queue.limits(cluster, runs[0].profile, request_for(study, runs, "", choice))
        offers.append(_Offer(tuple(choice.items()), by_qos[qos]))
    return offers


def wait(ledger: Ledger, runs: Sequence[RunRecord], reason: str) -> None:
    """Record why runs are not submitted now; a later pass tries again."""
    with ledger.transaction() as transaction:
        transaction.update_runs({run.id: {"reason": reason} for run in runs if run.reason != reason})


def _key(profile: str, request: JobRequest) -> str:
    """Return the key of the jobs' limits: jobs with the same key have the same limits."""
    names = ("partition", "account", "qos", "max_queued")
    return json.dumps([profile, *(request.resources.get(name) for name in names)])
