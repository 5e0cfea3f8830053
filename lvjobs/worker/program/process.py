"""A program that a run executes on this machine: its environment, its processes and what they print.

The worker adopts every process that the program leaves behind (PR_SET_CHILD_SUBREAPER), and ends all of them with it. A
program whose worker is killed is killed by the kernel (PR_SET_PDEATHSIG). A program may be started several times at
once (`launch`): the failure of one process ends the others.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lvjobs.foreign import cleaned
from lvjobs.processes import files_written_by
from lvjobs.worker import signals
from lvjobs.worker.program.end import ProcessEnd

_SUBREAPER, _PARENT_DEATH = 36, 1
"""PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG of prctl(2)."""

_LONGEST = 1 << 16
"""Bytes without an end of line after which a line is ended anyway."""

_TAIL = 60
"""Lines that are kept for the error of a program that failed."""

_KILL_SECONDS = 30.0
"""Seconds in which killed processes are waited for."""

_IGNORED = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals for lvjobs alone. torchrun would be killed by SIGUSR2, and would leave its ranks behind."""

_PRIVATE = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "PMI_", "PMIX_", "LVJOBS_")
"""Beginnings of variables that a program does not get: libraries act for the job when they see Slurm's."""

_OF_A_TASK = "SLURM_"
"""The beginning of those that it gets if it sets them itself: it is then started as srun would start it."""

FAILURE_SECONDS = 2.0
"""Seconds from the first failure of a process until the others are killed: another one may show the cause better."""


def environment_of(environ: Mapping[str, str], python_path: str, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program: the job's, without Slurm's and lvjobs' variables, and with `own`.

    Slurm's own variables are kept if `own` has any.
    """
    is_task = any(name.startswith(_OF_A_TASK) for name in own)
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_PRIVATE) or (is_task and name.startswith(_OF_A_TASK))
    }
    kept.pop("PYTHONPATH", None)
    kept.pop("PYTHONHASHSEED", None)  # lvjobs' own choice for training functions
    return {**kept, **({"PYTHONPATH": python_path} if python_path else {}), **own}


def note(text: str) -> None:
    """Print a line of lvjobs' own into the job's log, among what the program printed."""
    with contextlib.suppress(OSError):  # a full disk
        sys.stdout.write(f"lvjobs worker: {cleaned(text)}\n")
        sys.stdout.flush()


@dataclass(frozen=True)
class Start:
    """One process to start: its rank among all of the run, its command and its environment."""

    rank: int
    command: Sequence[str]
    environment: Mapping[str, str]


class _Process:
    """One started process, and what it prints. Only the first of all ranks has `lines`."""

    def __init__(self, start: Start, directory: Path) -> None:
        self.rank = start.rank
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.lines: deque[tuple[float, str]] = deque(maxlen=None if start.rank == 0 else 0)
        self.popen = subprocess.Popen(
            start.command,
            cwd=directory,
            env=dict(start.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_prepare,  # noqa: PLW1509 - it takes no lock: two system calls and signal handlers
        )
        self.reader = threading.Thread(target=self._read, name="program-output", daemon=True)
        self.reader.start()

    def close(self) -> None:
        """Close the pipe, if all of it was read."""
        if self.popen.stdout is not None and not self.reader.is_alive():
            self.popen.stdout.close()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        descriptor, rest = self.popen.stdout.fileno(), b""
        while data := os.read(descriptor, _LONGEST):
            with contextlib.suppress(OSError):  # a full disk: the log lacks these lines, and the run continues
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            now = time.time()
            *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
            if len(rest) > _LONGEST:
                lines, rest = [*lines, rest], b""
            self._add(now, lines)
        self._add(time.time(), [rest])

    def _add(self, now: float, lines: Sequence[bytes]) -> None:
        for line in lines:
            if line.strip():
                text = cleaned(line.decode("utf-8", errors="replace"))
                self.lines.append((now, text))
                self.tail.append(text)


class Program:
    """The running program: the processes that were started on this machine, and all that came from them."""

    def __init__(self, starts: Sequence[Start], directory: Path) -> None:
        """Start them, each in a session of its own.

        Raises:
            OSError: one cannot be started; those before it were ended.
        """
        _adopt_orphans(on=True)
        self._others = frozenset(descendants())
        self._processes: list[_Process] = []
        self._codes: dict[int, int] = {}
        self._failed: float | None = None
        self._is_ending = False
        try:
            with signals.shielded():
                for start in starts:
                    self._processes.append(_Process(start, directory))
        except OSError:
            self.end()
            raise

    @property
    def is_over(self) -> bool:
        """Return whether all processes have ended, or one failed some seconds ago."""
        self._poll()
        has_failed = self._failed is not None and time.monotonic() - self._failed > FAILURE_SECONDS
        return has_failed or len(self._codes) == len(self._processes)

    @property
    def ends(self) -> list[ProcessEnd]:
        """Return the ends of those processes that have ended by themselves, or by something else than `end`."""
        self._poll()
        return [
            ProcessEnd(each.rank, self._codes[each.rank], list(each.tail))
            for each in self._processes
            if each.rank in self._codes
        ]

    @property
    def has_ended(self) -> bool:
        """Return whether all processes have ended."""
        return len(self.ends) == len(self._processes)

    @property
    def has_left_processes(self) -> bool:
        """Return whether a process runs that was started, or that descends from one that was."""
        self.reap()
        return bool(descendants(self._others))

    def lines(self) -> list[tuple[float, str]]:
        """Return the lines that rank 0 printed since the last call, each after the time (epoch) when it was read."""
        lines = self._processes[0].lines
        return [lines.popleft() for _ in range(len(lines))]

    def signal(self, name: str) -> None:
        """Send a signal (`TERM`) to the process group of each process."""
        for each in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.popen.pid, signal.Signals[f"SIG{name}"])

    def reap(self) -> None:
        """Take note of the processes that ended after the program left them behind: each is a zombie until then."""
        self._poll()
        own = {each.popen.pid for each in self._processes}
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, peek)) and ended.si_pid not in own:
                os.waitpid(ended.si_pid, os.WNOHANG)

    def end(self) -> list[ProcessEnd]:
        """Kill all processes, wait for them, and read the rest of what they printed. Return their ends.

        A process that waits for a broken disk cannot be killed: after some seconds the worker ends without it.
        """
        self._poll()
        self._is_ending = True
        own = {each.popen.pid for each in self._processes}
        until = time.monotonic() + _KILL_SECONDS
        while (left := descendants(self._others)) and time.monotonic() < until:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if pid not in own:  # those are reaped by `poll`, which keeps their exit codes
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
            for each in self._processes:
                each.popen.poll()
            time.sleep(0.01)
        for each in self._processes:
            each.reader.join(max(0.1, until - time.monotonic()))
            each.close()
        _adopt_orphans(on=False)
        killed = [each for each in self._processes if each.rank not in self._codes]
        return [
            *self.ends,
            *(ProcessEnd(each.rank, -signal.SIGKILL, list(each.tail), is_ours=True) for each in killed),
        ]

    def _poll(self) -> None:
        """Note what ended by itself."""
        for each in () if self._is_ending else self._processes:
            if each.rank not in self._codes and (code := each.popen.poll()) is not None:
                self._codes[each.rank] = code
                if code and self._failed is None:
                    self._failed = time.monotonic()


def descendants(others: Collection[int] = ()) -> list[int]:
    """Return the process ids of all processes that descend from this one; not `others`, nor what descends from them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")  # the command may hold brackets
                parent = int(text.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [os.getpid()]
    while waiting:
        own = [pid for pid in children.get(waiting.pop(), ()) if pid not in others]
        found += own
        waiting += own
    return found


def files_being_written(directory: Path) -> set[Path]:
    """Return the files below `directory` that a descendant of this process has open for writing."""
    return {path for pid in descendants() for path in files_written_by(pid) if path.is_relative_to(directory)}


_libc = ctypes.CDLL(None, use_errno=True)


def _adopt_orphans(*, on: bool) -> None:
    """Become, or be no longer, the parent of processes whose own parent below this process ends."""
    _libc.prctl(_SUBREAPER, int(on), 0, 0, 0)


def _prepare() -> None:
    """Prepare the child before it becomes the program."""
    _libc.prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):  # a job's script may start the worker in the background
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
