"""The consequences of a failure of a run's latest attempt, or of its job. Pure."""

from collections.abc import Iterator

from lvjobs.cluster.backends import BACKENDS
from lvjobs.cluster.protocol import Job
from lvjobs.control.reconcile.actions import Action, AvoidNode, CancelJob, Extend, Revoke, SetRun, Submit
from lvjobs.control.reconcile.attempts import Attempts
from lvjobs.control.reconcile.classify import Failure
from lvjobs.control.reconcile.policy import GoOn, HoldRun, Stop, verdict
from lvjobs.control.reconcile.views import MemberView, RunView
from lvjobs.control.submission.time_limits import after_a_timeout
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, LeaveCause, RunState


class Conclusions:
    """One run's attempts, and the actions that follow from their ends; `goes_on` until the run is held or ended."""

    def __init__(self, view: RunView, policy: Policy, now: float, watched: float) -> None:
        self.view = view
        self.run = view.run
        self.policy = policy
        self.now = now
        self.watched = watched
        self.attempts = Attempts(view, now)
        self.goes_on = True

    @property
    def waiting_state(self) -> RunState:
        """Return the run's state while it has no job."""
        return RunState.INTERRUPTED if self.attempts else RunState.PLANNED

    def ended_as(self, live: MemberView, death: Failure, job: Job | None) -> Iterator[Action]:
        """End the current attempt of the live submission, and decide what the run does next.

        If no attempt is open, because the job claimed no generation, add an ended one for `job`.
        """
        if self.attempts.current is None:
            self.attempts.add_unclaimed(live, job, death)
            yield from self.judge(live, death, requeued=False, node=job.nodes if job else "")
        else:
            yield from self.died(live, death, requeued=False, node=job.nodes if job else "")

    def died(self, live: MemberView, death: Failure, *, requeued: bool, node: str = "") -> Iterator[Action]:
        """End the latest attempt, and decide what the run does next."""
        if self.attempts:
            self.attempts.end(death)
        yield from self.judge(live, death, requeued=requeued, node=node)

    def judge(self, live: MemberView, death: Failure, *, requeued: bool, node: str = "") -> Iterator[Action]:
        """Decide whether the run continues, is held, or ends after this failure.

        `requeued`: the job continues, under the same token. `node` is the queue's value, see `_bad_node`.
        """
        last = self.attempts.ended[-1] if self.attempts.ended else None
        if last is not None and last.leave_cause is LeaveCause.EXHAUSTED:
            outcome: GoOn | HoldRun | Stop = GoOn()  # the budget gate decides whether it may
        else:
            outcome = verdict(self.run, self.attempts.ended, death, self.policy, self.now)
        noted = []
        bad = self._bad_node(live, death, node)
        if bad:
            why = "a device failed" if death.cause is Cause.KILLED else death.cause.value
            yield AvoidNode(bad, self.run.id, f"{why}, run {self.run.name}")
            noted.append(f"the study avoids node {bad} for {self.policy.exclude_hours:g} h")
        if isinstance(outcome, GoOn):
            noted += [outcome.warning] if outcome.warning else []
            resources = dict(outcome.resources)
            if requeued:
                # the job itself continues, under the same token
                then = "waits in the queue to go on"
                more = after_a_timeout(self.run) if death.cause is Cause.TIMEOUT else None
                if more is not None and live.job is not None and live.job.is_pending:
                    resources["time_limit_minutes"] = more
                    then += f", with {more} min"
                    yield Extend(live.job.id, self.run.id, more, live.submission.backend)
            else:
                then = "goes on" if not outcome.not_before else f"goes on in {outcome.not_before - self.now:.0f} s"
                yield from give_up(live, self.run.id)
            yield SetRun(
                self.run.id,
                RunState.INTERRUPTED,
                reason=outcome.warning,
                cause=death.cause,
                not_before=outcome.not_before,
                resources=resources,
                note="; ".join([*noted, then]),
                death=death,
            )
            if not requeued and not outcome.not_before:
                yield Submit(self.run.id)
            return
        self.goes_on = False
        yield from give_up(live, self.run.id)
        if isinstance(outcome, Stop):
            yield SetRun(self.run.id, RunState.CANCELLED, cause=death.cause, note="; ".join(noted), death=death)
        elif isinstance(outcome, HoldRun):
            yield SetRun(
                self.run.id,
                RunState.HELD,
                reason=outcome.reason,
                cause=death.cause,
                note="; ".join([*noted, f"held: {outcome.reason}"]),
                death=death,
            )

    def _bad_node(self, live: MemberView, death: Failure, node: str) -> str:
        """Return the node that caused this failure, if one is known; `node` is what the queue says."""
        has_others = BACKENDS[live.submission.backend].is_site  # else there is only this machine
        if not has_others or not self.policy.exclude_hours or not self.attempts.ended:
            return ""
        if death.cause is Cause.KILLED:
            return self.attempts.ended[-1].failed_node
        found = (node or self.attempts.failed_node()) if death.cause is Cause.NODE_FAIL else ""
        return "" if set(found) & set("[,") else found  # of several nodes, the failed one is unknown


def give_up(live: MemberView, run_id: str) -> Iterator[Action]:
    """Revoke the submission, so that its job never trains the run again; cancel the job if no other run needs it."""
    yield Revoke(live.member.token, run_id)
    if live.job is not None and not live.job.is_ended and not live.is_needed:
        yield CancelJob(live.job_id, run_id, live.submission.backend)
