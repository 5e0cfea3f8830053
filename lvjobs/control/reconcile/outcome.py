"""The consequences of a failure of a run's latest attempt, or of its job. Pure."""

from collections.abc import Iterator

from lvjobs.cluster.backends import BACKENDS
from lvjobs.cluster.protocol import Job
from lvjobs.control.reconcile.actions import Action, AvoidNode, CancelJob, Extend, Revoke, SetRun, Submit
from lvjobs.control.reconcile.attempts import Attempts
from lvjobs.control.reconcile.classify import Failure
from lvjobs.control.reconcile.policy import Verdict, verdict
from lvjobs.control.reconcile.views import MemberView, RunView
from lvjobs.control.submission.time_limits import after_a_timeout
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, LeaveCause, RunState


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
            outcome = Verdict()  # the budget gate decides whether it may
        self.continues = outcome.state is RunState.INTERRUPTED
        resources, notes = dict(outcome.resources), []
        bad = self._bad_node(live, failure, node)
        if bad:
            why = "a device failed" if failure.cause is Cause.KILLED else failure.cause.value
            yield AvoidNode(bad, self.run.id, f"{why}, run {self.run.name}")
            notes.append(f"the study avoids node {bad} for {self.policy.exclude_hours:g} h")
        if outcome.reason:
            notes.append(outcome.reason if self.continues else f"held: {outcome.reason}")
        if self.continues and requeued:
            # the job itself continues, under the same token
            notes.append("waits in the queue to go on")
            more = after_a_timeout(self.run) if failure.cause is Cause.TIMEOUT else None
            if more is not None and live.job is not None and live.job.is_pending:
                resources["time_limit_minutes"] = more
                notes[-1] += f", with {more} min"
                yield Extend(live.job.id, self.run.id, live.submission.backend, more)
        else:
            yield from give_up(live, self.run.id)
            if self.continues:
                wait = f" in {outcome.not_before - self.now:.0f} s" if outcome.not_before else ""
                notes.append(f"goes on{wait}")
        yield SetRun(
            self.run.id,
            outcome.state,
            reason=outcome.reason,
            cause=failure.cause,
            not_before=outcome.not_before,
            resources=resources,
            note="; ".join(notes),
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
