"""The attempts of a run while a pass decides about it: from its journals, with the ends that the pass adds. Pure.

`Conclusions` adds the consequences of a failure of the latest attempt, or of its job.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lvjobs.cluster.backends import BACKENDS
from lvjobs.cluster.protocol import Job
from lvjobs.cluster.states import Ending
from lvjobs.control.reconcile.actions import Action, AvoidNode, CancelJob, Extend, Revoke, SaveAttempt, SetRun, Submit
from lvjobs.control.reconcile.classify import Failure, classify, execution
from lvjobs.control.reconcile.policy import after_exhaustion, at_rung, verdict
from lvjobs.control.reconcile.views import MemberView, RunView
from lvjobs.control.submission.time_limits import after_a_timeout
from lvjobs.ledger.records import AttemptRecord
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, HeldFor, LeaveCause, RunState


class Attempts:
    """The attempts of one run, oldest first; iterable."""

    def __init__(self, view: RunView, now: float) -> None:
        self._view = view
        self._now = now
        self._all = list(view.attempts)

    def __iter__(self) -> Iterator[AttemptRecord]:
        return iter(self._all)

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def current(self) -> AttemptRecord | None:
        """Return the latest attempt; None if it has ended or there is none."""
        return self._all[-1] if self._all and self._all[-1].cause is None else None

    @property
    def ended(self) -> list[AttemptRecord]:
        """Return the attempts that have ended."""
        return [attempt for attempt in self._all if attempt.cause is not None]

    def learned(self) -> Iterator[SaveAttempt]:
        """Yield each attempt that is new or changed: by journal lines, an end, or a late row of accounting.

        New attempts include executions that claimed no generation.
        """
        for index in range(len(self._all)):
            attempt = self._accounted(index)
            known = index < len(self._view.attempts) and attempt is self._view.attempts[index]
            if not known or attempt.id == 0 or attempt.generation in self._view.changed:
                yield SaveAttempt(attempt)

    def close_followed(self) -> None:
        """End each attempt that a newer attempt or another submission follows, even if its process still runs."""
        live = self._view.live if self._view.done is None else None
        for index, attempt in enumerate(self._all):
            is_followed = attempt is not self._all[-1] or (live is not None and live.member.token != attempt.token)
            if attempt.cause is None and is_followed:
                self.end(self.how_ended(index), index)

    def is_over(self, attempt: AttemptRecord, job: Job) -> bool:
        """Return whether a job that waits or runs has left this attempt behind.

        The queue was read before the journals, so a new attempt may have begun after the queue called its job pending.
        The restart count decides; where there is none, the next pass decides.
        """
        if job.restart_count is not None:
            return job.restart_count > attempt.restart_count
        return attempt.id != 0 and job.is_pending

    def how_ended(self, index: int = -1, job: Job | None = None) -> Failure:
        """Return how an attempt (the latest by default) ended: as `job` shows, or if its job continued without it."""
        attempt = self._all[index]
        seen = job or execution(self._history(attempt), attempt.restart_count)
        return classify(attempt, seen, flag_is_stale=self._is_stale(index))

    def end(self, failure: Failure, index: int = -1, *, finished: bool = False) -> None:
        """End an attempt (the latest by default) with this cause; `finished`: it trained to the last step."""
        ended = replace(self._all[index], cause=failure.cause, evidence=failure.evidence, ended=self._now)
        self._all[index] = replace(ended, finished=ended.finished or finished)

    def failed_node(self) -> str:
        """Return the node of the last ended attempt; empty if accounting shows that no node failed."""
        last = self.ended[-1]
        row = execution(self._history(last), last.restart_count)
        if row is None:
            return last.host
        return row.nodes if row.ending is Ending.NODE_FAILED else ""

    def add_unclaimed(self, live: MemberView, job: Job | None, failure: Failure) -> None:
        """Add an attempt for an execution that claimed no generation, so that it is counted and `why` can report it."""
        newest = max((attempt.checkpoint_step for attempt in self._all), default=0)
        self._all.append(
            AttemptRecord(
                id=0,
                run_id=self._view.run.id,
                token=live.member.token,
                job_id=job.id if job else live.job_id,
                restart_count=(job.restart_count or 0) if job else 0,
                started=(job.start if job else None) or self._now,
                host=job.nodes if job else "",
                ended=self._now,
                cause=failure.cause,
                evidence=failure.evidence,
                resumed_from=newest,
                checkpoint_step=newest,
                grown=self._now,
            )
        )

    def add_revoked(self) -> None:
        """Add an attempt for each execution of a revoked submission that ended before its worker claimed the run.

        Its job held what it asked for, until it was cancelled.
        """
        known = {attempt.execution for attempt in self._all}
        for place in self._view.others:
            for row in place.history if not place.submission.packed else ():
                restart = row.restart_count or 0
                if row.elapsed and row.is_ended and (place.member.token, restart) not in known:
                    known.add((place.member.token, restart))
                    self.add_unclaimed(place, row, Failure(Cause.CANCELLED, "revoked before its worker began"))

    def _accounted(self, index: int) -> AttemptRecord:
        """Return the attempt with its allocated seconds and GPUs, if it has ended and accounting has its row.

        The row may come in a later pass. A job that failed to launch and was released keeps its restart count: the row
        belongs to the last attempt with that count.
        """
        attempt = self._all[index]
        if attempt.cause is None or attempt.allocated_seconds is not None:
            return attempt
        if any(later.execution == attempt.execution for later in self._all[index + 1 :]):
            return attempt
        row = execution(self._history(attempt), attempt.restart_count)
        if row is None or row.elapsed is None:
            return attempt
        place = self._place(attempt)
        others = place is not None and place.submission.packed and place.sharing(attempt.restart_count) > 0
        if attempt.generation is None and others:  # all seconds belong to the runs that trained in the shared job
            return replace(attempt, allocated_seconds=0.0, gpus=row.gpus)
        sharing = max(1, place.sharing(attempt.restart_count)) if place else 1
        return replace(attempt, allocated_seconds=row.elapsed / sharing, gpus=row.gpus, sharing=sharing)

    def _history(self, attempt: AttemptRecord) -> Sequence[Job]:
        place = self._place(attempt)
        return place.history if place else ()

    def _place(self, attempt: AttemptRecord) -> MemberView | None:
        return next((place for place in self._view.places if place.member.token == attempt.token), None)

    def _is_stale(self, index: int) -> bool:
        """Return whether an earlier execution of the job was killed at the end of its grace: Slurm keeps the flag."""
        token = self._all[index].token
        return any(
            earlier.token == token and earlier.cause is Cause.PREEMPTED and not earlier.leave_cause
            for earlier in self._all[:index]
        )


class Conclusions:
    """One run's attempts, and the actions that follow from their ends; `continues` until the run is held or ended."""

    def __init__(self, view: RunView, policy: Policy, now: float, watched: float) -> None:
        self.view = view
        self.run = view.run
        self.policy = policy
        self.now = now
        self.watched = watched
        self.attempts = Attempts(view, now)
        self.continues = True

    @property
    def waiting_state(self) -> RunState:
        """Return the run's state while it has no job."""
        return RunState.INTERRUPTED if self.attempts else RunState.PLANNED

    def ended_as(self, live: MemberView, failure: Failure, job: Job | None) -> Iterator[Action]:
        """End the current attempt of the live submission, and decide what the run does next.

        If no attempt is open, because the job claimed no generation, add an ended one for `job`.
        """
        if self.attempts.current is None:
            self.attempts.add_unclaimed(live, job, failure)
            yield from self.judge(live, failure, requeued=False, node=job.nodes if job else "")
        else:
            yield from self.conclude(live, failure, requeued=False, node=job.nodes if job else "")

    def conclude(self, live: MemberView, failure: Failure, *, requeued: bool, node: str = "") -> Iterator[Action]:
        """End the latest attempt, and decide what the run does next."""
        if self.attempts:
            self.attempts.end(failure)
        yield from self.judge(live, failure, requeued=requeued, node=node)

    def judge(self, live: MemberView, failure: Failure, *, requeued: bool, node: str = "") -> Iterator[Action]:
        """Decide whether the run continues, is held, or ends after this failure.

        `requeued`: the job continues, under the same token. `node` is the queue's value, see `_bad_node`.
        """
        last = self.attempts.ended[-1] if self.attempts.ended else None
        outcome = verdict(self.run, self.attempts.ended, failure, self.policy, self.now)
        if last is not None and last.leave_cause is LeaveCause.EXHAUSTED:
            outcome = after_exhaustion(self.run, self.attempts.ended)
        outcome = at_rung(self.run, self.attempts.ended, failure.cause) or outcome
        self.continues = outcome.state is RunState.INTERRUPTED
        resources, notes = dict(outcome.resources), []
        bad = self._bad_node(live, failure, node)
        if bad:
            why = "a device failed" if failure.cause is Cause.KILLED else failure.cause.value
            yield AvoidNode(bad, self.run.id, f"{why}, run {self.run.name}")
            notes.append(f"the study avoids node {bad} for {self.policy.exclude_hours:g} h")
        if outcome.reason:
            notes.append(f"held: {outcome.reason}" if outcome.state is RunState.HELD else outcome.reason)
        if self.continues and requeued:
            # the job itself continues, under the same token
            notes.append("is queued to continue")
            more = after_a_timeout(self.run) if failure.cause is Cause.TIMEOUT else None
            if more is not None and live.job is not None and live.job.is_pending:
                resources["time_limit_minutes"] = more
                notes[-1] += f", with {more} min"
                yield Extend(live.job.id, self.run.id, live.submission.backend, more)
        else:
            yield from give_up(live, self.run.id)
            if self.continues:
                wait = f" in {outcome.not_before - self.now:.0f} s" if outcome.not_before else ""
                notes.append(f"continues{wait}")
        yield SetRun(
            self.run.id,
            outcome.state,
            reason=outcome.reason,
            cause=None if outcome.held_for is HeldFor.RUNG else failure.cause,
            not_before=outcome.not_before,
            resources=resources,
            note="; ".join(notes),
            held_for=outcome.held_for,
            failure=failure,
        )
        if self.continues and not requeued and not outcome.not_before:
            yield Submit(self.run.id)

    def _bad_node(self, live: MemberView, failure: Failure, node: str) -> str:
        """Return the node that caused this failure, if one is known; `node` is what the queue says."""
        has_others = BACKENDS[live.submission.backend].is_site  # else there is only this machine
        if not has_others or not self.policy.exclude_hours or not self.attempts.ended:
            return ""
        if failure.cause is Cause.KILLED:
            return self.attempts.ended[-1].failed_node
        found = (node or self.attempts.failed_node()) if failure.cause is Cause.NODE_FAIL else ""
        return "" if set(found) & set("[,") else found  # of several nodes, the failed one is unknown


def give_up(live: MemberView, run_id: str) -> Iterator[Action]:
    """Revoke the submission, so that its job never trains the run again; cancel the job if no other run needs it."""
    yield Revoke(live.member.token, run_id)
    if live.job is not None and not live.job.is_ended and not live.is_needed:
        yield CancelJob(live.job_id, run_id, live.submission.backend)
