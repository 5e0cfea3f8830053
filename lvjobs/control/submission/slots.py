"""How many of the jobs that wait to be submitted may go now. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.cluster.protocol import DRIVER, Cap, Limits, Load
from lvjobs.ledger.records import RunRecord

MARGIN = 1
"""Jobs that are left over of a user's own limit (never the last): a driver is one, and users submit other things."""

_WAITS = "waits for room in the queue"


@dataclass(frozen=True)
class FreeSlots:
    """For how many more jobs there is room: None where nobody knows. `reason` is why for no more, in words."""

    jobs: int | None = None
    reason: str = ""


def choices(resources: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a job that names several QOS or partitions asks for, in the order in which it is tried.

    Each QOS with all partitions, of which Slurm takes whichever lets it start first; then each with each of them alone,
    for a site that refuses a list in which one is none for this job.
    """
    each = [{"qos": qos} for qos in _names(resources.get("qos"))] or [{}]
    partitions = _names(resources.get("partition"))
    if len(partitions) < 2:  # noqa: PLR2004 - a choice
        return each
    return [*each, *({**one, "partition": partition} for one in each for partition in partitions)]


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]


def room_for(limits: Limits, load: Load) -> FreeSlots:
    """The room that the site's limits leave beside the jobs that are there."""
    if not limits.caps:
        return FreeSlots()
    tightest = min(limits.caps, key=lambda cap: _left(cap, load))
    # No figure of the moment in it: the sentence stays as it is while the run waits.
    return FreeSlots(max(0, _left(tightest, load)), waits(tightest.said))


def waits(said: str) -> str:
    """What stands beside a run that waits for room: why there is none, in the site's words."""
    return f"{_WAITS} ({said}), and follows by itself"


def split(waiting: int, limits: Limits, room: FreeSlots) -> int:
    """How many go in the next array: no more than there is room for, and than an array may have members."""
    return min(size for size in (waiting, room.jobs, limits.members) if size is not None)


def with_more(load: Load, limits: Limits, jobs: int) -> Load:
    """The load once these jobs are in the queue too."""
    return Counter(load) + Counter({cap.place: jobs for cap in limits.caps})


def _left(cap: Cap, load: Load) -> int:
    margin = max(0, MARGIN - load.get((DRIVER, ""), 0))  # one that is there is in the load
    most = cap.most if cap.shared else max(1, cap.most - margin)
    return most - load.get(cap.place, 0)


def halves(size: int) -> Sequence[int]:
    """What to try where `size` jobs were too many and nobody knows the limit: half, and half of that, down to 1."""
    return [size >> times for times in range(1, size.bit_length())]


def pack_size(run: RunRecord) -> int:
    """How many runs may share a job with this one, itself included."""
    return int(run.resources.get("pack") or 1)


def is_packed(runs: Sequence[RunRecord]) -> bool:
    """Whether these runs, submitted together, share one job; else they are the members of an array."""
    return len(runs) > 1 and pack_size(runs[0]) > 1
