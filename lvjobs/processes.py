"""The identity of a process and whether it is alive, safe from reused ids, reboots, changed clocks, and zombies.

Two questions about the processes of this machine are answered here too: which of them have a variable in their
environment, and which files one of them writes. `interruptible` lets this process clean up whichever signal ends it,
and `keep_interrupts` lets no Ctrl-C get lost.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STATE, _TERMINAL, _START_TICKS = (
    0,
    4,
    19,
)  # fields of /proc/<pid>/stat, counted from the closing bracket of the command


_AGAIN_SECONDS = 0.05

submitted = threading.Event()
"""Whether this process has begun to submit a job."""


@dataclass(frozen=True)
class Identity:
    """One process on one boot of one machine.

    `ticks` is when it started, in clock ticks since the boot. Unlike a wall-clock time it does not change when the
    clock is set, so a live process is never taken for an ended one.
    """

    host: str
    boot: str
    pid: int
    ticks: int

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Identity":
        """Return the identity whose fields these are, as JSON holds them."""
        return cls(str(value["host"]), str(value["boot"]), int(value["pid"]), int(value["ticks"]))

    @property
    def is_of_this_host(self) -> bool:
        """Return whether the process ran on this machine."""
        return self.boot == boot_id() or self.host == os.uname().nodename

    @property
    def is_alive(self) -> bool:
        """Return whether the process runs, here and now. A zombie does not: it may stay until its parent reaps it."""
        return self.boot == boot_id() and start_ticks(self.pid) == self.ticks


def identify(pid: int) -> Identity | None:
    """Return the process that has this id now; None where it has ended or is a zombie."""
    ticks = start_ticks(pid)
    return None if ticks is None else Identity(os.uname().nodename, boot_id(), pid, ticks)


def boot_id() -> str:
    """Return the id of this boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def start_ticks(pid: int) -> int | None:
    """Return when the process started, in clock ticks since the boot; None where it has ended or is a zombie."""
    try:
        # the command's name may hold spaces and brackets
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] in "ZX" else int(fields[_START_TICKS])


def has_terminal(pid: int) -> bool:
    """Return whether a process belongs to a terminal; False where it has ended."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()[_TERMINAL] != "0"
    return False


def with_variable(name: str, beginning: str) -> dict[int, str]:
    """Return the processes of this machine that have a variable whose value begins like this: process id -> value.

    Processes of other users, which nobody else may look into, are left out.
    """
    found, mark = {}, os.fsencode(f"{name}={beginning}")
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended, or belongs to another user
                for each in (entry / "environ").read_bytes().split(b"\0"):
                    if each.startswith(mark):
                        found[int(entry.name)] = os.fsdecode(each.partition(b"=")[2])
    return found


def files_written_by(pid: int) -> set[Path]:
    """Return the files that a process has open for writing; none if it has ended, or belongs to another user."""
    found, place = set(), Path(f"/proc/{pid}")
    with suppress(OSError):
        for link in (place / "fd").iterdir():
            with suppress(OSError, ValueError, StopIteration):
                path = link.readlink()
                if path.is_absolute():  # not a pipe or a socket
                    lines = (place / "fdinfo" / link.name).read_text(encoding="ascii").splitlines()
                    flags = int(next(line.split()[1] for line in lines if line.startswith("flags:")), 8)
                    if flags & os.O_ACCMODE:
                        found.add(path)
    return found


@contextmanager
def keep_interrupts() -> Iterator[None]:
    """Send Ctrl-C again where Python ignored it, as all that is raised in a destructor or a weak reference's callback.

    Source: https://docs.python.org/3/library/sys.html#sys.unraisablehook
    """
    before, timers = sys.unraisablehook, list[threading.Timer]()

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            before(ignored)
            return
        # Later, and from elsewhere: Python would ignore it in this function, too.
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        timers.append(again)
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for again in timers:  # the block has ended, so nothing is left to interrupt
            again.cancel()


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C, so that what was started is ended then, too."""
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                stack.callback(signal.signal, number, signal.signal(number, signal.default_int_handler))
        yield
