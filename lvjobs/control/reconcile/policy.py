"""The rules for failures: how many retries each cause has, and what changes for the next attempt. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from lvjobs import remedies
from lvjobs.control.reconcile.classify import Failure
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, HeldFor, LeaveCause, RunState

_HOUR = 3600.0
_MOST_DOUBLINGS = 64  # 2**64 is more than an hour has seconds; far more doublings would overflow a float


@dataclass(frozen=True)
class FailureRule:
    """The limits that failures of one cause count towards.

    `retries` is the key of [policy] that limits such failures in a row ("": no limit of their own). `counts_as` is the
    key of [policy] that limits failures without a new checkpoint ("": none). `backs_off`: the next attempt waits,
    longer each time. `more_memory`: the next attempt requests more memory, and a new checkpoint does not reset the
    count.
    """

    retries: str = ""
    counts_as: str = ""
    backs_off: bool = False
    more_memory: bool = False


_RUN, _SITE = "no_progress_deaths", "no_progress_preemptions"
_RULES = {
    Cause.PREEMPTED: FailureRule(counts_as=_SITE),
    Cause.NODE_FAIL: FailureRule(counts_as=_SITE),
    Cause.TIMEOUT: FailureRule(counts_as=_RUN),
    Cause.KILLED: FailureRule("killed_retries", _RUN, backs_off=True),
    Cause.LAUNCH_FAILED: FailureRule("launch_failed_retries", _RUN, backs_off=True),
    Cause.HUNG: FailureRule("hung_retries", _RUN, backs_off=True),
    Cause.LOST: FailureRule("lost_retries", backs_off=True),
    Cause.OUT_OF_MEMORY: FailureRule("out_of_memory_retries", _RUN, more_memory=True),
}
"""The causes after which a run continues automatically. The other causes stop or hold it (`verdict`)."""


@dataclass(frozen=True)
class Verdict:
    """The consequence of a failure: the run's next `state` (interrupted: it resumes; held; cancelled), and the reason.

    A run that resumes does so not before `not_before` (seconds since the epoch; 0.0: now), with changed `resources`.
    Its `reason` is a warning. The reason for which a run is held also has the command to type.
    """

    state: RunState = RunState.INTERRUPTED
    reason: str = ""
    not_before: float = 0.0
    resources: Mapping[str, Any] = field(default_factory=dict)
    held_for: HeldFor = HeldFor.NOTHING


def verdict(run: RunRecord, ended: Sequence[AttemptRecord], failure: Failure, policy: Policy, now: float) -> Verdict:
    """Return what the run does after a failure.

    Args:
        run: The run.
        ended: Its ended attempts, oldest first.
        failure: The end of the last of them.
        policy: The [policy] of study.toml.
        now: The time of the pass, in seconds since the epoch.
    """
    cause = failure.cause
    if cause is Cause.CANCELLED:
        return Verdict(RunState.CANCELLED)
    if cause is Cause.CODE_ERROR:
        command = remedies.RESUME_RUN(run=run.name)
        names_it = command in failure.evidence  # an error that lvjobs raises names the command already
        return _held(failure.evidence if names_it else f"{failure.evidence}; fix it, then type: {command}")
    counted = [attempt for attempt in ended if attempt.id > run.forgiven_until or attempt.id == 0]
    own, site = (_stuck(counted, key) for key in (_RUN, _SITE))
    if len(own) >= policy.no_progress_deaths:
        causes = ", ".join(each.value for each in own)
        return _held(
            f"failed {len(own)} times in a row without a new checkpoint ({causes}); see: "
            f"{remedies.LOGS(run=run.name)}; then type: {_again(run, own[-1])}"
        )
    if len(site) >= policy.no_progress_preemptions:
        return _held(
            f"interrupted by the cluster {len(site)} times in a row before its next checkpoint; lower "
            f"checkpoint_every or "
            f"use another partition, then type: {remedies.RESUME_RUN(run=run.name)}"
        )
    return _retry(run, counted, cause, policy, now, len(site))


def _held(reason: str) -> Verdict:
    return Verdict(RunState.HELD, reason)


_MOST_IDLE = 4
"""Jobs in a row that may use up their GPU-hours before their first step: each next one is given more."""


def after_exhaustion(run: RunRecord, ended: Sequence[AttemptRecord]) -> Verdict:
    """Return what the run does after its worker stopped, because what was reserved for it was used up.

    The budget gate decides whether more is reserved. A run that never comes to a step is held for the user.
    """
    counted = [attempt for attempt in ended if attempt.id > run.forgiven_until or attempt.id == 0]
    idle = list(takewhile(lambda each: each.leave_cause is LeaveCause.EXHAUSTED and not each.executed, counted[::-1]))
    if len(idle) < _MOST_IDLE:
        return Verdict()
    command = remedies.RESUME_RUN(run=run.name)
    reason = f"{len(idle)} jobs in a row used up their reservation before their first step"
    return Verdict(RunState.HELD, f"{reason}: find out why they start slowly, then: {command}")


def at_rung(run: RunRecord, ended: Sequence[AttemptRecord], cause: Cause) -> Verdict | None:
    """Return that the run waits, if it came to the step at which its stage compares all runs; None if it continues.

    With the checkpoint of that step it waits whatever ended its last attempt, but for the user's cancelling it, and for
    an error of its code.
    """
    last = ended[-1] if ended else None
    # A worker of an older release does not know the rung: it trains past it, until its reservation is used up.
    is_exhausted = last is not None and last.leave_cause is LeaveCause.EXHAUSTED
    if not run.stop_at or (cause in (Cause.CANCELLED, Cause.CODE_ERROR) and not is_exhausted):
        return None
    reached = max((attempt.checkpoint_step for attempt in ended), default=0)
    if last is not None and last.leave_cause is LeaveCause.RUNG:
        reached = max(reached, last.step)
    if not run.stop_at <= reached < run.steps:
        return None
    reason = f"waits at step {run.stop_at} of {run.steps} for the other runs of {run.stage}"
    return Verdict(RunState.PAUSED, reason, held_for=HeldFor.RUNG)


def leniency(run: RunRecord, ended: Sequence[AttemptRecord], policy: Policy) -> str:
    """Return the retries used for the cause of the last failure, and their limits, as text; empty if none are counted.

    `ended` are the run's ended attempts, oldest first.
    """
    counted = [attempt for attempt in ended if attempt.id > run.forgiven_until]
    cause = counted[-1].cause if counted else None
    if cause is None:
        return ""
    words, rule = [], _rule(cause)
    if rule.retries:
        most = getattr(policy, rule.retries)
        words.append(f"{cause.value} {_in_a_row(counted, cause)} of {most}")
    if rule.counts_as and (failures := len(_stuck(counted, rule.counts_as))):
        words.append(f"without a new checkpoint {failures} of {getattr(policy, rule.counts_as)}")
    return "; ".join(words)


def _rule(cause: Cause) -> FailureRule:
    return _RULES.get(cause, FailureRule())


def _row(rule: FailureRule) -> str:
    return "" if rule.more_memory else " in a row"


def _retry(
    run: RunRecord, counted: Sequence[AttemptRecord], cause: Cause, policy: Policy, now: float, stuck: int
) -> Verdict:
    failures = _in_a_row(counted, cause)
    rule = _rule(cause)
    if rule.retries and failures > getattr(policy, rule.retries):
        logs = remedies.LOGS(run=run.name)
        return _held(f"{cause.value} {failures} times{_row(rule)}; see: {logs}; then type: {_again(run, cause)}")
    if rule.more_memory:
        memory = run.resources.get("memory_mb")
        if not memory:
            return _held(f"out of memory, and study.toml sets no memory_mb to raise; type: {_again(run, cause)}")
        return Verdict(resources={"memory_mb": int(memory * policy.out_of_memory_factor)})
    delay = _backoff(policy, failures) if rule.backs_off and failures > 1 else 0.0
    warning = f"interrupted by the cluster {stuck} times in a row before its next checkpoint"
    warns = stuck >= policy.no_progress_preemptions_warn
    return Verdict(reason=warning if warns else "", not_before=now + delay if delay else 0.0)


def _again(run: RunRecord, cause: Cause) -> str:
    """Return the command that resumes the run after a failure of this cause."""
    remedy = remedies.RESUME_MEMORY if _rule(cause).more_memory else remedies.RESUME_RUN
    return remedy(run=run.name)


def waits_until(run: RunRecord, policy: Policy, now: float) -> float | None:
    """Return when the run's back-off ends; None if the run may be submitted at `now`. Both in seconds since the epoch.

    An end that is later than any back-off can be counts as over: a clock that was ahead set it.
    """
    most = max(getattr(policy, rule.retries) for rule in _RULES.values() if rule.backs_off)
    return run.not_before if now < run.not_before <= now + _backoff(policy, most) else None


def _backoff(policy: Policy, failures: int) -> float:
    """Return the seconds to wait after `failures` failures of a cause in a row: doubled each time, at most an hour.

    A longer `backoff_seconds` is its own maximum.
    """
    doublings = min(max(0, failures - 2), _MOST_DOUBLINGS)
    return min(policy.backoff_seconds * 2.0**doublings, max(_HOUR, policy.backoff_seconds))


def _in_a_row(counted: Sequence[AttemptRecord], cause: Cause) -> int:
    """Return how often the run ended by `cause` since another cause ended it with a new checkpoint.

    A long run on a bad cluster meets each cause many times and still completes, so such progress resets the count.
    It does not reset failures for lack of memory, because memory that was too small stays too small.
    """
    failures = 0
    for attempt in reversed(counted):
        if attempt.cause is cause:
            failures += 1
        elif attempt.gained and not _rule(cause).more_memory:
            break
    return failures


def _stuck(ended: Sequence[AttemptRecord], counts_as: str) -> list[Cause]:
    """Return the causes of the last failures without a new checkpoint that count towards this key of [policy]."""
    since = takewhile(lambda attempt: not attempt.gained, reversed(ended))
    return [each.cause for each in since if each.cause and _rule(each.cause).counts_as == counts_as][::-1]
