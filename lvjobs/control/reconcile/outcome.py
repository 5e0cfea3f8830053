"""What follows for a run from a death of its latest attempt, or of its job. Pure."""

from collections.abc import Iterator

from lvjobs.cluster.backends import LOCAL
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
    """One run's attempts, and the conclusions as they are drawn; `goes_on` until one ends it, or holds it."""

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
        """Of the run, while it has no job."""
        return RunState.INTERRUPTED if self.attempts else RunState.PLANNED

    def ended_as(self, live: MemberView, death: Failure, job: Job | None) -> Iterator[Action]:
        """The live submission's job is over with this death: its attempt's, or, where it claimed none, its own."""
        if self.attempts.current is None:
            self.attempts.add_unclaimed(live, job, death)
            yield from self.judge(live, death, requeued=False, node=job.nodes if job else "")
        else:
            yield from self.died(live, death, requeued=False, node=job.nodes if job else "")

    def died(self, live: MemberView, death: Failure, *, requeued: bool, node: str = "") -> Iterator[Action]:
        """The latest attempt has ended."""
        if self.attempts:
            self.attempts.end(death)
        yield from self.judge(live, death, requeued=requeued, node=node)

    def judge(self, live: MemberView, death: Failure, *, requeued: bool, node: str = "") -> Iterator[Action]:
        """What the run does after this death: it goes on, is held, or ends. `requeued`: its job goes on by itself."""
        last = self.attempts.ended[-1] if self.attempts.ended else None
        if last is not None and last.leave_cause is LeaveCause.EXHAUSTED:
            outcome: GoOn | HoldRun | Stop = GoOn()  # as far as this run goes: the gate says whether it may
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
                # the job itself goes on, under the same token
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
        """Return the node that is to blame for this death, where one is known; `node` is the queue's word."""
        is_local = live.submission.backend == LOCAL  # this machine, and no other
        if is_local or not self.policy.exclude_hours or not self.attempts.ended:
            return ""
        if death.cause is Cause.KILLED:
            return self.attempts.ended[-1].failed_node
        found = (node or self.attempts.failed_node()) if death.cause is Cause.NODE_FAIL else ""
        return "" if set(found) & set("[,") else found  # of several nodes nobody knows which one failed


def give_up(live: MemberView, run_id: str) -> Iterator[Action]:
    """This submission's job may not train the run any more: not if it revives, nor if it still runs."""
    yield Revoke(live.member.token, run_id)
    if live.job is not None and not live.job.is_ended and not live.is_needed:
        yield CancelJob(live.job_id, run_id, live.submission.backend)
