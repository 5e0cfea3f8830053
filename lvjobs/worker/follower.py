"""A rank of a process group other than the first: `python -m lvjobs.worker.follower ASSIGNMENT`.

The first process starts it (see `rank_launcher`). A follower runs the same training function over its share of each
batch. It writes no journal and no checkpoint. It ignores signals, because the first process decides for all, and it
ends when that process ends, for whatever reason.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, SupportsFloat

from lvjobs.files import write_json
from lvjobs.records.failure import record_error
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunConfig, RunFile
from lvjobs.worker import determinism, loading, signals
from lvjobs.worker.interface import Resumed, SilentRun
from lvjobs.worker.process_group import PeerLost, ProcessGroup, join
from lvjobs.worker.state import load_trees
from lvjobs.worker.task import function_of

PEER_LOST = 76
"""Exit code of a follower that lost another process. The end of that other process is reported elsewhere."""


@dataclass(frozen=True)
class Assignment:
    """A follower's orders: the run, its rank, the group's size, the meeting file and the checkpoint to begin from."""

    root: str
    rank: int
    size: int
    meeting: str
    checkpoint: str = ""
    step: int = 0

    def to_json(self) -> str:
        """Return the assignment as one JSON object."""
        return json.dumps(asdict(self))

    @property
    def report(self) -> Path:
        """Return the file in which the follower reports its error."""
        return Path(f"{self.meeting}.{self.rank}.json")


def seed_of_step(seed: int, rank: int, step: int) -> int:
    """Return a seed for what a follower draws after `step`. It depends on the arguments alone, so no state is kept."""
    return int.from_bytes(hashlib.sha256(f"{seed} {rank} {step}".encode()).digest()[:7], "big")


class FollowingRun(SilentRun):
    """The `Run` of a follower: the first process reports and checkpoints for all."""

    def __init__(self, assignment: Assignment, config: RunConfig, team: ProcessGroup) -> None:
        super().__init__(config, Path(assignment.root), team, assignment.step)
        self._group = team
        self._checkpoint = assignment.checkpoint

    def resume(self) -> Resumed | None:
        """Return the checkpoint that the first process begins from."""
        loading.end()
        found = None
        if self._checkpoint:
            path = Path(self._checkpoint)
            found = Resumed(self.step, load_trees(path), path)
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


def _end_with_parent(parent_pipe: Any, meeting: Path) -> None:
    """Exit as soon as the first process ends or closes the pipe, even if a library blocks the main thread."""
    parent_pipe.read()
    shutil.rmtree(meeting.parent, ignore_errors=True)  # left behind if the first process was killed
    sys.stdout.flush()
    os._exit(0)


def follow(assignment: Assignment) -> None:
    """Train with the others until the training function returns."""
    config = RunFile.read(RunLayout(Path(assignment.root)).config).config
    loading.begin()
    determinism.pin_threads(config.threads)
    determinism.make_deterministic(config.threads, config.seed)
    team = join(assignment.rank, assignment.size, Path(assignment.meeting))
    determinism.seed_generators(config.seed)
    function_of(config)(FollowingRun(assignment, config, team))


def main(text: str) -> NoReturn:
    """Follow, report an error, and exit."""
    assignment = Assignment(**json.loads(text))
    watcher = threading.Thread(target=_end_with_parent, args=[sys.stdin.buffer, Path(assignment.meeting)], daemon=True)
    watcher.start()
    try:
        follow(assignment)
    except PeerLost:
        os._exit(PEER_LOST)
    except BaseException as error:  # noqa: BLE001 - whatever ends a training function is reported
        failure = record_error(error)
        with contextlib.suppress(OSError):
            write_json(assignment.report, failure.to_fields())
        sys.stderr.write(failure.traceback)
        sys.stderr.flush()
        os._exit(1)
    watcher.join()  # an exit before the others are done would look like a failure
    os._exit(0)


if __name__ == "__main__":
    signals.deafen()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(sys.argv[1])
