"""What to do about one run: a pure function of what is known of it, the policy and the clock."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lvjobs.cluster.protocol import Job
from lvjobs.control.actions import (
    Action,
    Adopt,
    CancelJob,
    LiftHold,
    MarkMissing,
    Release,
    Revoke,
    SaveAttempt,
    SetRun,
    Settle,
    Submit,
)
from lvjobs.control.classify import Death, classify, classify_unclaimed, execution
from lvjobs.control.policy import GoOn, Hold, Stop, verdict
from lvjobs.control.views import MemberView, RunView
from lvjobs.ledger.records import Attempt
from lvjobs.study.config import Policy
from lvjobs.study.words import Cause, RunState

_MARGIN_SECONDS = 10.0
"""A hold that ends sooner is left alone: lifting it would only push the start away."""


def decide(view: RunView, policy: Policy, now: float) -> list[Action]:
    """The actions for one run, in the order they are to be taken."""
    case = _Case(view, policy, now)
    conclusions = list(case.actions())
    return [*_see_off(view, policy, now), *case.learned(), *conclusions]


def _see_off(view: RunView, policy: Policy, now: float) -> Iterator[Action]:
    """Jobs that may train this run no more: cancel them while they are somewhere, settle them when they are not."""
    for other in view.others:
        if other.job is not None and not other.job.is_ended:
            yield CancelJob(other.job_id, view.run.id, other.submission.backend)
        elif other.is_gone(now, policy.lost_seconds):
            yield Settle(other.member.token, view.run.id)
        elif other.queue_known and other.member.missing_since is None:
            yield MarkMissing(other.member.token, view.run.id, now)


class _Case:
    """One run's case: the evidence at hand, and the conclusions as they are drawn."""

    def __init__(self, view: RunView, policy: Policy, now: float) -> None:
        self.view = view
        self.run = view.run
        self.policy = policy
        self.now = now
        self.attempts = list(view.attempts)

    @property
    def _current(self) -> Attempt | None:
        """The latest attempt, if it has not ended."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].cause is None else None

    def actions(self) -> Iterator[Action]:
        self._close_superseded()
        if self.run.state is RunState.COMPLETED:
            return
        if self.view.done is not None:
            yield from self._complete()
        elif self.run.state in (RunState.HELD, RunState.PAUSED, RunState.CANCELLED):
            self._wind_down()
        elif self.view.live is None:
            if self.now >= self.run.not_before:
                yield Submit(self.run.id)
        else:
            yield from self._follow(self.view.live)

    # -- attempts -----------------------------------------------------------------------------------------------

    def learned(self) -> Iterator[Action]:
        """What is new of the attempts: journal lines, ends, and executions that never claimed a generation."""
        for index, attempt in enumerate(self.attempts):
            known = index < len(self.view.attempts) and attempt is self.view.attempts[index]
            if not known or attempt.id == 0 or attempt.generation in self.view.changed:
                yield SaveAttempt(attempt)

    def _close_superseded(self) -> None:
        """An attempt that a newer one or another submission follows is over for us, whatever its process still does."""
        live = self.view.live if self.view.done is None else None
        for index, attempt in enumerate(self.attempts):
            is_followed = attempt is not self.attempts[-1] or (live is not None and live.member.token != attempt.token)
            if attempt.cause is None and is_followed:
                self._end(index, self._death(index))

    def _death(self, index: int) -> Death:
        """How an execution ended that its job has left behind."""
        attempt = self.attempts[index]
        seen = execution(self._history(attempt), attempt.restart_count)
        return classify(attempt, seen, flag_is_stale=self._stale(index))

    def _end(self, index: int, death: Death) -> None:
        self.attempts[index] = replace(self.attempts[index], cause=death.cause, evidence=death.evidence, ended=self.now)

    def _history(self, attempt: Attempt) -> Sequence[Job]:
        places = self.view.others if self.view.live is None else [self.view.live, *self.view.others]
        return next((place.history for place in places if place.member.token == attempt.token), ())

    def _stale(self, index: int) -> bool:
        """Whether an earlier run of the same job was killed at the end of its grace (its flag then sticks)."""
        token = self.attempts[index].token
        return any(
            earlier.token == token and earlier.cause is Cause.PREEMPTED and not earlier.leave_cause
            for earlier in self.attempts[:index]
        )

    # -- the run ------------------------------------------------------------------------------------------------

    def _complete(self) -> Iterator[Action]:
        done = self.view.done
        assert done is not None
        if self._current is not None:
            self._end(len(self.attempts) - 1, Death(Cause.COMPLETED, f"done at step {done.step}"))
            self.attempts[-1] = replace(self.attempts[-1], finished=True)
        if self.view.live is not None:
            yield Settle(self.view.live.member.token, self.run.id)
        yield SetRun(self.run.id, RunState.COMPLETED, cause=Cause.COMPLETED, note=f"completed at step {done.step}")

    def _wind_down(self) -> None:
        """The run is not to go on; its last attempt may still be on its way out."""
        current = self._current
        if current is None:
            return
        jobs = [other for other in self.view.others if other.member.token == current.token]
        if all(other.is_gone(self.now, self.policy.lost_seconds) for other in jobs):
            obeyed = current.leave_cause in ("", "stopped") and not current.error
            cancelled = self.run.state is RunState.CANCELLED and obeyed
            word = jobs[0].last_word if jobs else None
            death = Death(Cause.CANCELLED, "cancelled by lvjobs") if cancelled else classify(current, word)
            self._end(len(self.attempts) - 1, death)

    def _follow(self, live: MemberView) -> Iterator[Action]:
        current = self._current
        if current is not None and current.error:
            yield from self._died(live, classify(current, None), requeued=False)
            return
        if live.last_word is None:
            yield from self._missing(live)
            return
        if live.member.missing_since is not None:
            yield MarkMissing(live.member.token, self.run.id, None)
        if live.submission.job_id is None:
            yield Adopt(live.member.token, live.job_id.partition("_")[0])
        word = live.last_word
        assert word is not None
        if word.is_pending:
            yield from self._pending(live, word)
        elif word.is_active:
            yield from self._active(live, word)
        else:
            yield from self._ended(live, word)

    def _missing(self, live: MemberView) -> Iterator[Action]:
        """Neither the queue nor accounting has the job: not submitted, ended long ago, or not asked properly."""
        current = self._current
        if not live.queue_known:
            return
        if current is not None:
            if current.leave_cause:
                yield from self._died(live, classify(current, None), requeued=False)
                return
            if live.submission.job_id is None:
                yield Adopt(live.member.token, current.job_id.partition("_")[0])
                yield SetRun(self.run.id, RunState.RUNNING, cause=self.run.cause)
        since = live.member.missing_since
        if since is None:
            yield MarkMissing(live.member.token, self.run.id, self.now)
            return
        submitted = live.submission.job_id is not None
        patience = self.policy.lost_seconds if submitted else self.policy.unclear_seconds
        if self.now - since < patience or not live.history_known:
            return
        if submitted:
            evidence = f"job {live.job_id} is in neither squeue nor sacct for {self.now - since:.0f} s"
            yield from self._ended_as(live, Death(Cause.LOST, evidence), None)
        else:
            yield Revoke(live.member.token, self.run.id)
            note = f"no job ever carried token {live.member.token}: it was not submitted"
            yield SetRun(self.run.id, self._waiting_state(), cause=self.run.cause, note=note)

    def _waiting_state(self) -> RunState:
        return RunState.INTERRUPTED if self.attempts else RunState.PLANNED

    def _pending(self, live: MemberView, job: Job) -> Iterator[Action]:
        current, cause = self._current, self.run.cause
        if current is not None and self._is_over(current, job):
            death = self._death(len(self.attempts) - 1)
            cause = death.cause
            yield from self._died(live, death, requeued=True)
            if not self._goes_on:
                return
        state = RunState.INTERRUPTED if self.attempts else RunState.QUEUED
        yield SetRun(self.run.id, state, reason=job.reason, cause=cause)
        if "launch failed requeued held" in job.reason.lower().replace("_", " "):
            yield from self._failed_launch(live, job)
        elif job.reason == "BeginTime" and job.start is not None and job.start > self.now + _MARGIN_SECONDS:
            restart = job.restart_count or 0
            if self.attempts and live.member.hold_lifted < restart:
                yield LiftHold(job.id, self.run.id, live.member.token, restart, live.submission.backend)

    def _is_over(self, attempt: Attempt, job: Job) -> bool:
        """Whether a job that is back in the queue, or runs, has left this attempt behind.

        The queue was asked before the journals were read, so an attempt that is new to us may have begun after the
        queue called its job pending: the restart count decides, and where there is none, the next pass does.
        """
        if job.restart_count is not None:
            return job.restart_count > attempt.restart_count
        return attempt.id != 0 and job.is_pending

    def _failed_launch(self, live: MemberView, job: Job) -> Iterator[Action]:
        restart = job.restart_count or 0
        if any(a.token == live.member.token and a.restart_count == restart for a in self.attempts):
            yield Release(job.id, self.run.id, live.submission.backend)
            return
        death = Death(Cause.LAUNCH_FAILED, f"Slurm says {job.reason}")
        self._add_unclaimed(live, job, death)
        yield from self._judge(live, death, requeued=True)
        if self._goes_on:
            yield SetRun(self.run.id, RunState.INTERRUPTED, reason=job.reason, cause=death.cause)
            yield Release(job.id, self.run.id, live.submission.backend)

    def _active(self, live: MemberView, job: Job) -> Iterator[Action]:
        current = self._current
        if current is not None and self._is_over(current, job):
            death = self._death(len(self.attempts) - 1)
            yield from self._died(live, death, requeued=True)
            if self._goes_on:
                yield SetRun(self.run.id, RunState.RUNNING, reason="starting", cause=death.cause)
            return
        quiet_since = current.grown if current is not None else job.start
        if job.state == "RUNNING" and quiet_since and self.now - quiet_since > self.policy.hung_seconds:
            evidence = f"no journal line for {self.now - quiet_since:.0f} s"
            yield from self._ended_as(live, Death(Cause.HUNG, evidence), job)
            return
        reason = "" if current is not None else "starting"
        yield SetRun(self.run.id, RunState.RUNNING, reason=reason, cause=self.run.cause)

    def _ended(self, live: MemberView, job: Job) -> Iterator[Action]:
        last, seen = len(self.attempts) - 1, self._last_execution(live, job)
        if self._current is not None and self._is_over(self._current, job):
            self._end(last, self._death(last))  # the job's last run, which ended now, claimed nothing
        if self._current is not None:
            death = classify(self._current, seen, flag_is_stale=self._stale(last))
        else:
            death = classify_unclaimed(seen)
        yield from self._ended_as(live, death, job)

    def _ended_as(self, live: MemberView, death: Death, job: Job | None) -> Iterator[Action]:
        """The live submission's job is over with this death: its attempt's, or, where it claimed none, its own."""
        if self._current is None:
            self._add_unclaimed(live, job, death)
            yield from self._judge(live, death, requeued=False, node=job.nodes if job else "")
        else:
            yield from self._died(live, death, requeued=False, node=job.nodes if job else "")

    @staticmethod
    def _last_execution(live: MemberView, job: Job) -> Job:
        """The queue's word; accounting's where it saw an out-of-memory step that the job's own state hides."""
        last = live.history[-1] if live.history else None
        return last if last is not None and last.state == "OUT_OF_MEMORY" else job

    def _add_unclaimed(self, live: MemberView, job: Job | None, death: Death) -> None:
        """An execution that claimed no generation is an attempt all the same: it counts, and `why` can tell of it."""
        self.attempts.append(
            Attempt(
                id=0,
                run_id=self.run.id,
                token=live.member.token,
                job_id=job.id if job else live.job_id,
                restart_count=(job.restart_count or 0) if job else 0,
                started=(job.start if job else None) or self.now,
                host=job.nodes if job else "",
                ended=self.now,
                cause=death.cause,
                evidence=death.evidence,
                resumed_from=self._newest_checkpoint(),
                checkpoint_step=self._newest_checkpoint(),
                grown=self.now,
            )
        )

    def _newest_checkpoint(self) -> int:
        return max((attempt.checkpoint_step for attempt in self.attempts), default=0)

    # -- conclusions --------------------------------------------------------------------------------------------

    _goes_on = True

    def _died(self, live: MemberView, death: Death, *, requeued: bool, node: str = "") -> Iterator[Action]:
        """The latest attempt has ended."""
        if self.attempts:
            self._end(len(self.attempts) - 1, death)
        yield from self._judge(live, death, requeued=requeued, node=node)

    def _judge(self, live: MemberView, death: Death, *, requeued: bool, node: str = "") -> Iterator[Action]:
        ended = [attempt for attempt in self.attempts if attempt.cause is not None]
        outcome = verdict(self.run, ended, death, self.policy, self.now, node)
        note = f"{death.cause.value}: {death.evidence}"
        if isinstance(outcome, GoOn):
            note += f"; {outcome.warning}" if outcome.warning else ""
            if requeued:
                # the job itself goes on, under the same token
                then = "waits in the queue to go on"
                reason = outcome.warning
            else:
                then = "goes on" if not outcome.not_before else f"goes on in {outcome.not_before - self.now:.0f} s"
                reason = outcome.warning or f"after {death.cause.value}"
                yield from self._give_up(live)
            yield SetRun(
                self.run.id,
                RunState.INTERRUPTED,
                reason=reason,
                cause=death.cause,
                not_before=outcome.not_before,
                resources=outcome.resources,
                note=f"{note}; {then}",
            )
            if not requeued and not outcome.not_before:
                yield Submit(self.run.id)
            return
        self._goes_on = False
        yield from self._give_up(live)
        if isinstance(outcome, Stop):
            yield SetRun(self.run.id, RunState.CANCELLED, cause=death.cause, note=note)
        elif isinstance(outcome, Hold):
            yield SetRun(
                self.run.id,
                RunState.HELD,
                reason=outcome.reason,
                cause=death.cause,
                note=f"{note}; held: {outcome.reason}",
            )

    def _give_up(self, live: MemberView) -> Iterator[Action]:
        """This submission's job may not train the run any more: not if it revives, nor if it still runs."""
        yield Revoke(live.member.token, self.run.id)
        if live.job is not None and not live.job.is_ended:
            yield CancelJob(live.job_id, self.run.id, live.submission.backend)
