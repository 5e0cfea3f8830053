"""How long a run has shown no life, judged by clocks that may be set while nobody looks. Pure.

Passes are made on several hosts, and a host's clock may jump. When one pass finds the clock an hour after the last
pass's, either nobody looked for an hour or a clock was set, and it cannot tell which; unless both were made on one
machine, which knows how long it has been up. So a silence counts only as far as passes followed one another closely,
or by such a clock; else it begins anew.

Hosts of one cluster tell the time a little differently. What lies ahead by no more than that has not begun to be
silent, and a pass that is made by a clock so far behind the last one's takes nothing from what was watched.

A pass sees that a journal has grown since the last one, and when is what its last line says, by a clock of another
host. That is believed as far as it can be true, and within half of the bound on a silence: whatever clocks say, no run
is hung that a pass saw grow in the half of it.

A job that Slurm suspended cannot write. A pass that finds a job suspended, or finds that it was since the last pass,
begins its silence anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from lvjobs.cluster.protocol import Job
from lvjobs.control.reconcile.views import MemberView
from lvjobs.ledger.records import AttemptRecord

_CLOSELY_SECONDS = 600.0
"""Passes that are no further apart follow one another closely, however small the bound on a silence is."""

_STEADY_SECONDS = 60.0
"""By so much may a clock that is set right little by little differ from one that is not."""

_SKEW_SECONDS = 360.0
"""Hosts of one cluster are no further apart: munge's credentials are good for five minutes, by the clocks of both."""

_ROUNDED_SECONDS = 5.0
"""By so much may the time for which a job was suspended seem to grow from pass to pass when it did not: squeue rounds,
and takes a moment to answer."""


@dataclass(frozen=True)
class Rest:
    """A suspended execution of a job: its restart count, seconds suspended in all, and when a pass last saw it grow.

    `place` is that of the job, see `_place`. `total` is None for a job that was suspended when the last pass looked.
    """

    place: str
    restart: int
    total: float | None
    since: float


@dataclass(frozen=True)
class Watch:
    """`last`: when the last pass was made, on `machine`, which then was up for `uptime` seconds.

    `since`: from when on all that time was watched. `rests` are by the place of a job.
    """

    last: float = 0.0
    since: float = 0.0
    machine: str = ""
    uptime: float = 0.0
    rests: Mapping[str, Rest] = field(default_factory=dict)

    def at(self, now: float, closely: float, machine: str, uptime: float) -> "Watch":
        """After a pass at `now`; `closely` is how many seconds may lie between two, where that is more than a few."""
        gap = now - self.last
        if -_SKEW_SECONDS <= gap < 0:
            return self
        is_known = gap >= 0 and machine == self.machine and abs(uptime - self.uptime - gap) < _STEADY_SECONDS
        goes_on = 0 <= gap <= max(closely, _CLOSELY_SECONDS) or is_known
        return Watch(now, self.since if goes_on else now, machine, uptime, self.rests)

    def with_rests(self, places: Iterable[MemberView], now: float) -> "Watch":
        """Return the watch with what a pass at `now` sees of suspended jobs. Jobs of other places are forgotten."""
        rests = {_place(view): _rest(view, self.rests.get(_place(view)), now) for view in places}
        return replace(self, rests={place: rest for place, rest in rests.items() if rest is not None})

    def since_for(self, view: MemberView | None) -> float:
        """Return from when on the silence of a job counts: since it was watched, and was last found suspended."""
        rest = None if view is None else self.rests.get(_place(view))
        return self.since if rest is None else max(self.since, rest.since)

    def growing_from(self, now: float, bound: float) -> float:
        """From when on a journal may have grown that a pass at `now` finds grown; a silence of `bound` is hung."""
        return max(self.last, now - bound / 2)


def _place(view: MemberView) -> str:
    return f"{view.member.token}.{view.member.member}"


def _rest(view: MemberView, before: Rest | None, now: float) -> Rest | None:
    """Return what is known of a job's suspension at `now`; None for a job that never was suspended."""
    job = view.job
    if job is None:
        return before  # nobody answered
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
    """When a journal grew that a pass at `now` finds grown, whose last line `said` when it was written."""
    return min(max(growing_from, said), now)  # in this order a time that is no number is none


def silence_of(live: MemberView, current: AttemptRecord | None, job: Job, watched: float, now: float) -> float:
    """Seconds for which a job that runs has shown no life; by its `current` attempt, where it has claimed one."""
    quiet_since = current.grown if current is not None else job.start
    if live.pack is not None and current is None and quiet_since:  # its turn comes once others have left
        quiet_since = max(quiet_since, live.pack.grown)
    return silent_for(quiet_since or now, watched, now)


def silent_for(quiet_since: float, watched: float, now: float) -> float:
    """Seconds since `quiet_since` that were watched, since `watched`.

    It may be of another host's clock, and lie ahead a little; or far ahead, as this one was set back since: then the
    watch has begun anew.
    """
    return max(0.0, now - (watched if quiet_since > now + _SKEW_SECONDS else max(quiet_since, watched)))
