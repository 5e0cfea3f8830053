"""The GPU-seconds of runs: held so far, still needed, and allowed; only where [budget] sets `gpu_hours`.

A job holds its GPUs from its start to its end, whatever it does with them. Slurm's accounting has both numbers, or else
the journal's times and the requested GPUs count (`lvjobs.control.budget.efficiency`). Before a job starts, its time
limit is the most that it can hold. Once similar runs have been measured, their pace tells how much a run needs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lvjobs.cluster.backends import defaults_of
from lvjobs.control.backends import used_profile
from lvjobs.control.budget.efficiency import gpus_requested, share_of
from lvjobs.control.budget.pace import START_UP_SECONDS, Pace, Sample, Stopwatch
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.records.submission import GpuAllowance
from lvjobs.study.layout import StudyLayout
from lvjobs.study.words import LeaveCause

HOUR = 3600

_LEAST_SECONDS = 60.0
"""The shortest time for which a job is worth its start, if no step was measured."""


_LONGER = 3
"""The factor by which a start-up is taken to be longer that did not end in what was reserved for it."""


@dataclass(frozen=True)
class RunHours:
    """The GPU-seconds that the jobs of one run held, and the part of jobs that still run (`live`).

    `gpus` are those that accounting shows of the newest job, and `start_up` the seconds of the longest job that used up
    its reservation before the first step; each is 0 if there is none.
    """

    held: int = 0
    live: int = 0
    gpus: int = 0
    start_up: float = 0.0


@dataclass(frozen=True)
class GpuHours:
    """The limit in GPU-seconds, and what the ledger shows of the jobs that count against it.

    Without a limit (None), nothing is held and nothing is needed. `runs` is by run id. `closed` is what all closed runs
    held. `profiles` has the variables that profiles set by default, by `RunRecord.submitted_by`. `sharing` has the
    number of runs that share the job of a run, by its id; a run that is not in it will share its job with as many as it
    may.
    """

    limit: int | None = None
    now: float = 0.0
    stopwatch: Stopwatch = field(default_factory=lambda: Stopwatch({}))
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: Mapping[str, RunHours] = field(default_factory=dict)
    sharing: Mapping[str, int] = field(default_factory=dict)
    closed: int = 0

    def of(self, run: RunRecord) -> RunHours:
        """Return what the run's jobs held."""
        return self.runs.get(run.id) or RunHours()

    def with_profiles(self, layout: StudyLayout, runs: Sequence[RunRecord]) -> "GpuHours":
        """Return these hours, knowing also the profiles of `runs`."""
        if self.limit is None:
            return self
        new = {run.submitted_by: used_profile(layout, run.profile, run.profile_copy) for run in runs}
        found = {key: defaults_of(profile) for key, profile in new.items() if key not in self.profiles}
        return replace(self, profiles={**self.profiles, **found})

    def with_attempts(self, run: RunRecord, attempts: Sequence[AttemptRecord]) -> "GpuHours":
        """Return these hours with what these attempts of the run held until `now`, oldest first."""
        if self.limit is None:
            return self
        accounted = [attempt.gpus for attempt in attempts if attempt.gpus]
        hours = RunHours(
            held=self._held_by(run, attempts),
            live=self._held_by(run, [attempt for attempt in attempts if attempt.cause is None]),
            gpus=accounted[-1] if accounted else 0,
            start_up=max((self._start_up_of(run, attempt) for attempt in attempts), default=0.0),
        )
        return replace(self, runs={**self.runs, run.id: hours})

    def with_jobs(self, sharing: Mapping[str, int]) -> "GpuHours":
        """Return these hours for runs whose jobs are shared by so many runs, by run id."""
        return replace(self, sharing={**self.sharing, **sharing})

    def ahead(self, run: RunRecord, step: int, *, is_training: bool = False) -> int:
        """Return the GPU-seconds that the run needs after `step`, with one checkpoint interval of repeated steps.

        Until a similar run was measured, a job may hold its GPUs up to its time limit: if it runs already, for what is
        left of it. If its profile has no time limit either, it may use up all.
        """
        gpus = self._gpus(run)
        if self.limit is None or not gpus:
            return 0
        pace = self._pace(run)
        if pace is None:
            minutes = self.time_limit(run)
            whole = math.ceil(60 * minutes * gpus / self._members(run)) if minutes else self.limit
            return max(0, whole - self.of(run).live)
        seconds = pace.of_run(run.config, step, run.stop_at) + pace.of_interval(run.config, step)
        return math.ceil((seconds + (0.0 if is_training else self._start_up(run, pace))) * self.share(run))

    def time_limit(self, run: RunRecord) -> float | None:
        """Return the time limit of the run's next job in minutes; None if neither the run nor its profile has one."""
        own = run.resources.get("time_limit_minutes")
        minutes = self.profiles.get(run.submitted_by, {}).get("time_limit_minutes") if own is None else own
        return float(minutes) if minutes else None

    def gpus(self, run: RunRecord) -> int:
        """Return the GPUs that a job of the run asks for."""
        profile = self.profiles.get(run.submitted_by, {})
        return gpus_requested(run, {run.submitted_by: int(profile.get("gpus") or 0)})

    def least(self, run: RunRecord, step: int, *, is_training: bool) -> int:
        """Return the GPU-seconds without which a job of the run gains no checkpoint after `step`.

        If it `is_training`, its worker stops in time by itself. The result is then negative: by so much may its use
        exceed what is reserved until it counts as a worker that does not.
        """
        if self.limit is None:
            return 0
        if is_training:
            return -math.ceil(_LEAST_SECONDS * self.share(run))
        pace = self._pace(run)
        seconds = _LEAST_SECONDS if pace is None else self._start_up(run, pace) + pace.of_interval(run.config, step)
        return math.ceil(seconds * self.share(run))

    def allowance(self, run: RunRecord, attempts: Sequence[AttemptRecord], reserved: int) -> GpuAllowance | None:
        """Return what a worker is told: the GPU-seconds that the run may hold in all; None where nothing is reserved.

        `attempts` are the run's, oldest first.
        """
        if not reserved or self.limit is None or not self._gpus(run):
            return None
        live = [attempt.generation or 0 for attempt in attempts if attempt.cause is None]
        before = min(live, default=max((attempt.generation or 0 for attempt in attempts), default=0) + 1)
        ended = [attempt for attempt in attempts if (attempt.generation or 0) < before and attempt.cause is not None]
        return GpuAllowance(reserved, self.share(run), self._held_by(run, ended), before)

    def share(self, run: RunRecord) -> float:
        """Return the GPUs that the run holds while it trains: those of its job, or its part of them."""
        return self._gpus(run) / min(int(run.resources.get("side_by_side") or 1), self._members(run))

    def _members(self, run: RunRecord) -> int:
        return self.sharing.get(run.id) or int(run.resources.get("pack") or 1)

    def _held_by(self, run: RunRecord, attempts: Sequence[AttemptRecord]) -> int:
        at_once = min(int(run.resources.get("side_by_side") or 1), self._members(run))
        alone = replace(run, resources={**run.resources, "side_by_side": at_once})
        return math.ceil(share_of(alone, attempts, self.gpus(run), self.now).allocated_gpu)

    def _start_up_of(self, run: RunRecord, attempt: AttemptRecord) -> float:
        """Return for how long a job was at its start-up that used up its GPU-seconds before a step; 0 for others."""
        if attempt.leave_cause is not LeaveCause.EXHAUSTED or attempt.executed:
            return 0.0
        return share_of(run, [attempt], 0, self.now).allocated

    def _start_up(self, run: RunRecord, pace: Pace) -> float:
        measured = START_UP_SECONDS if pace.start_up is None else pace.start_up
        return max(measured, _LONGER * self.of(run).start_up)

    def _gpus(self, run: RunRecord) -> int:
        """Return the GPUs that a job of the run gets: a partition of whole nodes gives more than are asked for."""
        return max(self.gpus(run), self.of(run).gpus)

    def _pace(self, run: RunRecord) -> Pace | None:
        pace = self.stopwatch.pace(run)
        return pace if pace is not None and pace.source == "measured" else None


def gpu_hours_of(
    limit: int | None,
    layout: StudyLayout,
    runs: Sequence[RunRecord],
    attempts: Mapping[str, Sequence[AttemptRecord]],
    samples: Mapping[str, Sample],
    now: float,
    *,
    sharing: Mapping[str, int],
    closed: float = 0.0,
) -> GpuHours:
    """Return the GPU-hours of `runs`, whose attempts are by run id; `closed` GPU-seconds are those of other runs.

    `sharing` is that of runs with a job. `limit` is in GPU-seconds; None: there is no limit, and nothing is counted.
    `now` is in seconds since the epoch.
    """
    if limit is None:
        return GpuHours()
    found = GpuHours(limit, now, Stopwatch(samples), sharing=sharing, closed=math.ceil(closed))
    found = found.with_profiles(layout, runs)
    each = {run.id: found.with_attempts(run, attempts.get(run.id, ())).of(run) for run in runs}
    return replace(found, runs=each)


def hours(gpu_seconds: float) -> float:
    """Return GPU-seconds as GPU-hours."""
    return gpu_seconds / HOUR
