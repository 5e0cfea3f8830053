"""The address of this machine, and its free ports."""

import contextlib
import ipaddress
import socket
import zlib
from pathlib import Path

from lvjobs.errors import LvjobsError, UsageError

_FIRST, _LAST = 20_000, 32_000  # below the range of Linux's own client ports, above the well-known ones


def loopback_address(host: str) -> str | None:
    """Return the loopback address that `host`'s name resolves to on this machine; None if it is no loopback address.

    Slurm's daemons bind either to every address or to what the host's name resolves to. Only in the second case, and
    only with a loopback address, are they out of reach for the network.
    """
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, socket.AF_INET)}
    except OSError:
        return None
    if found and all(ipaddress.ip_address(address).is_loopback for address in found):
        return min(found)
    return None


def is_free(port: int) -> bool:
    """Return whether nothing listens on `port` on any address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger do not count
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _claim(first: int, count: int, claims: contextlib.ExitStack) -> int | None:
    """Take `count` ports from `first` for a lab that is about to start.

    Between the probe of a port and the daemon that listens on it, another lab may probe it too. So each port is also
    claimed by a socket in Linux's abstract namespace, which vanishes with the process that holds it.

    Returns:
        The first port that could not be taken; None if all could.
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


def free_base(directory: Path, count: int, claims: contextlib.ExitStack, wanted: int | None = None) -> int:
    """Return the first of `count` consecutive free ports, which no other lab gets until `claims` is closed.

    Raises:
        UsageError: `wanted` was given and one of its ports is taken.
        LvjobsError: No range is free.
    """
    if wanted is not None:
        taken = _claim(wanted, count, claims)
        if taken is not None:
            raise UsageError(f"port {taken} is taken: choose another --port-base, or leave it out to find one")
        return wanted
    slots = (_LAST - _FIRST) // count
    start = zlib.crc32(str(directory).encode())  # of the directory, so that two labs rarely try the same
    for step in range(slots):
        base = _FIRST + (start + step) % slots * count
        if _claim(base, count, claims) is None:
            return base
    raise LvjobsError(f"no {count} consecutive free ports between {_FIRST} and {_LAST}: stop what holds them")
