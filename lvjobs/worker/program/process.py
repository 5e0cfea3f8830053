"""A program that a run executes: its working directory, its environment, its processes and what they print.

The worker adopts every process that the program leaves behind (PR_SET_CHILD_SUBREAPER), and ends all of them with it. A
program whose worker is killed is killed by the kernel (PR_SET_PDEATHSIG).
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
from pathlib import Path

from lvjobs.foreign import cleaned
from lvjobs.worker import signals

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


def environment_of(environ: Mapping[str, str], python_path: str, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program: the job's, without Slurm's and lvjobs' variables, and with `own`."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_PRIVATE)}
    kept.pop("PYTHONPATH", None)
    kept.pop("PYTHONHASHSEED", None)  # lvjobs' own choice for training functions
    return {**kept, **({"PYTHONPATH": python_path} if python_path else {}), **own}


def note(text: str) -> None:
    """Print a line of lvjobs' own into the job's log, among what the program printed."""
    with contextlib.suppress(OSError):  # a full disk
        sys.stdout.write(f"lvjobs worker: {cleaned(text)}\n")
        sys.stdout.flush()


class Program:
    """The running program, and all processes that came from it."""

    def __init__(self, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        """Start it, in a session of its own.

        Raises:
            OSError: it cannot be started.
        """
        _adopt_orphans(on=True)
        self._others = frozenset(descendants())
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self._lines: deque[tuple[float, str]] = deque()
        with signals.shielded():
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_prepare,  # noqa: PLW1509 - it takes no lock: two system calls and signal handlers
            )
            self._reader = threading.Thread(target=self._read, name="program-output", daemon=True)
            self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def lines(self) -> list[tuple[float, str]]:
        """Return the lines that it printed since the last call, each after the time at which it was read (epoch)."""
        return [self._lines.popleft() for _ in range(len(self._lines))]

    def signal(self, name: str) -> None:
        """Send a signal (`TERM`) to its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.Signals[f"SIG{name}"])

    def reap(self) -> None:
        """Take note of the processes that ended after the program left them behind: each is a zombie until then."""
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, peek)) and ended.si_pid != self._process.pid:
                os.waitpid(ended.si_pid, os.WNOHANG)

    def end(self) -> int:
        """Kill all of its processes, wait for them, and read the rest of what they printed. Return the exit code.

        A process that waits for a broken disk cannot be killed: after some seconds the worker ends without it.
        """
        until = time.monotonic() + _KILL_SECONDS
        while (left := descendants(self._others)) and time.monotonic() < until:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if pid != self._process.pid:  # that one is reaped by `poll`, which keeps its exit code
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
            self._process.poll()
            time.sleep(0.01)
        self._reader.join(max(0.1, until - time.monotonic()))
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        _adopt_orphans(on=False)
        code = self._process.poll()
        return -signal.SIGKILL if code is None else code

    def _read(self) -> None:
        assert self._process.stdout is not None
        descriptor, rest = self._process.stdout.fileno(), b""
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
                self._lines.append((now, text))
                self.tail.append(text)


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
    found = set()
    for pid in descendants():
        place = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):  # it ended in the meantime
            for link in (place / "fd").iterdir():
                with contextlib.suppress(OSError, ValueError, StopIteration):
                    path = link.readlink()
                    lines = (place / "fdinfo" / link.name).read_text(encoding="ascii").splitlines()
                    flags = int(next(line.split()[1] for line in lines if line.startswith("flags:")), 8)
                    if flags & os.O_ACCMODE and path.is_relative_to(directory):
                        found.add(path)
    return found


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
