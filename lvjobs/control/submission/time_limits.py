"""Time limits from measured step times: a short job slips into a gap of the queue. Pure.

`[resources] time_limit = "auto"` asks for what is left of a run by the pace of runs like it, times a margin, and its
start-up. Where nothing was measured, or more would be wanted, it is the profile's and the site's own limit. A job that
was too short is asked for with twice as much the next time, so that no run ends at its limit again and again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lvjobs.control.budget.cost import replay_of_an_interval
from lvjobs.control.budget.intervals import duration
from lvjobs.control.budget.pace import Pace
from lvjobs.control.submission.slots import is_packed, pack_size
from lvjobs.ledger.records import RunRecord
from lvjobs.study.tables import AUTO
from lvjobs.study.words import Cause

_MARGINS = {"measured": 1.5, "given": 3.0, "scaled": 3.0}
"""How many times the expected time is asked for: nodes differ, and file systems have bad days."""

START_UP_SECONDS = 300.0
"""Until the first step, where no accounting told yet: imports, the model, a queue of file-system requests."""

_FACTOR_AFTER_A_TIMEOUT = 2
_MINUTE = 60.0


@dataclass(frozen=True)
class TimeLimit:
    """What one job asks for, in minutes (None: what the profile has), and why, in words."""

    minutes: int | None
    words: str


@dataclass(frozen=True)
class Bounds:
    """Of a job's time limit: the longest (minutes; None: none known), and how long it takes to leave, in seconds."""

    most: int | None = None
    lead: float = 0.0


def is_automatic(resources: Mapping[str, Any]) -> bool:
    """Whether the job's time limit is to be computed."""
    return resources.get("time_limit") == AUTO


def time_limit(run: RunRecord, step: int, pace: Pace | None, bounds: Bounds) -> TimeLimit:
    """The time limit of a job that takes the run on from `step`."""
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
    """What is asked for after a job that was ended by its limit of `minutes`."""
    return _FACTOR_AFTER_A_TIMEOUT * minutes


def after_a_timeout(run: RunRecord) -> int | None:
    """The minutes that a job whose limit was too short is given for its next execution; None where it has them all."""
    last, most = run.resources.get("time_limit_minutes"), run.resources.get("time_limit_most")
    if not is_automatic(run.resources) or not last:
        return None
    more = doubled(last) if most is None else min(doubled(last), most)
    return more if more > last else None


def with_time_limit(runs: Sequence[RunRecord], limits: Mapping[str, TimeLimit], bounds: Bounds) -> list[RunRecord]:
    """The members of one array, or of one job, with the limit that they share; `limits` are theirs, by run."""
    chosen = shared(runs, limits, bounds)
    own = {"time_limit_minutes": chosen.minutes, "time_limit_most": bounds.most}
    return [replace(run, resources={**run.resources, **own}) for run in runs]


def shared(runs: Sequence[RunRecord], limits: Mapping[str, TimeLimit], bounds: Bounds) -> TimeLimit:
    """The longest of an array's members; of runs that share a job, what they take one after another."""
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
