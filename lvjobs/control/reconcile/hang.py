"""Hang detection: how long a job has been without a heartbeat, although clocks may be set between passes. Pure.

Passes run on several hosts, and a host's clock may jump. If a pass finds the clock an hour after the last pass, either
no pass ran for an hour or a clock was set. The pass can tell only if both ran on one machine, by its uptime. So time
without a heartbeat counts only while passes follow one another closely, or are linked by uptime. Otherwise the count
starts again from zero.

The clocks of one cluster's hosts differ a little. A heartbeat that lies ahead by no more than that is 0 s old. A pass
whose clock is behind the last pass's by no more than that leaves the watched time unchanged.

A pass sees that a journal has grown since the last pass. The time of growth is that of the journal's last line, by the
clock of another host. It is accepted as far as it is possible, and at most half of the hang limit back: whatever the
clocks say, no run is hung within half of the limit after a pass saw its journal grow.

A job that Slurm suspended cannot write. If a pass finds a job suspended, or finds that it was suspended since the last
pass, the count starts again from zero.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from lvjobs.cluster.protocol import Job
from lvjobs.control.reconcile.views import MemberView
from lvjobs.ledger.records import AttemptRecord

_CLOSELY_SECONDS = 600.0
"""Passes no further apart than this follow one another closely, however small the hang limit is."""

_STEADY_SECONDS = 60.0
"""The largest difference between the time by a clock that is slowly corrected and the time by uptime."""

_SKEW_SECONDS = 360.0
"""The largest difference between the clocks of a cluster's hosts: munge's credentials are valid for 5 minutes."""

_ROUNDED_SECONDS = 5.0
"""Growth of a job's suspended time from pass to pass that may be only apparent: squeue rounds, and takes a moment to
answer."""


@dataclass(frozen=True)
class Rest:
    """A suspended execution of a job: its restart count, total suspended seconds, and when a pass last saw them grow.

    `place` identifies the job, see `_place`. `total` is None if the job was suspended in the last pass. `since` is in
    seconds since the epoch.
    """

    place: str
    restart: int
    total: float | None
    since: float


@dataclass(frozen=True)
class Watch:
    """The watched time: from `since` to `last`, the time of the last pass, in seconds since the epoch.

    `machine` ran the last pass, and had then been up for `uptime` seconds. `rests` are by the place of a job.
    """

    last: float = 0.0
    since: float = 0.0
    machine: str = ""
    uptime: float = 0.0
    rests: Mapping[str, Rest] = field(default_factory=dict)

    def at(self, now: float, closely: float, machine: str, uptime: float) -> "Watch":
        """Return the watch after a pass at `now` on `machine`, up for `uptime` seconds.

        `closely` is how many seconds may lie between two passes, if more than `_CLOSELY_SECONDS`.
        """
        gap = now - self.last
        if -_SKEW_SECONDS <= gap < 0:
            return self
        is_known = gap >= 0 and machine == self.machine and abs(uptime - self.uptime - gap) < _STEADY_SECONDS
        continues = 0 <= gap <= max(closely, _CLOSELY_SECONDS) or is_known
        return Watch(now, self.since if continues else now, machine, uptime, self.rests)

    def with_rests(self, places: Iterable[MemberView], now: float) -> "Watch":
        """Return the watch with what a pass at `now` sees of suspended jobs. Jobs of other places are dropped."""
        rests = (_rest(view, self.rests.get(_place(view)), now) for view in places)
        return replace(self, rests={rest.place: rest for rest in rests if rest is not None})

    def since_for(self, view: MemberView | None) -> float:
        """Return the time from which on a missing heartbeat of the job counts: it was watched, and not suspended."""
        rest = None if view is None or not self.rests else self.rests.get(_place(view))
        return self.since if rest is None else max(self.since, rest.since)

    def growing_from(self, now: float, bound: float) -> float:
        """Return the earliest time that is assumed for the growth of a journal that a pass at `now` finds grown.

        `bound` is the hang limit, in seconds.
        """
        return max(self.last, now - bound / 2)


def _place(view: MemberView) -> str:
    return f"{view.member.token}.{view.member.member}"


def _rest(view: MemberView, before: Rest | None, now: float) -> Rest | None:
    """Return what is known of a job's suspension at `now`; None for a job that never was suspended."""
    job = view.job
    if job is None:
        return before  # the queue did not show the job
    restart = job.restart_count or 0
    if job.is_suspended:
        return Rest(_place(view), restart, None, now)
    if not job.is_running or (before is not None and before.restart != restart):
        before = None
    was = 0.0 if before is None else before.total
    if was is None or job.suspended > was + _ROUNDED_SECONDS:
        return Rest(_place(view), restart, job.suspended, now)
    return before


def grown_at(said: float, growing_from: float, now: float) -> float:
    """Return when a journal grew that a pass at `now` finds grown; its last line is of the time `said`."""
    return min(max(growing_from, said), now)  # this order ignores a NaN


def silence_of(live: MemberView, current: AttemptRecord | None, job: Job, watched: float, now: float) -> float:
    """Return the seconds for which a running job has had no heartbeat; by its `current` attempt, if it has claimed one.

    `watched` and `now` are in seconds since the epoch; only the time from `watched` on counts.
    """
    quiet_since = current.grown if current is not None else job.start
    if live.submission.packed and current is None and quiet_since:  # its turn comes once others have left
        quiet_since = max(quiet_since, live.grown)
    return silent_for(quiet_since or now, watched, now)


def silent_for(quiet_since: float, watched: float, now: float) -> float:
    """Return the watched seconds since `quiet_since`; time is watched from `watched` on.

    By another host's clock, `quiet_since` may lie a little ahead of `now`. If it lies far ahead, this host's clock was
    set back, and the count starts at `watched`.
    """
    return max(0.0, now - (watched if quiet_since > now + _SKEW_SECONDS else max(quiet_since, watched)))
