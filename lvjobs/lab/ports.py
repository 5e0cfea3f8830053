"""How this machine is reached, and which of its ports are free."""

import ipaddress
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

from lvjobs.errors import LvjobsError, UsageError

_FIRST, _LAST = 20_000, 32_000  # below the range of Linux's own client ports, above the well-known ones


def loopback_address(host: str) -> str | None:
    """The loopback address that `host`'s name means on this machine, if it means one.

    Slurm's daemons bind either to every address or to what the host's name resolves to. Only in the second case, and
    only with a loopback address, can nobody else on the network reach them.
    """
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, socket.AF_INET)}
    except OSError:
        return None
    if found and all(ipaddress.ip_address(address).is_loopback for address in found):
        return min(found)
    return None


def is_free(port: int) -> bool:
    """Whether nothing listens on `port` on any address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger are no obstacle
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _candidates(directory: Path, count: int) -> Iterator[int]:
    """Bases to try, from a place of the directory's own: labs that start at the same moment do not meet."""
    slots = (_LAST - _FIRST) // count
    start = zlib.crc32(str(directory).encode()) % slots
    for step in range(slots):
        yield _FIRST + (start + step) % slots * count


def free_base(directory: Path, count: int, wanted: int | None = None) -> int:
    """The first of `count` consecutive free ports.

    Raises:
        UsageError: `wanted` was given and one of its ports is taken.
        LvjobsError: No range is free.
    """
    if wanted is not None:
        for port in range(wanted, wanted + count):
            if not is_free(port):
                raise UsageError(f"port {port} is taken: choose another --port-base, or leave it out to find one")
        return wanted
    for base in _candidates(directory, count):
        if all(is_free(port) for port in range(base, base + count)):
            return base
    raise LvjobsError(f"no {count} consecutive free ports between {_FIRST} and {_LAST}: stop what holds them")
