"""The ranks of a process group beside the first: `python -m lvjobs.worker.follower ASSIGNMENT` is one of them.

The first process starts them inside the job, watches them, and ends with them. A follower runs the same training
function over its share of each batch. It writes no journal and no checkpoint. It ignores signals, because the first
process decides for all, and it ends when that process ends, for whatever reason.

The failure of one rank ends the attempt, soon: gloo notices a missing peer, NCCL may not, so a thread polls. An
exception in a follower is the run's error. If a follower ends in any other way, the code is not to blame: the attempt
ends like a killed worker, without a final journal line, with the exit code of the process that ended.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, SupportsFloat

from lvjobs.files import write_json
from lvjobs.records.failure import RecordedError, read_error, record_error
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunConfig, RunFile
from lvjobs.worker import determinism, loading, signals
from lvjobs.worker.interface import Resumed, SilentRun
from lvjobs.worker.process_group import PeerLost, ProcessGroup, join
from lvjobs.worker.stored import open_checkpoint
from lvjobs.worker.task import function_of

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""Seconds for the first process to notice by itself that a follower ended, and for that follower's exit to show."""


@dataclass(frozen=True)
class LostRank:
    """The end of a follower. `error` is its exception, None if it raised none.

    `status` is its exit code, negative for a signal, and None if it runs and does not answer.
    """

    rank: int
    status: int | None
    error: RecordedError | None = None

    def __str__(self) -> str:
        if self.error:
            return f"process {self.rank} failed: {self.error}"
        if self.status is None:
            return "the processes that train together no longer answer one another"
        return f"process {self.rank} of those that train together died ({self.status})"


class LaunchedRanks:
    """The followers of one attempt."""

    def __init__(self, root: Path, size: int, checkpoint: Path | None, saved: Path | None, step: int) -> None:
        """Start the followers; each waits for the others in `lvjobs.worker.process_group.join`, at `meeting`.

        `saved` is the directory with the files that Savers wrote in the checkpoint.
        """
        self._directory = Path(tempfile.mkdtemp(prefix="lvjobs-"))
        self.meeting = self._directory / "meeting"
        self._closing = threading.Event()
        self._followers: list[tuple[Assignment, subprocess.Popen[bytes]]] = []
        for rank in range(1, size):
            assignment = Assignment(
                str(root), rank, size, str(self.meeting), str(checkpoint or ""), str(saved or ""), step
            )
            command = [sys.executable, "-m", "lvjobs.worker.follower", json.dumps(asdict(assignment))]
            with signals.shielded():
                process = subprocess.Popen(command, stdin=subprocess.PIPE)
            self._followers.append((assignment, process))

    def watch(self, give_up: Callable[[LostRank], object]) -> None:
        """Wait, in a thread, and call `give_up` some seconds after a follower ended; return as soon as all `close`."""
        while not self._closing.wait(_POLL_SECONDS):
            if any(process.poll() is not None for _, process in self._followers):
                if not self._closing.wait(_GRACE_SECONDS):
                    give_up(self.loss())
                return

    def loss(self) -> LostRank:
        """Return the loss that ended the group: a follower's error, else an end that no other end caused.

        This waits some seconds for such an end. If none shows, the processes no longer answer (`status` is None).
        """
        end = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < end:
            ended = [
                (assignment, status)
                for assignment, process in self._followers
                if (status := process.poll()) is not None
            ]
            for assignment, status in ended:
                with contextlib.suppress(OSError, ValueError):
                    fields = json.loads(assignment.report.read_text(encoding="utf-8"))
                    return LostRank(assignment.rank, status, read_error(fields))
            for assignment, status in ended:
                if status != PEER_LOST:
                    return LostRank(assignment.rank, status)
            time.sleep(_POLL_SECONDS)
        return LostRank(0, None)

    def close(self) -> None:
        """End all followers. A second call does no harm."""
        self._closing.set()
        for _, process in self._followers:
            if process.stdin is not None:
                process.stdin.close()
        end = time.monotonic() + _POLL_SECONDS
        while time.monotonic() < end and any(process.poll() is None for _, process in self._followers):
            time.sleep(0.01)
        for _, process in self._followers:
            process.kill()
            process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


def exit_code_of(loss: LostRank) -> int:
    """Return the exit code that a shell would give for the loss."""
    if loss.status is None or loss.status >= 0:
        return loss.status or 1
    return 128 - loss.status


PEER_LOST = 76
"""Exit code of a follower that lost another process. The end of that other process is reported elsewhere."""


@dataclass(frozen=True)
class Assignment:
    """A follower's orders: the run, its rank, the group's size, the meeting file and the checkpoint to begin from.

    `saved` is the directory with the files that Savers wrote in that checkpoint.
    """

    root: str
    rank: int
    size: int
    meeting: str
    checkpoint: str = ""
    saved: str = ""
    step: int = 0

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
