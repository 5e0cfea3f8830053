"""Whose turn it is: of the runs that wait to be submitted as many as the site has room for, oldest first, as an array.

Runs that share jobs go pack by pack. What does not fit stays as it is and follows in a later pass. Where the site does
not tell its limits, sbatch's refusals do: the array is halved until one is taken. A submission that nobody knows the
outcome of ends that at once.
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
"""For so long a site's limits are believed to be what they were; sooner where sbatch knows better."""


@dataclass(frozen=True)
class _Known:
    """What a site allows of jobs that are alike (`_key`), and when it was asked."""

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
    """The room that clusters have left, as this pass goes on. `loads` are by backend, as they were observed."""

    def __init__(self, ledger: Ledger, now: float, loads: Mapping[str, Load | None] | None = None) -> None:
        self.ledger = ledger
        self._now = now
        self._loads = {backend: load for backend, load in (loads or {}).items() if load is not None}

    def limits(self, cluster: Cluster, profile: str, request: JobRequest) -> Limits:
        """What the site allows of such jobs: asked once an hour. None known where it does not answer."""
        key = _key(profile, request)
        with self.ledger.transaction() as transaction:
            known = transaction.row("site_limits", _Known, key=key)
        if known is not None and 0 <= self._now - known.time < _FRESH_SECONDS:
            return known.limits
        try:
            limits = cluster.limits(request)
        except ClusterError:
            return Limits()  # sbatch will say
        fresh = _Known(key, self._now, [asdict(cap) for cap in limits.caps], limits.members, limits.minutes)
        with self.ledger.transaction() as transaction:
            transaction.set_rows("site_limits", [fresh], key=key)
        return limits

    def room(self, cluster: Cluster, profile: str, limits: Limits) -> FreeSlots:
        """For how many more jobs there is room."""
        backend = backend_of(profile)
        if not limits.caps:
            return FreeSlots()
        if backend not in self._loads:
            with suppress(ClusterError):  # then sbatch will say
                self._loads[backend] = cluster.load()
        return room_for(limits, self._loads[backend]) if backend in self._loads else FreeSlots()

    def add(self, profile: str, limits: Limits, jobs: int) -> None:
        """So many jobs more are in the queue, or may be."""
        backend = backend_of(profile)
        if backend in self._loads:
            self._loads[backend] = with_more(self._loads[backend], limits, jobs)

    def forget_limits(self) -> None:
        """They are others than we believed."""
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
    """Submit runs that have a job in common, the first of them first, array by array while there is room.

    When an array goes, it is reserved for all of `runs`, and for `later` ones, what they may spend. The outcomes are as
    `send` has them; the last is `limited` where there is no room for the rest, which then waits, with the reason.
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
            sizes = [min(pack, len(waiting))]  # one job, however many runs it is of
        elif fit:
            size = min(most, split(len(waiting), fit[0].limits, rooms[fit[0]]))
            sizes = [size, *halves(size)]
        for tried in sizes:
            if tried < sizes[0]:
                queue.forget_limits()
                most = tried  # nor will more than these go after them
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
    """One of the things that a job may ask for, and what the site allows of it."""

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
    """Note why runs are not submitted for now; a later pass tries again."""
    with ledger.transaction() as transaction:
        transaction.update_runs({run.id: {"reason": reason} for run in runs if run.reason != reason})


def _key(profile: str, request: JobRequest) -> str:
    """Jobs that are alike in this meet the same limits."""
    names = ("partition", "account", "qos", "max_queued")
    return json.dumps([profile, *(request.resources.get(name) for name in names)])
