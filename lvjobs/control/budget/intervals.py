"""Advice on the checkpoint interval, from the failures so far. It is never applied. Pure; seconds unless named.

Young, "A first order approximation to the optimum checkpoint interval" (CACM 17(9), 1974); Daly, "A higher order
estimate of the optimum checkpoint interval for restart dumps" (FGCS 22(3), 2006), whose first-order model is the same.
If a checkpoint takes delta and the mean time between failures is M, an interval tau costs delta / tau + tau / (2 M) of
the time: the checkpoints, and on average half an interval of repeated steps per failure. The cost is least at
tau = sqrt(2 delta M).

Only failures that lost steps and left no closing line in the journal count. An attempt that was warned in time
checkpoints and exits: more checkpoints would not have helped it. The cluster causes these failures, so all runs of a
profile share one M. The times of a checkpoint and of a step are each stage's own.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import add
from typing import Any, TypeAlias

from lvjobs.control.budget.charges import unseen_steps
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.study.words import Cause

_NO_FAILURES = (None, Cause.COMPLETED, Cause.CANCELLED)
"""The attempt has not ended, or ended as the run or its user intended."""

_TENTH = 0.1
_MINUTE = 60.0
_HOUR = 3600.0


@dataclass(frozen=True)
class Advice:
    """Advice for one stage's runs with one `checkpoint_every` (in steps) on one profile.

    `deaths` counts the failures that count, `between_deaths` is M, `checkpoint` is delta, `step` is the mean step.
    `interval` is the Young/Daly interval, and `steps` the same in whole steps. `cost` and `least_cost` are the expected
    shares of the time that `checkpoint_every` and `steps` cost. Fields are None where nothing was measured; `words`
    name the reason.
    """

    stage: str
    profile: str
    checkpoint_every: int
    deaths: int
    words: str
    checkpoint: float | None = None
    step: float | None = None
    between_deaths: float | None = None
    interval: float | None = None
    steps: int | None = None
    cost: float | None = None
    least_cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form. Keys of values in seconds end in `_seconds`."""
        seconds = ("checkpoint", "step", "between_deaths", "interval")
        return {f"{key}_seconds" if key in seconds else key: value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Measured:
    """The total times and counts of some attempts. They can be added. `longest` is the longest run, in steps."""

    executing: float = 0.0
    deaths: int = 0
    executed: int = 0
    stepping: float = 0.0
    checkpoints: int = 0
    checkpointing: float = 0.0
    longest: int = 1

    def __add__(self, other: "Measured") -> "Measured":
        sums: list[Any] = [*map(add, vars(self).values(), vars(other).values())]
        sums[-1] = max(self.longest, other.longest)
        return Measured(*sums)


Groups: TypeAlias = Mapping[tuple[str, str, int], Measured]
"""Measurements by stage, profile and `checkpoint_every` in force."""


def measure(runs: Iterable[RunRecord], attempts: Mapping[str, Sequence[AttemptRecord]]) -> Groups:
    """Return what the attempts of these runs took. `attempts` are by run id."""
    groups: dict[tuple[str, str, int], Measured] = {}
    for run in runs:
        group = run.stage, run.profile, min(run.checkpoint_every, run.steps)
        for attempt in attempts.get(run.id, ()):
            groups[group] = groups.get(group, Measured()) + Measured(
                attempt.train_seconds + attempt.validation_seconds + attempt.checkpoint_seconds,
                lost_steps(run, attempt),
                attempt.executed,
                attempt.train_seconds,
                attempt.checkpoints,
                attempt.checkpoint_seconds,
                run.steps,
            )
    return groups


def lost_steps(run: RunRecord, attempt: AttemptRecord) -> bool:
    """Return whether the attempt failed without a closing line in its journal and lost steps beyond its checkpoint."""
    if attempt.generation is None or attempt.cause in _NO_FAILURES or attempt.has_last_word:
        return False
    return attempt.step > attempt.checkpoint_step or unseen_steps(run, attempt) > 0


def advise(groups: Groups) -> list[Advice]:
    """Return advice for each stage, profile and `checkpoint_every` in force that has attempts.

    Runs of one step (most evaluations) are left out: they have no interval to choose.
    """
    profiles: dict[str, Measured] = defaultdict(Measured)
    for (_, profile, _), measured in groups.items():
        profiles[profile] += measured
    chosen = {group: measured for group, measured in groups.items() if measured.longest > 1}
    return [_advice(*group, measured, profiles[group[1]]) for group, measured in chosen.items()]


def overhead(interval: float, delta: float, between: float) -> float:
    """Return the share of the time that checkpoints and failures are expected to cost.

    `interval` lies between checkpoints, `delta` is the time of one checkpoint, and `between` the mean time between
    failures, all in seconds.
    """
    return delta / interval + interval / (2 * between)


def _advice(stage: str, profile: str, every: int, mine: Measured, cluster: Measured) -> Advice:
    step = mine.stepping / mine.executed if mine.executed else 0.0
    delta = mine.checkpointing / mine.checkpoints if mine.checkpoints else 0.0
    advice = Advice(stage, profile, every, cluster.deaths, "", checkpoint=delta or None, step=step or None)
    if not step or not delta:
        return replace(advice, words=f"{_every(every)}; no {'checkpoint' if step else 'step'} has been measured yet")
    if not cluster.deaths:
        since = f"no failure has cost a step in {duration(cluster.executing)} of execution"
        return replace(advice, words=f"{_every(every)}; {since}: no advice yet")
    between = cluster.executing / cluster.deaths
    interval = math.sqrt(2 * delta * between)

    def cost(steps: int) -> float:
        return overhead(steps * step, delta, between)

    # The cost falls up to the interval and rises after it, so the best whole number of steps is next to it.
    beside = (math.floor(interval / step), math.ceil(interval / step))
    best = min((min(max(1, steps), mine.longest) for steps in beside), key=cost)
    basis = f"by {cluster.deaths} failures that lost steps, one per"
    if cluster.deaths == 1:
        basis = "by one failure that lost steps, in"
    return replace(
        advice,
        words=f"{_compared(every, best, cost(every), cost(best))} ({basis} {duration(between)} of execution)",
        between_deaths=between,
        interval=interval,
        steps=best,
        cost=cost(every),
        least_cost=cost(best),
    )


def _every(steps: int) -> str:
    return "every step" if steps == 1 else f"every {steps} steps"


def _compared(every: int, best: int, cost: float, least: float) -> str:
    now, then = percent(cost), percent(least)
    if every == best:
        return f"{_every(every)} costs {now} of the time; no other interval costs less"
    if now == then:
        return f"{_every(every)} costs {now} of the time; every {best} would cost no less"
    return f"{_every(every)} costs {now} of the time, every {best} would cost {then}"


def percent(share: float) -> str:
    """Format a share (1 is all) as a percentage: `0.64 %`, `12.3 %`."""
    return f"{100 * share:.{1 if share >= _TENTH else 2}f} %"


def duration(seconds: float) -> str:
    """Format a time span, given in seconds: `45 s`, `12 min`, `5.3 h`."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"
