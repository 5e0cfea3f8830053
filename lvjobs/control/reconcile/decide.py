"""The decision about one run: a pure function of its view, the policy and the clock."""

from collections.abc import Iterator

from lvjobs.cluster.out_of_memory import with_accounting
from lvjobs.cluster.protocol import Job
from lvjobs.cluster.states import JobHold, explain
from lvjobs.control.reconcile.actions import (
    Action,
    Adopt,
    CancelJob,
    LiftHold,
    MarkMissing,
    RecordEvent,
    Release,
    Revoke,
    SetRun,
    Settle,
    Submit,
)
from lvjobs.control.reconcile.attempts import Attempts, Conclusions, give_up
from lvjobs.control.reconcile.classify import Failure, classify, classify_unclaimed
from lvjobs.control.reconcile.hang import silence_of
from lvjobs.control.reconcile.policy import waits_until
from lvjobs.control.reconcile.views import MemberView, RunView
from lvjobs.ledger.records import AttemptRecord
from lvjobs.records.run_files import Done
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, LeaveCause, RunState

_NO_CAUSE = (LeaveCause.NONE, LeaveCause.UNKNOWN)
_LEFT_A_PACK = (LeaveCause.EXHAUSTED, LeaveCause.RUNG, LeaveCause.STOPPED, LeaveCause.SUPERSEDED)


def decide(view: RunView, policy: Policy, now: float, watched: float = 0.0) -> list[Action]:
    """Return the actions for one run, in the order in which they have to be carried out.

    `now` and `watched` are in seconds since the epoch; hang detection counts from `watched` on (see
    `lvjobs.control.reconcile.hang`).
    """
    case = _Case(view, policy, now, watched)
    conclusions = list(case.actions())
    case.attempts.add_revoked()
    news = [RecordEvent(view.run.id, line) for line in view.news]
    return [*_see_off(view, policy, now), *case.attempts.learned(), *news, *conclusions]


def due(view: RunView, policy: Policy, now: float, watched: float = 0.0) -> float | None:
    """Return when the run needs its next decision if nothing happens until then; None: never.

    All times are in seconds since the epoch; the arguments are those of `decide`.
    """
    if view.unseen_until is not None:
        return view.unseen_until
    if view.done is not None or view.run.state.is_at_rest:
        return None
    if view.live is None:
        return waits_until(view.run, policy, now)
    job, current = view.live.job, Attempts(view, now).current
    if job is None or not job.is_running or (current is not None and current.generation in view.changed):
        return None  # its journal has grown: the next pass comes long before hang detection could end the attempt
    silence = silence_of(view.live, current, job, watched, now)
    return now + max(0.0, policy.hung_seconds - silence)


def _see_off(view: RunView, policy: Policy, now: float) -> Iterator[Action]:
    """Cancel the jobs of revoked submissions while they exist; settle those whose jobs are gone."""
    for other in view.others:
        if other.is_gone(now, policy.lost_seconds):
            if view.unseen_until is None:
                yield Settle(other.member.token, view.run.id)
        elif other.job is not None and not other.job.is_ended:
            if not other.is_needed:
                yield CancelJob(other.job_id, view.run.id, other.submission.backend)
        elif other.queue_known and not other.is_marked(now):
            yield MarkMissing(other.member.token, view.run.id, now)


class _Case(Conclusions):
    """One run's case: its view, and the actions that follow."""

    def actions(self) -> Iterator[Action]:
        self.attempts.close_followed()
        if self.run.state is RunState.COMPLETED:
            yield from self._settle_completed()
        elif self.view.unseen_until is not None:
            if not self.run.state.is_at_rest:
                reason = "its job has ended; its last output is not visible on this host yet"
                yield SetRun(self.run.id, RunState.RUNNING, reason=reason, cause=self.run.cause)
        elif self.view.done is not None:
            yield from self._complete(self.view.done)
        elif self.run.state in (RunState.HELD, RunState.PAUSED, RunState.CANCELLED):
            self._wind_down()
        elif self.view.live is None:
            yield from self._start()
        else:
            yield from self._follow(self.view.live)

    def _start(self) -> Iterator[Action]:
        first = self.view.after
        if first is None or first.state is RunState.COMPLETED:
            if waits_until(self.run, self.policy, self.now) is None:
                yield Submit(self.run.id)
        elif first.state is RunState.CANCELLED:
            note = f"{first.name}, on which it depends, was cancelled"
            yield SetRun(self.run.id, RunState.CANCELLED, cause=Cause.CANCELLED, note=note)
        else:
            yield SetRun(self.run.id, self.waiting_state, reason=f"depends on {first.name}", cause=self.run.cause)

    def _complete(self, done: Done) -> Iterator[Action]:
        if self.attempts.current is not None:
            self.attempts.end(Failure(Cause.COMPLETED, f"done at step {done.step}"), finished=True)
        yield from self._settle_completed()
        yield SetRun(self.run.id, RunState.COMPLETED, cause=Cause.COMPLETED, note=f"completed at step {done.step}")

    def _settle_completed(self) -> Iterator[Action]:
        """Settle a completed run's submission once its job has ended and accounting has its row.

        A job that Slurm requeued and holds would never end. It is cancelled.
        """
        live = self.view.live
        if live is None:
            return
        if live.job is not None and live.job.is_queued and live.job.hold.needs_release and not live.is_needed:
            yield CancelJob(live.job_id, self.run.id, live.submission.backend)
        waited = live.is_gone(self.now, self.policy.lost_seconds) and live.job is None
        is_recorded = any(row.is_ended for row in live.history) or (live.history_known and not live.history)
        if waited or (is_recorded and live.last_word is not None and live.last_word.is_ended):
            yield Settle(live.member.token, self.run.id)
        elif live.queue_known and live.job is None and not live.is_marked(self.now):
            yield MarkMissing(live.member.token, self.run.id, self.now)

    def _wind_down(self) -> None:
        """End the last attempt of a held, paused or cancelled run once its job is gone."""
        current = self.attempts.current
        if current is None:
            return
        jobs = [other for other in self.view.others if other.member.token == current.token]
        if all(other.is_gone(self.now, self.policy.lost_seconds) for other in jobs):
            obeyed = current.leave_cause in (*_NO_CAUSE, LeaveCause.STOPPED) and not current.error
            cancelled = self.run.state is RunState.CANCELLED and obeyed
            word = jobs[0].last_word if jobs else None
            if word is not None and self.attempts.is_over(current, word):
                self.attempts.end(self.attempts.how_ended())  # its job was requeued before; it may be an orphan
            else:
                self.attempts.end(
                    Failure(Cause.CANCELLED, "cancelled by lvjobs") if cancelled else classify(current, word)
                )

    def _follow(self, live: MemberView) -> Iterator[Action]:
        current, word = self.attempts.current, live.last_word
        if current is not None and current.error:
            yield from self.conclude(live, classify(current, None), requeued=False)
        elif word is None:
            yield from self._missing(live)
        else:
            if live.member.missing_since is not None:
                yield MarkMissing(live.member.token, self.run.id, None)
            if live.submission.job_id is None:
                yield Adopt(live.member.token, live.job_id.partition("_")[0])
            follow = self._ended if word.is_ended else self._active if word.is_active else self._waiting
            yield from follow(live, word)

    def _missing(self, live: MemberView) -> Iterator[Action]:
        """Decide about a job that neither the queue nor accounting shows.

        It was not submitted, it ended long ago, or one of the two did not answer.
        """
        current, since = self.attempts.current, live.member.missing_since
        if not live.queue_known:
            return
        if current is not None and current.leave_cause not in _NO_CAUSE:
            yield from self.conclude(live, classify(current, None), requeued=False)
            return
        if current is not None and live.submission.job_id is None:
            yield Adopt(live.member.token, current.job_id.partition("_")[0])
            yield SetRun(self.run.id, RunState.RUNNING, cause=self.run.cause)
        if since is None or not live.is_marked(self.now):
            yield MarkMissing(live.member.token, self.run.id, self.now)
            return
        submitted = live.submission.job_id is not None or bool(live.history)
        patience = self.policy.lost_seconds if submitted else self.policy.unclear_seconds
        if self.now - since < patience or not live.history_known:
            return
        if submitted:
            missing = "squeue, and sacct reports no end of it" if live.history else "squeue and sacct"
            evidence = f"job {live.job_id} has been missing for {self.now - since:.0f} s from {missing}"
            yield from self.ended_as(live, Failure(Cause.LOST, evidence), None)
        else:
            yield Revoke(live.member.token, self.run.id)
            note = f"no job has token {live.member.token}: it was not submitted"
            yield SetRun(self.run.id, self.waiting_state, cause=self.run.cause, note=note)

    def _waiting(self, live: MemberView, job: Job) -> Iterator[Action]:
        """Decide about a job that is pending, or in an unknown state: then the journal shows whether it runs."""
        if not job.is_pending:
            text = f"Slurm reports its job as {job.state}, a state unknown to lvjobs; treated as active"
            yield RecordEvent(self.run.id, text)
        if job.hold is JobHold.REQUEUED_TOO_OFTEN:
            yield from self._replace(live, job)
            return
        current, cause = self.attempts.current, self.run.cause
        if current is not None and self.attempts.is_over(current, job):
            failure = self.attempts.how_ended()
            cause = failure.cause
            yield from self.conclude(live, failure, requeued=True)
            if not self.continues:
                return
        state = RunState.INTERRUPTED if self.attempts else RunState.QUEUED
        if not job.is_pending and self.attempts.current is not None:
            state = RunState.RUNNING
        unknown = "" if job.is_pending else f"Slurm says {job.state}"
        reason = ": ".join(filter(None, (unknown, explain(job.reason, job.id))))
        yield SetRun(self.run.id, state, reason=reason, cause=cause)
        if job.hold is JobHold.LAUNCH_FAILED:
            yield from self._failed_launch(live, job)
        elif job.is_held_back(self.now) and self.attempts and live.member.hold_lifted < (job.restart_count or 0):
            restart = job.restart_count or 0
            yield LiftHold(job.id, self.run.id, live.submission.backend, live.member.token, restart)

    def _replace(self, live: MemberView, job: Job) -> Iterator[Action]:
        """Replace a job that Slurm holds because it was requeued too often; Slurm counts a new job from zero."""
        if self.attempts.current is not None:
            yield from self.conclude(live, self.attempts.how_ended(), requeued=False)
            return
        yield from give_up(live, self.run.id)
        note = f"job {job.id} was requeued too often and is held by Slurm ({job.reason}); lvjobs submits another"
        yield SetRun(
            self.run.id,
            self.waiting_state,
            reason="its job was requeued too often",
            cause=self.run.cause,
            not_before=self.run.not_before,
            note=note,
        )
        if waits_until(self.run, self.policy, self.now) is None:
            yield Submit(self.run.id)

    def _failed_launch(self, live: MemberView, job: Job) -> Iterator[Action]:
        restart = job.restart_count or 0
        if any(a.token == live.member.token and a.restart_count == restart for a in self.attempts):
            yield Release(job.id, self.run.id, live.submission.backend)
            return
        failure = Failure(Cause.LAUNCH_FAILED, f"Slurm says {job.reason}")
        self.attempts.add_unclaimed(live, job, failure)
        yield from self.judge(live, failure, requeued=True)
        if self.continues:
            yield SetRun(self.run.id, RunState.INTERRUPTED, reason=explain(job.reason), cause=failure.cause)
            yield Release(job.id, self.run.id, live.submission.backend)

    def _active(self, live: MemberView, job: Job) -> Iterator[Action]:
        current = self.attempts.current
        if current is not None and self.attempts.is_over(current, job):
            failure = self.attempts.how_ended()
            yield from self.conclude(live, failure, requeued=True)
            if self.continues:
                yield SetRun(self.run.id, RunState.RUNNING, reason=self._begins(live, job), cause=failure.cause)
            return
        silence = silence_of(live, current, job, self.watched, self.now)
        is_hung = job.is_running and silence > self.policy.hung_seconds
        if current is not None and ((live.submission.packed and _left_alone(current)) or (is_hung and current.is_over)):
            yield from self.ended_as(live, classify(current, None), job)  # it left a shared job, which continues
        elif is_hung:
            yield from self.ended_as(live, Failure(Cause.HUNG, f"no journal line for {silence:.0f} s"), job)
        else:
            yield SetRun(self.run.id, RunState.RUNNING, reason=self._begins(live, job), cause=self.run.cause)

    def _begins(self, live: MemberView, job: Job) -> str:
        """Return what a run waits for although its job runs; empty if it trains."""
        if job.is_suspended:
            return f"job {job.id} is suspended ({job.state})"
        if self.attempts.current is not None:
            return ""
        return f"waits for its turn in shared job {job.id}" if live.is_shared(job) else "starting"

    def _ended(self, live: MemberView, job: Job) -> Iterator[Action]:
        seen = with_accounting(job, live.history)
        if self.attempts.current is not None and self.attempts.is_over(self.attempts.current, job):
            self.attempts.end(self.attempts.how_ended())  # the job's last execution claimed no generation
        claimed = self.attempts.current is not None
        waited = not claimed and live.is_shared(job)
        failure = self.attempts.how_ended(job=seen) if claimed else classify_unclaimed(job if waited else seen)
        if (
            waited and failure.cause is not Cause.CANCELLED
        ):  # lvjobs does not cancel such a job: see `MemberView.is_needed`
            yield from give_up(live, self.run.id)  # the shared job ended before the run's turn: no failure of the run
            note = f"shared job {job.id} ended before its turn"
            yield SetRun(self.run.id, self.waiting_state, cause=self.run.cause, note=note)
            yield Submit(self.run.id)
        else:
            yield from self.ended_as(live, failure, job)


def _left_alone(current: AttemptRecord) -> bool:
    """Return whether the attempt left a shared job that continues. Any other end also ends the job."""
    return bool(current.died) or current.leave_cause in _LEFT_A_PACK
