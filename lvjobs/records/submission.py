"""A submission's file: what its members are to train, and the orders that passes added since.

One file tells all workers of one sbatch what they need, because they never read runs.db:

    {"format": 1, "members": 2, "width": 640}            padded to a fixed length
    {"allowance": 6, "name": "a", "run": {...}}          a member each, sorted by name, padded to `width` bytes
    {"allowance": 6, "name": "b", "run": {...}}
    {"revoke": ["a"]}                                    orders, in the order in which they were given
    {"allow": {"b": 9}}
    {"allow_gpu_seconds": {"b": [7200, 2.0, 900, 3]}}    a `GpuAllowance`
    {"stop_at": {"b": 40}}                               the step at which the run stops and waits

All but the orders is written once, on disk before sbatch. Since members are of one length, a worker finds its own among
10,000 by bisection. Orders are appended, one line each, on disk before what depends on them. A reader opens the file
anew each time: an NFS client then asks for its present content, while it may remember for a minute that a name in a
directory was missing.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, BinaryIO

FORMAT = 1
_HEAD = 80
"""The length of the first line in bytes, its newline included."""


@dataclass(frozen=True)
class SubmittedRun:
    """A member: `run` is the content of its run.json, `allowance` the training steps that it may execute in all.

    None is an allowance without a limit: no budget counts the run.
    """

    name: str
    run: Mapping[str, Any]
    allowance: int | None = None


@dataclass(frozen=True)
class GpuAllowance:
    """The GPU-seconds that a run may hold in all, by jobs that hold `gpus` GPUs for it.

    `spent` of the `seconds` were held before generation `before`, as a pass knew from accounting. The worker adds the
    later generations, by their journals. It is an order from the beginning, because releases that know no GPU-seconds
    refuse a member with an unknown key and ignore an unknown order.
    """

    seconds: int
    gpus: float
    spent: int = 0
    before: int = 1


@dataclass(frozen=True)
class Orders:
    """Orders for all members: the names of the revoked ones, and renewed allowances by name.

    None among the GPU-seconds: they are not limited any more. `stop_at` are the steps at which runs stop, by name.
    """

    revoked: Collection[str] = ()
    allowed: Mapping[str, int] = field(default_factory=dict)
    gpu_seconds: Mapping[str, GpuAllowance | None] = field(default_factory=dict)
    stop_at: Mapping[str, int] = field(default_factory=dict)


def submission_text(members: Sequence[SubmittedRun]) -> bytes:
    """Return a submission's file without orders."""
    lines = [_line(vars(member)) for member in sorted(members, key=lambda member: member.name)]
    width = max(map(len, lines), default=1)
    head = _line({"format": FORMAT, "members": len(lines), "width": width})
    return b"".join([_padded(head, _HEAD), *(_padded(line, width) for line in lines)])


def orders_text(
    revoked: Collection[str] = (),
    allowed: Mapping[str, int] | None = None,
    gpu_seconds: Mapping[str, GpuAllowance | None] | None = None,
    stop_at: Mapping[str, int] | None = None,
) -> bytes:
    """Return the lines of these orders, one for each kind that is given."""
    gpu = {name: allowance and astuple(allowance) for name, allowance in (gpu_seconds or {}).items()}
    orders = {"revoke": sorted(revoked), "allow": dict(allowed or {}), "allow_gpu_seconds": gpu}
    orders["stop_at"] = dict(stop_at or {})
    return b"".join(_line({kind: order}) for kind, order in orders.items() if order)


_SORTED = json.JSONEncoder(sort_keys=True)


def _line(value: Mapping[str, Any]) -> bytes:
    return _SORTED.encode(value).encode() + b"\n"


def _padded(line: bytes, width: int) -> bytes:
    return line[:-1].ljust(width - 1) + b"\n"


def _read_head(stream: BinaryIO) -> tuple[int, int]:
    """Return the number of members and the length of each one's line in bytes. The stream is then at the first."""
    head = json.loads(stream.read(_HEAD))
    if head["format"] != FORMAT:
        raise ValueError(f"a submission's file of format {head['format']}; this release reads {FORMAT}")
    return int(head["members"]), int(head["width"])


def _read_member(stream: BinaryIO, width: int) -> SubmittedRun:
    return SubmittedRun(**json.loads(stream.read(width)))


def find_member(stream: BinaryIO, name: str) -> SubmittedRun | None:
    """Return the member called `name` of a submission's file, opened for reading bytes; None where it has none.

    Raises:
        ValueError, KeyError, TypeError: the file is not a submission's.
    """
    high, width = _read_head(stream)
    low = 0
    while low < high:
        middle = (low + high) // 2
        stream.seek(_HEAD + middle * width)
        member = _read_member(stream, width)
        if member.name == name:
            return member
        low, high = (middle + 1, high) if member.name < name else (low, middle)
    return None


def read_members(stream: BinaryIO) -> list[SubmittedRun]:
    """Return all members of a submission's file, opened for reading bytes. Raises the same errors as `find_member`."""
    count, width = _read_head(stream)
    return [_read_member(stream, width) for _ in range(count)]


def read_orders(stream: BinaryIO, start: int = 0) -> tuple[Orders, int]:
    """Return the orders of a submission's file from byte `start` on, and where the next ones will begin.

    0 is before the first order. A last line without its newline is still being written. A line in the middle that is no
    order was cut short when its writer was killed: its writer's successor gave the order again.
    """
    if not start:
        count, width = _read_head(stream)
        start = _HEAD + count * width
    stream.seek(start)
    data = stream.read()
    end = data.rfind(b"\n") + 1
    revoked: set[str] = set()
    allowed: dict[str, int] = {}
    gpu_seconds: dict[str, GpuAllowance | None] = {}
    stop_at: dict[str, int] = {}
    for line in data[:end].splitlines():
        try:
            order = json.loads(line)
        except ValueError:
            continue
        revoked.update(order.get("revoke", ()))
        allowed.update(order.get("allow", {}))
        gpu = order.get("allow_gpu_seconds", {})
        gpu_seconds.update({name: GpuAllowance(*values) if values else None for name, values in gpu.items()})
        stop_at.update(order.get("stop_at", {}))
    return Orders(revoked, allowed, gpu_seconds, stop_at), start + end
