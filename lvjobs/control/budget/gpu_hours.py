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

HOUR = 3600

_LEAST_SECONDS = 60.0
"""The shortest time for which a job is worth its start, if no step was measured."""


@dataclass(frozen=True)
class GpuHours:
    """The limit in GPU-seconds, and what the ledger shows of the jobs that count against it.

    Without a limit (None), nothing is held and nothing is needed. `held` is by run id; `live` is the part of it that
    jobs which still run hold; `closed` is what all closed runs held. `profiles` has the variables that profiles set by
    default, by `RunRecord.submitted_by`.
    """

    limit: int | None = None
    now: float = 0.0
    stopwatch: Stopwatch = field(default_factory=lambda: Stopwatch({}))
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    live: Mapping[str, int] = field(default_factory=dict)
    closed: int = 0

    def with_profiles(self, layout: StudyLayout, runs: Sequence[RunRecord]) -> "GpuHours":
        """Return these hours, knowing also the profiles of `runs`."""
        if self.limit is None:
            return self
        new = {run.submitted_by: used_profile(layout, run.profile, run.profile_copy) for run in runs}
        found = {key: defaults_of(profile) for key, profile in new.items() if key not in self.profiles}
        return replace(self, profiles={**self.profiles, **found})

    def with_attempts(self, run: RunRecord, attempts: Sequence[AttemptRecord]) -> "GpuHours":
        """Return these hours with what these attempts of the run held until `now`."""
        if self.limit is None:
            return self
        alive = [attempt for attempt in attempts if attempt.cause is None]
        held, live = self._held_by(run, attempts), self._held_by(run, alive)
        return replace(self, held={**self.held, run.id: held}, live={**self.live, run.id: live})

    def ahead(self, run: RunRecord, step: int, *, is_training: bool = False) -> int:
        """Return the GPU-seconds that the run needs after `step`, with one checkpoint interval of repeated steps.

        Until a similar run was measured, a job may hold its GPUs up to its time limit: if the run `is_training`, for
        what is left of it. If its profile has no time limit either, it may use up all.
        """
        gpus = self._gpus(run)
        if self.limit is None or not gpus:
            return 0
        pace = self._pace(run)
        if pace is None:
            minutes = self._variable(run, "time_limit_minutes")
            share = gpus / int(run.resources.get("pack") or 1)
            whole = math.ceil(60 * float(minutes) * share) if minutes else self.limit
            return max(0, whole - self.live.get(run.id, 0)) if is_training else whole
        seconds = pace.of_run(run.config, step) + pace.of_interval(run.config, step)
        return math.ceil((seconds + (0.0 if is_training else _start_up(pace))) * self.share(run))

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
        seconds = _LEAST_SECONDS if pace is None else _start_up(pace) + pace.of_interval(run.config, step)
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
        return self._gpus(run) / int(run.resources.get("side_by_side") or 1)

    def _held_by(self, run: RunRecord, attempts: Sequence[AttemptRecord]) -> int:
        return math.ceil(share_of(run, attempts, self._gpus(run), self.now).allocated_gpu)

    def _gpus(self, run: RunRecord) -> int:
        profile = self.profiles.get(run.submitted_by, {})
        return gpus_requested(run, {run.submitted_by: int(profile.get("gpus") or 0)})

    def _pace(self, run: RunRecord) -> Pace | None:
        pace = self.stopwatch.pace(run)
        return pace if pace is not None and pace.source == "measured" else None

    def _variable(self, run: RunRecord, name: str) -> Any:
        own = run.resources.get(name)
        return self.profiles.get(run.submitted_by, {}).get(name) if own is None else own


def gpu_hours_of(
    limit: int | None,
    layout: StudyLayout,
    runs: Sequence[RunRecord],
    attempts: Mapping[str, Sequence[AttemptRecord]],
    samples: Mapping[str, Sample],
    now: float,
    closed: float = 0.0,
) -> GpuHours:
    """Return the GPU-hours of `runs`, whose attempts are by run id; `closed` GPU-seconds are those of other runs.

    `limit` is in GPU-seconds; None: there is no limit, and nothing is counted. `now` is in seconds since the epoch.
    """
    if limit is None:
        return GpuHours()
    found = GpuHours(limit, now, Stopwatch(samples), closed=math.ceil(closed)).with_profiles(layout, runs)
    each = {run.id: found.with_attempts(run, attempts.get(run.id, ())) for run in runs}
    held = {run_id: hours_.held[run_id] for run_id, hours_ in each.items()}
    return replace(found, held=held, live={run_id: hours_.live[run_id] for run_id, hours_ in each.items()})


def _start_up(pace: Pace) -> float:
    return START_UP_SECONDS if pace.start_up is None else pace.start_up


def hours(gpu_seconds: float) -> float:
    """Return GPU-seconds as GPU-hours."""
    return gpu_seconds / HOUR
