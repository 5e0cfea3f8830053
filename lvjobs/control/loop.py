"""The loop: one reconcile pass, under the study's lease."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from lvjobs.cluster.backends import BACKENDS, backend_of
from lvjobs.cluster.protocol import Cluster, Job
from lvjobs.cluster.templates import ProfileError
from lvjobs.control.backends import cluster_for, driver_token, left_alone, used_profile
from lvjobs.control.budget.accounts import Books
from lvjobs.control.budget.archive import ORPHAN_SECONDS, check_basis, close_what_is_over, reopen_older
from lvjobs.control.budget.charges import VANISHED, charges_of
from lvjobs.control.budget.limit import note_limits, reread_budget
from lvjobs.control.driver.driver import end_former_driver, keep_driver, waits_for_flops
from lvjobs.control.driver.notify import notify
from lvjobs.control.reconcile.act import act
from lvjobs.control.reconcile.actions import SaveAttempt
from lvjobs.control.reconcile.decide import decide, due
from lvjobs.control.reconcile.gate import Case, gate
from lvjobs.control.reconcile.hang import Rest, Watch
from lvjobs.control.reconcile.observe import Known, observe
from lvjobs.control.reconcile.views import RunView
from lvjobs.control.reconcile.waiting_jobs import update_waiting_jobs
from lvjobs.control.recovery.place import Arrival, StudyOrigin, arrive, keep_place, recorded_place
from lvjobs.control.session import ClusterFactory, Session, held_study
from lvjobs.control.stages.advance import advance
from lvjobs.control.submission.submission_files import put_back
from lvjobs.control.summary import build_summary, read_unclosed
from lvjobs.control.summary_file import by_field, read_closed, whole, write_closed, write_summary
from lvjobs.ledger.copies import refuse_lost
from lvjobs.ledger.database import Ledger, open_ledger
from lvjobs.ledger.lease import machine
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.summary import PassSummary
from lvjobs.study.config import StudyContext

_ANSWERED = "answered"
"""The setting with the time of the last pass that every scheduler answered."""


class Loop(Session):
    """A session that makes passes.

    `due` is when the next pass has something to do even if nothing happens until then (seconds since the epoch); None:
    never. `awaits_flops`: something waits for FLOPs, and runs whose jobs are not settled may still free some.
    `owes_notice`: a notice to the user could not be sent. `is_silent`: a scheduler did not answer the last
    pass, which knows no more of the queue than the one before. `arrival` is what was done when the study was opened in
    another place; the first pass reports it.
    """

    due: float | None = None
    awaits_flops: bool = False
    owes_notice: bool = False
    is_silent: bool = False
    arrival: Arrival = Arrival()

    def make_pass(self) -> PassSummary:
        """Observe, classify, decide, act. Write the summary, for commands that make no pass, and return it."""
        now = self.clock()
        with self.ledger.transaction() as transaction:
            known, books = _known(transaction, now), self.books(transaction)
            watch, growing_from = _watched(transaction, now, self.study.config.policy.hung_seconds)
        clusters, unusable = self._clusters_for(known)
        self.absences.clear()
        for profile in {used_profile(self.study.layout, *each) for each in _profiles(known)} - unusable.keys():
            self.absence(profile)
        driver, where = driver_token(self.study.root), self.study.where
        observed = observe(known, clusters, self.study.layout, now, growing_from, driver, where)
        watch = _with_rests(self.ledger, watch, observed.views, now)
        policy = self.study.config.policy
        watched = [(view, watch.since_for(view.live)) for view in observed.views]
        cases = [Case(view, decide(view, policy, now, since)) for view, since in watched]
        moments = [due(view, policy, now, since) for view, since in watched]
        self.due = min((moment for moment in moments if moment is not None), default=None)
        actions = gate(cases, _brought_up_to_date(books, cases), renew=self.study.config.budget.renew)
        did = act(actions, self.study, self.ledger, clusters, self.terms, now, observed.loads, unusable)
        did += put_back(self.ledger, self.study)
        did += update_waiting_jobs(self, observed.views, now)
        did += advance(self)
        self.awaits_flops = bool(known.members) and self.ledger.call(waits_for_flops)
        if self.arrival.left:
            end_former_driver(self, self.arrival.left)
        did += keep_driver(self, observed.drivers, awaits_flops=self.awaits_flops)
        notified = notify(self)
        self.owes_notice = notified.is_owed
        problems = [*(f"{why}. {_ELSEWHERE}" for why in self.absences), *observed.problems, *notified.problems]
        problems = [*left_alone(self.study.layout, known.runs, unusable), *problems]
        news, self.arrival = self.arrival.news, Arrival()
        if not observed.is_silent:
            self.ledger.call(Transaction.set_setting, _ANSWERED, str(now))
        self.is_silent = observed.is_silent
        return self.summarise([*news, *did, *notified.did], problems, observed.waiting)

    def summarise(
        self, did: Sequence[str], problems: Sequence[str], waiting: Mapping[str, Job] | None = None
    ) -> PassSummary:
        """Close the runs that are over, write the summary of the study as it is now, and return it.

        `did` are the lines on what the pass did. `waiting` are the jobs in the queue, by their run's id.
        """
        path = self.study.layout.summary
        with self.ledger.transaction() as transaction:
            check_basis(transaction, self.terms)
            books, now, unclosed = self.books(transaction), self.clock(), read_unclosed(transaction, self.study.layout)
            summary = build_summary(transaction, self.study, books, unclosed, did, problems, now, waiting or {})
            summary = replace(summary, answered=float(transaction.setting(_ANSWERED) or 0.0) or None)
            rows = {row.id: row for row in summary.runs}
            over = close_what_is_over(transaction, books, rows, unclosed.attempts, now, unclosed.gpus)
            mark, closed = transaction.closed_mark(), read_closed(path)
            fresh = None if closed.mark == mark else transaction.closed_rows()
        if fresh is not None:
            closed = by_field(mark, map(json.loads, fresh))
            write_closed(path, closed)
        shown = replace(summary, runs=[row for row in summary.runs if row.id not in over]).to_dict()
        write_summary(path, shown, mark)
        return whole(shown, closed)

    def _clusters_for(self, known: Known) -> tuple[Mapping[str, Cluster], Mapping[str, ProfileError]]:
        """Return the clusters by profile, to submit with, and by backend, to observe with.

        Return also the profiles that cannot be used. Jobs that were submitted by them are still observed.
        """
        clusters: dict[str, Cluster] = {}
        unusable: dict[str, ProfileError] = {}
        for submitted in _profiles(known):
            profile = used_profile(self.study.layout, *submitted)
            try:
                clusters[profile] = self.cluster(profile)
            except ProfileError as error:
                unusable[profile] = error
            else:
                clusters.setdefault(backend_of(profile).name, clusters[profile])
        for backend in {submission.backend for submission in known.submissions.values()} - clusters.keys():
            clusters[backend] = self.cluster(BACKENDS[backend].watcher)
        return clusters, unusable


def _profiles(known: Known) -> set[tuple[str, str]]:
    """Return the profiles by which the runs were submitted, each with the hash of its copy."""
    return {(run.profile, run.profile_copy) for run in known.runs}


_ELSEWHERE = "Runs are shown as last seen; nothing was submitted. Run lvjobs on a login node of the cluster"


def _watched(transaction: Transaction, now: float, closely: float) -> tuple[Watch, float]:
    """Record this pass in the watch that passes keep (`reconcile.hang`), and return the watch.

    Return also the earliest time at which a journal that this pass finds grown may have grown. `closely` is
    `policy.hung_seconds`.
    """
    before = replace(
        transaction.row("watch", Watch) or Watch(),
        rests={rest.place: rest for rest in transaction.rows("suspensions", Rest)},
    )
    watch = before.at(now, closely, machine(), time.clock_gettime(time.CLOCK_BOOTTIME))
    transaction.set_rows("watch", [watch])
    return watch, before.growing_from(now, closely)


def _with_rests(ledger: Ledger, watch: Watch, views: Sequence[RunView], now: float) -> Watch:
    """Return the watch with what this pass sees of suspended jobs, and keep any change."""
    seen = watch.with_rests([view.live for view in views if view.live is not None], now)
    if seen.rests != watch.rests:
        with ledger.transaction() as transaction:
            transaction.set_rows("suspensions", seen.rests.values())
    return seen


def _known(transaction: Transaction, now: float) -> Known:
    """Return the runs that are open, whose jobs are not settled, or whose orphans may still spend something."""
    members = transaction.members()
    unsettled = {member.run_id for member in members}
    unsettled |= transaction.runs_without_last_word(VANISHED, now - ORPHAN_SECONDS)
    runs = [run for run in transaction.unclosed() if not run.state.is_final or run.id in unsettled]
    submissions = {submission.token: submission for submission in transaction.submissions()}
    before = {run.id: run for run in transaction.find_runs({run.after for run in runs} - {""})}
    attempts = by_run(transaction.attempts([run.id for run in runs]))
    return Known(runs, attempts, submissions, members, before, transaction.attempts_of_packs())


def _brought_up_to_date(books: Books, cases: Sequence[Case]) -> Books:
    """Return the books with what this pass observed. The ledger gets it only when the pass acts."""
    for case in cases:
        saved = [action.attempt for action in case.actions if isinstance(action, SaveAttempt)]
        starting = case.view.starting
        if not saved and not starting:
            continue
        claimed = [attempt for attempt in (*case.view.attempts, *saved) if attempt.generation is not None]
        charges = charges_of(case.run, list({attempt.generation: attempt for attempt in claimed}.values()))
        known = (*case.view.attempts, *saved, *starting)
        newest = {(*each.execution, each.generation): each for each in known}
        books = books.with_account(case.run, charges, list(newest.values()))
    return books


@contextmanager
def open_session(
    study: StudyContext,
    *,
    wait: float,
    factory: ClusterFactory = cluster_for,
    clock: Callable[[], float] = time.time,
    answer: StudyOrigin | None = None,
) -> Iterator[Loop]:
    """Take the study's lease and open its ledger. `answer`: see `lvjobs.control.recovery.place.arrive`.

    Raises:
        LeaseTaken: another process holds the lease for longer than `wait` seconds.
        PlaceUnclear: the study was moved or copied, and the user has to answer which.
        UsageError: the study directory cannot be written, or its ledger is lost.
    """
    with held_study(study, wait=wait) as lease:
        refuse_lost(study)
        study = reread_budget(study)
        layout = study.layout
        with closing(open_ledger(layout.database, lease.number, layout.ledger_log, study.where)) as ledger:
            with ledger.transaction() as transaction:
                arrival = arrive(transaction, study, clock(), answer)
                reopen_older(transaction)
                note_limits(transaction, study.config.budget, clock())
                stages = {stage.name: stage.model_dump(mode="json", by_alias=True) for stage in study.config.stage}
                transaction.declare_stages(stages)
                place = recorded_place(transaction)
            keep_place(study.layout, place)
            loop = Loop(study, ledger, factory, clock)
            loop.arrival = arrival
            yield loop
