"""Time limits from measured step times, because Slurm fits short jobs into gaps of the queue.

`[resources] time_limit = "auto"` requests the remaining time of a run, by the pace of similar runs, times a margin,
plus the start-up time. If nothing was measured, or the result is longer, the limit of the profile and the site applies.
After a job that was too short, twice its limit is requested, so that a run does not reach its limit again and again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lvjobs.cluster.backends import backend_of, defaults_of
from lvjobs.cluster.protocol import Limits
from lvjobs.control.backends import profile_of
from lvjobs.control.budget.cost import newest_checkpoints
from lvjobs.control.budget.intervals import duration
from lvjobs.control.budget.pace import START_UP_SECONDS, Pace, Stopwatch, samples_of
from lvjobs.control.submission.slots import is_packed, pack_size
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import RunRecord
from lvjobs.study.layout import StudyLayout
from lvjobs.study.tables import AUTO
from lvjobs.study.words import Cause

_MARGINS = {"measured": 1.5, "given": 3.0, "scaled": 3.0}
"""The factors by which the expected time is multiplied: nodes differ, and file systems are sometimes slow."""

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
        why = "no similar run was measured yet"
        minutes, words = bounds.most, f"{why}: the maximum"
    else:
        minutes, words = _measured(run, step, pace, bounds.lead)
    last = run.resources.get("time_limit_minutes")
    was_its_own = pack_size(run) == 1  # a pack's limit says nothing about what one of its runs lacked
    if run.cause is Cause.TIMEOUT and was_its_own and last and minutes is not None and minutes < doubled(last):
        minutes, words = doubled(last), f"twice the last limit of {last} min"
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
    left = pace.of_run(run.config, step, run.stop_at)
    once = pace.of_interval(run.config, step)
    least, wanted = start_up + margin * once + lead, start_up + margin * left
    if least > wanted:
        words = f"one checkpoint interval ({duration(once)}) x {margin:g}, {duration(lead)} to leave"
    else:
        words = f"{duration(left)} left x {margin:g}"
    words += f", {duration(start_up)} to start; {pace.source}{f' from {pace.of}' if pace.of else ''}"
    return math.ceil(max(least, wanted) / _MINUTE), words


# -- from the times in the ledger ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """The computed time limits, by run id; empty if the limit of `runs` is not computed."""

    bounds: Bounds = field(default_factory=Bounds)
    limits: Mapping[str, TimeLimit] = field(default_factory=dict)
    runs: Sequence[RunRecord] = ()

    def applied(self, runs: Sequence[RunRecord]) -> Sequence[RunRecord]:
        """Return the runs of one array or job with the time limit that they share, if one is computed."""
        if not self.limits:
            return runs
        chosen = shared(runs, self.limits, self.bounds)
        computed = {"time_limit_minutes": chosen.minutes, "time_limit_most": self.bounds.most}
        return [replace(run, resources={**run.resources, **computed}) for run in runs]

    @property
    def words(self) -> str:
        """Return the time limit of the array or of the first shared job, and why; empty if none is computed."""
        if not self.limits:
            return ""
        pack = pack_size(self.runs[0])
        chosen = shared(self.runs[:pack] if pack > 1 else self.runs, self.limits, self.bounds)
        asked = "the profile's" if chosen.minutes is None else f"{chosen.minutes} min"
        return f"time limit: {asked} ({chosen.words})"


def timing_of(layout: StudyLayout, ledger: Ledger, runs: Sequence[RunRecord], limits: Limits) -> Timing:
    """Return the time limits of runs that can share an array; none if their limit is given or they run locally.

    `limits` are the site's limits on such jobs.
    """
    first = runs[0]
    if not is_automatic(first.resources) or not backend_of(first.profile).is_site:
        return Timing()
    bounds = _bounds(layout, first, limits)
    paces, newest = _paces(ledger)
    return Timing(bounds, {run.id: time_limit(run, newest[run.id], paces.pace(run), bounds) for run in runs}, runs)


def measured_limit(layout: StudyLayout, ledger: Ledger, run: RunRecord) -> int | None:
    """Return the minutes that a job of this run needs; None if no similar run was measured."""
    paces, newest = _paces(ledger)
    pace = paces.pace(run)
    return None if pace is None else time_limit(run, newest[run.id], pace, _bounds(layout, run, Limits())).minutes


def _bounds(layout: StudyLayout, run: RunRecord, limits: Limits) -> Bounds:
    defaults = defaults_of(profile_of(layout, run))
    known = [int(most) for most in (defaults.get("time_limit_minutes"), limits.minutes) if most]
    lead = run.resources.get("signal_lead_seconds") or defaults.get("signal_lead_seconds") or 0
    return Bounds(min(known, default=None), float(lead))


def _paces(ledger: Ledger) -> tuple[Stopwatch, Mapping[str, int]]:
    """Return the measured paces, and the step of each run's newest checkpoint."""
    with ledger.transaction() as transaction:
        runs, attempts = transaction.runs(), transaction.attempts()
    return Stopwatch(samples_of(runs, attempts)), newest_checkpoints(attempts)
