"""The processes of a rehearsed run on this machine, whichever node of its job each of them belongs to."""

import os
import random
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from lvjobs.processes import has_terminal, start_ticks, with_variable
from lvjobs.study.layout import RunLayout

_RANKS = ("RANK", "LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
"""Variables of which a rank has at least one: of torchrun, accelerate and lvjobs, and of MPI."""

_FOLLOWER = "lvjobs.worker.follower"
"""The module of the ranks of a training function."""

_STOP_SECONDS = 1.0
"""Seconds in which a stopped process shows that it stands still."""

_END_SECONDS = 30.0
"""Seconds in which all processes of a study end after they were killed."""

_END_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class RunProcesses:
    """The processes of one run on this machine."""

    run: RunLayout

    def of_program(self, generation: int) -> list[int]:
        """Return the processes of a generation's program, on all nodes of its job."""
        return list(with_variable("LVJOBS_PROGRESS", f"{self.run.root}/{generation:06d}.work/"))

    def ranks(self, generation: int) -> list[int]:
        """Return the processes that train together, without the processes that each of them started."""
        followers = [pid for pid, words in self._of_lvjobs() if _FOLLOWER in words]
        with_rank = {pid: _parent(pid) for pid in self.of_program(generation) if _has_rank(pid)}
        return [*followers, *(pid for pid, parent in with_rank.items() if parent not in with_rank)]

    def launchers(self, generation: int) -> list[int]:
        """Return the program's own processes that started ranks."""
        own = set(self.of_program(generation))
        return sorted({parent for rank in self.ranks(generation) if (parent := _parent(rank)) in own})

    def agents(self) -> list[int]:
        """Return the agents: the processes of lvjobs on the further nodes of the job."""
        nodes = with_variable("SLURM_NODEID", "")
        return [pid for pid, words in self._of_lvjobs() if "lvjobs.worker" in words and nodes.get(pid, "0") != "0"]

    def left_behind(self, newest: int) -> list[int]:
        """Return the processes that work in the directory of an older generation than the newest one.

        A process with a terminal is none of the run's, but of a user who looks around in that directory.
        """
        older = {f"{self.run.root}/{number:06d}.work" for number in range(1, newest)}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if any(process.cwd().startswith(work) for work in older) and not has_terminal(process.pid):
                    found.append(process.pid)
        return found

    def _of_lvjobs(self) -> Iterable[tuple[int, list[str]]]:
        """Return the processes of lvjobs that were started for the run, each with its words."""
        return _of_lvjobs(str(self.run.root))


def _of_lvjobs(place: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the processes of lvjobs that a path was given to, each with its words."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "-m" in words[:3] and any(place in word for word in words):
            yield process.pid, words


def _has_rank(pid: int) -> bool:
    with suppress(psutil.Error, OSError):
        return not psutil.Process(pid).environ().keys().isdisjoint(_RANKS)
    return False


def _parent(pid: int) -> int:
    with suppress(psutil.Error):
        return psutil.Process(pid).ppid()
    return 0


def kill(pids: Iterable[int]) -> bool:
    """Send SIGKILL to processes; return whether one was still there."""
    met = False
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            met = True
    return met


def kill_one(pids: Iterable[int], chance: random.Random) -> bool:
    """Send SIGKILL to one of the processes; return whether there was one."""
    there = sorted(pids)
    return bool(there) and kill([chance.choice(there)])


def end_all(root: Path) -> None:
    """Kill what still works for the study in a directory: wrappers and workers of its local jobs, and programs.

    It is repeated, because a worker starts the next process until it is killed.
    """
    end = time.monotonic() + _END_SECONDS
    while time.monotonic() < end:
        own = [pid for pid, _ in _of_lvjobs(f"{root}/")]
        if not kill([*own, *with_variable("LVJOBS_PROGRESS", f"{root}/")]):
            return
        time.sleep(_END_PAUSE_SECONDS)


def stop(pids: Iterable[int]) -> None:
    """Send SIGSTOP to processes, and wait until each stands still or has ended. SIGKILL ends a stopped process too."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + _STOP_SECONDS
    for pid in pids:
        with suppress(psutil.Error):
            while start_ticks(pid) and psutil.Process(pid).status() != psutil.STATUS_STOPPED:
                if time.monotonic() > end:
                    return
                time.sleep(0.0005)


def carry_on(pids: Iterable[int]) -> None:
    """Let stopped processes run on."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
