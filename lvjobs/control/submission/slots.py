"""The number of jobs that may be submitted now. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.cluster.protocol import DRIVER, Cap, Limits, Load
from lvjobs.ledger.records import RunRecord

MARGIN = 1
"""The number of jobs of a user's own limit that stay free, for the driver and other jobs; never the only one."""


@dataclass(frozen=True)
class FreeSlots:
    """The number of jobs that still fit (None: unknown), and the reason why no more fit, in words."""

    jobs: int | None = None
    reason: str = ""


def choices(resources: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the combinations of QOS and partition to request, in the order in which they are tried.

    First each QOS with all partitions: Slurm takes the partition where the job can start first. Then each QOS with each
    partition alone, because some sites refuse a list with a partition that does not suit the job.
    """
    each = [{"qos": qos} for qos in _names(resources.get("qos"))] or [{}]
    partitions = _names(resources.get("partition"))
    if len(partitions) < 2:  # noqa: PLR2004 - a choice
        return each
    return [*each, *({**one, "partition": partition} for one in each for partition in partitions)]


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]


def room_for(limits: Limits, load: Load) -> FreeSlots:
    """Return how many jobs the site's limits still allow, beside the jobs of `load`."""
    if not limits.caps:
        return FreeSlots()
    tightest = min(limits.caps, key=lambda cap: _left(cap, load))
    # The reason contains no count that changes, so that it stays the same while the run waits.
    return FreeSlots(max(0, _left(tightest, load)), waits(tightest.said))


def waits(said: str) -> str:
    """Return the reason of a run that waits for free slots; `said` is the site's limit, in words."""
    return f"waits for free slots in the queue ({said}); lvjobs submits it when there are"


def split(waiting: int, limits: Limits, room: FreeSlots) -> int:
    """Return the size of the next array: at most `waiting`, the free room, and the members that an array may have."""
    return min(size for size in (waiting, room.jobs, limits.members) if size is not None)


def with_more(load: Load, limits: Limits, jobs: int) -> Load:
    """Return the load after these jobs are added."""
    return Counter(load) + Counter({cap.place: jobs for cap in limits.caps})


def _left(cap: Cap, load: Load) -> int:
    margin = max(0, MARGIN - load.get((DRIVER, ""), 0))  # a driver in the queue is counted in the load
    most = cap.most if cap.shared else max(1, cap.most - margin)
    return most - load.get(cap.place, 0)


def halves(size: int) -> Sequence[int]:
    """Return the sizes to try after `size` jobs were too many and the limit is unknown: halved each time, down to 1."""
    return [size >> times for times in range(1, size.bit_length())]


def pack_size(run: RunRecord) -> int:
    """Return how many runs may share a job with this one, itself included."""
    return int(run.resources.get("pack") or 1)


def is_packed(runs: Sequence[RunRecord]) -> bool:
    """Return whether these runs, submitted together, share one job; else they are the members of an array."""
    return len(runs) > 1 and pack_size(runs[0]) > 1
