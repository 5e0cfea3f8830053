"""The lease: at most one process at a time makes a reconcile pass over a study.

A lease is a numbered claim, `lease/000042`, that exactly one process wins (see `lvjobs.files.create_exclusive`). Its
holder rewrites the claim every few seconds. The next process takes the following number once the claim says `released`,
or has not changed for a whole term *on the observer's own monotonic clock*: two hosts' clocks are never compared. A
holder on this machine whose process has ended is not waited for.

The number is also the epoch that every ledger transaction checks. So a holder that was suspended for longer than its
term (a closed laptop, SIGSTOP, a hung file system) finds that it may not write.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType

from lvjobs.errors import LvjobsError
from lvjobs.files import create_exclusive, write_atomic
from lvjobs.processes import boot_id, start_ticks

TERM_SECONDS = 15.0
_BEATS_PER_TERM = 5
_POLL_SECONDS = 0.05
_KEEP = 3
_TICKS = ":ticks:"


class LeaseTaken(LvjobsError):
    """A lease that another process still held when this process stopped waiting for it."""


class LeaseLost(LvjobsError):
    """A lease that another process took because this one seemed to have ended. Nothing more was written."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease. `machine` separates two PID namespaces; `started` a PID from its later reuse.

    `machine` ends in `:ticks:INODE:PATH`, and `started` is in clock ticks since the boot, which setting the clock does
    not change. Inode and path are those of the lease's directory: they show whether a claim was copied with the study.

    Older releases wrote a wall-clock time, and no `:ticks:`. The fields must stay the same: such a release treats a
    claim with an unknown field as held by nobody.
    """

    host: str
    machine: str
    pid: int
    started: float
    beat: int = 0
    released: bool = False

    @classmethod
    def this_process(cls, directory: Path) -> "Holder":
        """Return the process that requests the lease in `directory`, which is this one."""
        pid, path = os.getpid(), directory.resolve()
        ticks = start_ticks(pid)
        assert ticks is not None, "a process that asks is alive"
        return cls(os.uname().nodename, f"{machine()}{_TICKS}{path.stat().st_ino}:{path}", pid, ticks)

    def was_copied(self, directory: Path) -> bool:
        """Return whether the claim was made in another directory than `directory`, where it was found.

        Path and inode must both differ: the same directory may have several names, and another inode on another host.
        """
        path = directory.resolve()
        inode, _, place = self.machine.partition(_TICKS)[2].partition(":")
        return bool(place) and place != str(path) and inode != str(path.stat().st_ino)

    def is_known_dead(self) -> bool:
        """Return whether the holder ran on this machine and its process has ended."""
        name, in_ticks, _ = self.machine.partition(_TICKS)
        if name != machine():
            return False
        ticks = start_ticks(self.pid)
        # An older release's wall-clock time cannot tell a reused PID from a clock that was set: wait for a term.
        return ticks is None or (bool(in_ticks) and ticks != self.started)


def machine() -> str:
    """Return a name of this machine, of its boot, and of the PID namespace whose processes can see each other."""
    return f"{boot_id()}:{Path('/proc/self/ns/pid').readlink()}"


def claim_path(directory: Path, number: int) -> Path:
    """Return the path of a claim of the lease in `directory`."""
    return directory / f"{number:06d}"


def newest_claim(directory: Path) -> int:
    """Return the number of the newest claim in `directory`; 0 where there is none, or no such directory."""
    try:
        return max((int(path.name) for path in directory.iterdir() if path.name.isdigit()), default=0)
    except FileNotFoundError:
        return 0


def _parse(text: str) -> Holder | None:
    try:
        known = {item.name for item in fields(Holder)}  # a newer release may write more fields
        return Holder(**{key: value for key, value in json.loads(text).items() if key in known})
    except (ValueError, TypeError, AttributeError):
        return None


class Lease:
    """A held lease: a context manager that sends heartbeats while it is open and writes `released` at its end."""

    def __init__(self, directory: Path, number: int, holder: Holder, term: float) -> None:
        self.number = number
        self._path = claim_path(directory, number)
        self._holder = holder
        self._term = term
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lvjobs-lease", daemon=True)

    def __enter__(self) -> "Lease":  # noqa: PYI034 - Self is Python 3.11's
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._thread.join()
        try:
            self._write(replace(self._holder, released=True))
        except OSError:  # a full disk. An empty claim is also held by nobody, and needs no space
            with suppress(OSError):  # one that is gone or read-only: the next finds this process ended, or waits a term
                os.truncate(self._path, 0)

    @property
    def is_current(self) -> bool:
        """Return whether no later number was claimed: a hint for stopping early. The ledger's epoch is the guard."""
        return not self._path.with_name(f"{self.number + 1:06d}").exists()

    def _beat(self) -> None:
        beat = 0
        while not self._leaving.wait(self._term / _BEATS_PER_TERM) and self.is_current:
            beat += 1
            with suppress(OSError):  # a full disk: the next heartbeat may find space
                self._write(replace(self._holder, beat=beat))

    def _write(self, holder: Holder) -> None:
        write_atomic(self._path, json.dumps(asdict(holder)), durable=False)


def acquire(
    directory: Path,
    *,
    wait: float,
    above: int = 0,
    term: float = TERM_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease:
    """Take the lease in `directory`, waiting at most `wait` seconds for it.

    Args:
        directory: The lease's directory; it is created if missing.
        wait: Seconds; 0 tries once.
        above: The ledger's epoch. The lease's number is greater, even if claims were lost: with a machine that lost its
            power, since they are not synced; or deleted by hand; or left behind by a copy of runs.db.
        term: Seconds without a change after which a claim counts as abandoned.
        clock: A monotonic clock, in seconds.
        sleep: A function that sleeps for so many seconds.

    Raises:
        LeaseTaken: another process still held the lease after `wait` seconds.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    holder = Holder.this_process(directory)
    seen, since, deadline = "", clock(), clock() + wait
    while True:
        try:
            number = newest_claim(directory)
            text = claim_path(directory, number).read_text(encoding="utf-8") if number else ""
        except FileNotFoundError:  # the claim was removed between listing and reading: there is a newer one
            continue
        if text != seen:
            seen, since = text, clock()
        current = _parse(text)
        free = number == 0 or current is None or current.released or current.is_known_dead()
        free = free or (current is not None and current.was_copied(directory))
        own = max(number, above) + 1
        if (free or clock() - since >= term) and create_exclusive(
            claim_path(directory, own), json.dumps(asdict(holder)), durable=False
        ):
            for path in directory.iterdir():  # the last claims stay: they help to find out what happened
                if path.name.isdigit() and int(path.name) <= own - _KEEP:
                    path.unlink(missing_ok=True)
            return Lease(directory, own, holder, term)
        if clock() >= deadline:
            who = f"process {current.pid} on {current.host}" if current else "another process"
            raise LeaseTaken(f"{who} is updating this study; try again in a moment")
        sleep(_POLL_SECONDS)
