"""The ranks of a process group beside the first: `python -m lvjobs.worker.follower ASSIGNMENT` is one of them.

The first process of its node (the worker, or the agent of another node) starts it and ends it (`lvjobs.worker.ranks`).
A follower runs the same training function over its share of each batch. It writes no journal and no checkpoint. It
ignores signals, because the first of all processes decides, and it ends when the process that started it ends, for
whatever reason.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, SupportsFloat

from lvjobs.files import write_json
from lvjobs.records.failure import record_error
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunConfig, RunFile
from lvjobs.worker import determinism, loading, signals
from lvjobs.worker.interface import Resumed, SilentRun
from lvjobs.worker.process_group import Address, PeerLost, Place, ProcessGroup, join
from lvjobs.worker.stored import open_checkpoint
from lvjobs.worker.task import function_of

PEER_LOST = 76
"""Exit code of a follower that lost another process. The end of that other process is reported elsewhere."""


@dataclass(frozen=True)
class Assignment:
    """A follower's orders: the run, its place in the group (`Place`), and the checkpoint to begin from.

    `directory` has the reports of errors, and the file at which the processes of one node meet. Those of several nodes
    meet at `port` of `head`. `saved` is the directory with the files that Savers wrote in the checkpoint.
    """

    root: str
    rank: int
    size: int
    local_rank: int
    local_size: int
    directory: str
    head: str = ""
    port: int = 0
    checkpoint: str = ""
    saved: str = ""
    step: int = 0

    @property
    def place(self) -> Place:
        """Return the follower's place in the group."""
        return Place(self.rank, self.size, self.local_rank, self.local_size)

    @property
    def meeting(self) -> Path | Address:
        """Return where the processes meet."""
        return Address(self.head, self.port) if self.port else Path(self.directory) / "meeting"


def report_of(directory: Path, rank: int) -> Path:
    """Return the file in which a follower reports its error."""
    return directory / f"rank-{rank}.json"


def seed_of_step(seed: int, rank: int, step: int) -> int:
    """Return a seed for what a follower draws after `step`. It depends on the arguments alone, so no state is kept."""
    return int.from_bytes(hashlib.sha256(f"{seed} {rank} {step}".encode()).digest()[:7], "big")


class FollowingRun(SilentRun):
    """The `Run` of a follower: the first process reports and checkpoints for all."""

    def __init__(self, assignment: Assignment, config: RunConfig, team: ProcessGroup) -> None:
        super().__init__(config, Path(assignment.root), team, assignment.step)
        self._group = team
        self._assignment = assignment

    def resume(self) -> Resumed | None:
        """Return the checkpoint that the first process begins from."""
        loading.end()
        found = None
        if checkpoint := self._assignment.checkpoint:
            with open_checkpoint(Path(checkpoint)) as stored:
                found = Resumed(self.step, stored.trees(), Path(self._assignment.saved))
        self._reseed(self.step)
        return found

    def log(self, step: int, **_metrics: SupportsFloat) -> None:
        """Reseed, so that the next step draws other numbers than its peers, and the same again if it is repeated."""
        self._reseed(step)

    def should_stop(self) -> bool:
        """Return the decision of the first process."""
        return self._group.agree(False)

    def _reseed(self, step: int) -> None:
        determinism.seed_generators(seed_of_step(self.config.seed, self.team.rank, step))


def _end_with_parent(parent_pipe: Any, assignment: Assignment) -> None:
    """Exit as soon as the parent ends or closes the pipe, even if a library blocks the main thread."""
    parent_pipe.read()
    if not assignment.port:  # left behind if the first process was killed; that of several nodes is the worker's
        shutil.rmtree(assignment.directory, ignore_errors=True)
    sys.stdout.flush()
    os._exit(0)


def follow(assignment: Assignment) -> None:
    """Train with the others until the training function returns."""
    config = RunFile.read(RunLayout(Path(assignment.root)).config).config
    loading.begin()
    determinism.pin_threads(config.threads)
    determinism.make_deterministic(config.threads, config.seed)
    team = join(assignment.place, assignment.meeting)
    determinism.seed_generators(config.seed)
    function_of(config)(FollowingRun(assignment, config, team))


def main(text: str) -> NoReturn:
    """Follow, report an error, and exit."""
    assignment = Assignment(**json.loads(text))
    watcher = threading.Thread(target=_end_with_parent, args=[sys.stdin.buffer, assignment], daemon=True)
    watcher.start()
    try:
        follow(assignment)
    except PeerLost:
        os._exit(PEER_LOST)
    except BaseException as error:  # noqa: BLE001 - whatever ends a training function is reported
        failure = record_error(error)
        with contextlib.suppress(OSError):
            write_json(report_of(Path(assignment.directory), assignment.rank), failure.to_fields())
        sys.stderr.write(failure.traceback)
        sys.stderr.flush()
        os._exit(1)
    watcher.join()  # an exit before the others are done would look like a failure
    os._exit(0)


if __name__ == "__main__":
    signals.deafen()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(sys.argv[1])
