"""What follows from a death: how often each cause is forgiven, and what changes for the next attempt. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lvjobs import remedies
from lvjobs.control.reconcile.classify import Death
from lvjobs.ledger.records import Attempt, Run
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause

_OWN = (Cause.KILLED, Cause.LAUNCH_FAILED, Cause.HUNG, Cause.OUT_OF_MEMORY, Cause.TIMEOUT)
_SITE = (Cause.PREEMPTED, Cause.NODE_FAIL)
_HOUR = 3600.0
_MOST_DOUBLINGS = 64  # which is more than any hour has seconds
_BACKED_OFF = (Cause.KILLED, Cause.LAUNCH_FAILED, Cause.HUNG, Cause.LOST)


@dataclass(frozen=True)
class GoOn:
    """The run goes on: not before `not_before`, with `resources` changed. `warning` is for the user to see."""

    not_before: float = 0.0
    resources: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""


@dataclass(frozen=True)
class Hold:
    """The run waits for the user, and says why and what to type."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """The user meant it."""


def verdict(run: Run, ended: Sequence[Attempt], death: Death, policy: Policy, now: float) -> GoOn | Hold | Stop:
    """What follows from `death`, the end of the last of `ended` (the run's ended attempts, oldest first)."""
    cause = death.cause
    if cause is Cause.CANCELLED:
        return Stop()
    if cause is Cause.CODE_ERROR:
        command = remedies.RESUME_RUN(run=run.name)
        names_it = command in death.evidence  # an error of lvjobs itself says what to do
        return Hold(death.evidence if names_it else f"{death.evidence}; mend it and type: {command}")
    counted = [attempt for attempt in ended if attempt.id > run.forgiven_until or attempt.id == 0]
    stuck = _since_last_gain(counted)
    own = [attempt for attempt in stuck if attempt.cause in _OWN]
    site = [attempt for attempt in stuck if attempt.cause in _SITE]
    if len(own) >= policy.no_progress_deaths:
        causes = ", ".join(attempt.cause.value for attempt in own if attempt.cause)
        return Hold(
            f"died {len(own)} times in a row without a new checkpoint ({causes}); look at: "
            f"{remedies.LOGS(run=run.name)}; then type: {_again(run, own[-1].cause)}"
        )
    if len(site) >= policy.no_progress_preemptions:
        return Hold(
            f"the cluster ended it {len(site)} times in a row before its next checkpoint; lower checkpoint_every or "
            f"ask for another partition, then type: {remedies.RESUME_RUN(run=run.name)}"
        )
    return _forgive(run, counted, cause, policy, now, len(site))


def leniency(run: Run, ended: Sequence[Attempt], policy: Policy) -> str:
    """How often what happened last is still forgiven, in words; empty where nothing is counted.

    `ended` are the run's ended attempts, oldest first.
    """
    counted = [attempt for attempt in ended if attempt.id > run.forgiven_until]
    cause = counted[-1].cause if counted else None
    if cause is None:
        return ""
    words = []
    if cause in (limits := _limits(policy)):
        deaths = _in_a_row(counted, cause)
        row = "" if cause is Cause.OUT_OF_MEMORY else " in a row"
        words.append(f"{_times(deaths)} {cause.value}{row}: held after more than {limits[cause]}")
    stuck = [attempt.cause for attempt in _since_last_gain(counted)]
    for causes, most in ((_OWN, policy.no_progress_deaths), (_SITE, policy.no_progress_preemptions)):
        if cause in causes and (deaths := sum(each in causes for each in stuck)):
            words.append(f"{_times(deaths)} without a new checkpoint: held at {most}")
    return "; ".join(words)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _limits(policy: Policy) -> dict[Cause, int]:
    return {
        Cause.KILLED: policy.killed_retries,
        Cause.LAUNCH_FAILED: policy.launch_failed_retries,
        Cause.HUNG: policy.hung_retries,
        Cause.LOST: policy.lost_retries,
        Cause.OUT_OF_MEMORY: policy.out_of_memory_retries,
    }


def _forgive(run: Run, counted: Sequence[Attempt], cause: Cause, policy: Policy, now: float, stuck: int) -> GoOn | Hold:
    deaths = _in_a_row(counted, cause)
    limits = _limits(policy)
    if cause in limits and deaths > limits[cause]:
        row = "" if cause is Cause.OUT_OF_MEMORY else " in a row"
        look = remedies.LOGS(run=run.name)
        return Hold(f"{cause.value} {deaths} times{row}; look at: {look}; then type: {_again(run, cause)}")
    if cause is Cause.OUT_OF_MEMORY:
        memory = run.resources.get("memory_mb")
        if not memory:
            return Hold(
                f"out of memory, and study.toml sets no memory_mb that could be raised; type: {_again(run, cause)}"
            )
        return GoOn(resources={"memory_mb": int(memory * policy.out_of_memory_factor)})
    delay = _backoff(policy, deaths) if cause in _BACKED_OFF and deaths > 1 else 0.0
    return GoOn(now + delay if delay else 0.0, warning=_warning(stuck, policy))


def _again(run: Run, cause: Cause | None) -> str:
    """Return the command that resumes the run after a failure of this cause."""
    remedy = remedies.RESUME_MEMORY if cause is Cause.OUT_OF_MEMORY else remedies.RESUME_RUN
    return remedy(run=run.name)


def is_due(run: Run, policy: Policy, now: float) -> bool:
    """Whether the run's back-off is over, or ends later than any can: then a clock that was ahead set its end."""
    most = max(policy.killed_retries, policy.launch_failed_retries, policy.hung_retries, policy.lost_retries)
    return not now < run.not_before <= now + _backoff(policy, most)


def _backoff(policy: Policy, deaths: int) -> float:
    """Seconds to wait after so many deaths of a cause in a row: twice as long each time, and an hour at most."""
    doublings = min(max(0, deaths - 2), _MOST_DOUBLINGS)
    return min(policy.backoff_seconds * 2.0**doublings, max(_HOUR, policy.backoff_seconds))


def _warning(stuck: int, policy: Policy) -> str:
    if stuck < policy.no_progress_preemptions_warn:
        return ""
    return f"the cluster ended it {stuck} times in a row before its next checkpoint"


def _in_a_row(counted: Sequence[Attempt], cause: Cause) -> int:
    """How often the run ended by `cause` since it last ended otherwise with a new checkpoint.

    All the same how often between: a long run on a bad cluster meets each cause many times, and gets there. Memory that
    was too small, though, is never enough by itself.
    """
    deaths = 0
    for attempt in reversed(counted):
        if attempt.cause is cause:
            deaths += 1
        elif attempt.gained and cause is not Cause.OUT_OF_MEMORY:
            break
    return deaths


def _since_last_gain(ended: Sequence[Attempt]) -> list[Attempt]:
    """The deaths at the end of `ended` that left no new checkpoint. One that did is where counting begins again."""
    stuck: list[Attempt] = []
    for attempt in reversed(ended):
        if attempt.gained:
            break
        stuck.append(attempt)
    return stuck[::-1]
