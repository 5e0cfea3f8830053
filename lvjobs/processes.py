"""Which process is meant, and whether it lives: proof against reused ids, reboots, changed clocks, and zombies."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_STATE, _START_TICKS = 0, 19  # fields of /proc/<pid>/stat, counted behind the command's closing bracket


@dataclass(frozen=True)
class Identity:
    """One process on one boot of one machine.

    `ticks` is when it started, in clock ticks since the boot: unlike a wall-clock time it never changes when the clock
    is set, so that a living process is never taken for a dead one.
    """

    host: str
    boot: str
    pid: int
    ticks: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Identity":
        """Read `to_dict` back."""
        return cls(str(value["host"]), str(value["boot"]), int(value["pid"]), int(value["ticks"]))

    @property
    def is_of_this_boot(self) -> bool:
        """Whether this machine has not gone down since."""
        return self.boot == boot_id()

    @property
    def is_of_this_host(self) -> bool:
        """Whether the process ran on the machine that asks."""
        return self.is_of_this_boot or self.host == os.uname().nodename

    @property
    def is_alive(self) -> bool:
        """Whether it runs, here and now. A zombie does not: nobody may have come to reap it."""
        return self.is_of_this_boot and start_ticks(self.pid) == self.ticks


def identify(pid: int) -> Identity | None:
    """The process that has this id now, unless it is dead or a zombie."""
    ticks = start_ticks(pid)
    return None if ticks is None else Identity(os.uname().nodename, boot_id(), pid, ticks)


def boot_id() -> str:
    """Return what names this boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def start_ticks(pid: int) -> int | None:
    """Return when the process started, in clock ticks since the boot; None where it is gone or a zombie."""
    try:
        # the command's name may hold spaces and brackets
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] in "ZX" else int(fields[_START_TICKS])
