"""Time limits from measured step times, because Slurm fits short jobs into gaps of the queue. Pure.

`[resources] time_limit = "auto"` requests the remaining time of a run, by the pace of similar runs, times a margin,
plus the start-up time. If nothing was measured, or the result is longer, the limit of the profile and the site applies.
After a job that was too short, twice its limit is requested, so that a run does not reach its limit again and again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.control.budget.cost import replay_of_an_interval
from lvjobs.control.budget.intervals import duration
from lvjobs.control.budget.pace import Pace
from lvjobs.control.submission.slots import is_packed, pack_size
from lvjobs.ledger.records import RunRecord
from lvjobs.study.tables import AUTO
from lvjobs.study.words import Cause

_MARGINS = {"measured": 1.5, "given": 3.0, "scaled": 3.0}
"""The factors by which the expected time is multiplied: nodes differ, and file systems are sometimes slow."""

START_UP_SECONDS = 300.0
"""The time until the first step, if accounting has not shown it yet: imports, the model, slow file systems."""

_FACTOR_AFTER_A_TIMEOUT = 2
_MINUTE = 60.0


@dataclass(frozen=True)
class TimeLimit:
    """The time limit that one job requests, in minutes (None: the profile's), and the reason, in words."""

    minutes: int | None
    words: str


@dataclass(frozen=True)
class Bounds:
    """The longest time limit, in minutes (None: unknown), and how many seconds before its limit a job is signalled."""

    most: int | None = None
    lead: float = 0.0


def is_automatic(resources: Mapping[str, Any]) -> bool:
    """Return whether the job's time limit has to be computed."""
    return resources.get("time_limit") == AUTO


def time_limit(run: RunRecord, step: int, pace: Pace | None, bounds: Bounds) -> TimeLimit:
    """Return the time limit of a job that continues the run from `step`; `pace` is None if nothing was measured."""
    if pace is None:
        why = "no run like it was measured yet"
        minutes, words = bounds.most, f"{why}: the longest there is"
    else:
        minutes, words = _measured(run, step, pace, bounds.lead)
    last = run.resources.get("time_limit_minutes")
    was_its_own = pack_size(run) == 1  # a pack's limit says nothing about what one of its runs lacked
    if run.cause is Cause.TIMEOUT and was_its_own and last and minutes is not None and minutes < doubled(last):
        minutes, words = doubled(last), f"twice the {last} min that were too short"
    if minutes is not None and bounds.most is not None and minutes > bounds.most:
        minutes, words = bounds.most, f"{words}, but no more than {bounds.most} min"
    return TimeLimit(minutes, words)


def doubled(minutes: int) -> int:
    """Return the minutes to request after a job that reached its limit of `minutes`."""
    return _FACTOR_AFTER_A_TIMEOUT * minutes


def after_a_timeout(run: RunRecord) -> int | None:
    """Return the minutes for the next execution of a job that reached its limit; None if it cannot get more."""
    last, most = run.resources.get("time_limit_minutes"), run.resources.get("time_limit_most")
    if not is_automatic(run.resources) or not last:
        return None
    more = doubled(last) if most is None else min(doubled(last), most)
    return more if more > last else None


def shared(runs: Sequence[RunRecord], limits: Mapping[str, TimeLimit], bounds: Bounds) -> TimeLimit:
    """Return the limit that runs share: the longest of an array's members, or the time of a shared job for all runs.

    The runs of a shared job train one after another, or `side_by_side` at a time.
    """
    each = [limits[run.id] for run in runs]
    longest = max(each, key=lambda limit: math.inf if limit.minutes is None else limit.minutes)
    if not is_packed(runs) or longest.minutes in (None, bounds.most):
        return longest
    at_once = min(len(runs), runs[0].resources.get("side_by_side") or 1)
    minutes = max(longest.minutes or 0, math.ceil(sum(limit.minutes or 0 for limit in each) / at_once))
    words = f"{len(runs)} runs share the job, {at_once} at a time; the longest: {longest.words}"
    if bounds.most is not None and minutes > bounds.most:
        minutes, words = bounds.most, f"{words}; but no more than {bounds.most} min"
    return TimeLimit(minutes, words)


def _measured(run: RunRecord, step: int, pace: Pace, lead: float) -> tuple[int, str]:
    margin = _MARGINS[pace.source]
    start_up = START_UP_SECONDS if pace.start_up is None else pace.start_up
    left = pace.of_run(run.config, step)
    interval = replay_of_an_interval(run.config, step)
    once = interval.training * pace.step + interval.validation * pace.window + pace.checkpoint
    least, wanted = start_up + margin * once + lead, start_up + margin * left
    if least > wanted:
        words = f"one checkpoint interval ({duration(once)}) x {margin:g}, {duration(lead)} to leave"
    else:
        words = f"{duration(left)} left x {margin:g}"
    words += f", {duration(start_up)} to start; {pace.source}{f' from {pace.of}' if pace.of else ''}"
    return math.ceil(max(least, wanted) / _MINUTE), words
