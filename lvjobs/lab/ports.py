"""How this machine is reached, and which of its ports are free."""

import contextlib
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


def _claim(first: int, count: int, claims: contextlib.ExitStack) -> int | None:
    """Take `count` ports from `first` for a lab that is about to start.

    Between the look at a port and the daemon that listens on it, another lab may look too. So each port is also claimed
    by a socket in Linux's abstract namespace, which vanishes with the process that holds it.

    Returns:
        The first port that could not be had; None if all could.
    """
    with contextlib.ExitStack() as mine:
        for port in range(first, first + count):
            claim = mine.enter_context(socket.socket(socket.AF_UNIX))
            try:
                claim.bind(f"\0lvjobs-lab-port-{port}")
            except OSError:
                return port
            if not is_free(port):
                return port
        claims.enter_context(mine.pop_all())
    return None


def _candidates(directory: Path, count: int) -> Iterator[int]:
    """Bases to try, from a place of the directory's own: two labs seldom want the same."""
    slots = (_LAST - _FIRST) // count
    start = zlib.crc32(str(directory).encode()) % slots
    for step in range(slots):
        yield _FIRST + (start + step) % slots * count


def free_base(directory: Path, count: int, claims: contextlib.ExitStack, wanted: int | None = None) -> int:
    """The first of `count` consecutive free ports, which no other lab will get until `claims` is closed.

    Raises:
        UsageError: `wanted` was given and one of its ports is taken.
        LvjobsError: No range is free.
    """
    if wanted is not None:
        taken = _claim(wanted, count, claims)
        if taken is not None:
            raise UsageError(f"port {taken} is taken: choose another --port-base, or leave it out to find one")
        return wanted
    for base in _candidates(directory, count):
        if _claim(base, count, claims) is None:
            return base
    raise LvjobsError(f"no {count} consecutive free ports between {_FIRST} and {_LAST}: stop what holds them")
