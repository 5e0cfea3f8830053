"""The ranks of a process group: started by the first process inside the job, watched, and ended with it.

The failure of one rank ends the attempt, soon: gloo notices a missing peer, NCCL may not, so a thread polls. An
exception in a follower is the run's error. If a follower ends in any other way, the code is not to blame: the attempt
ends like a killed worker, without a final journal line, with the exit code of the process that ended.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lvjobs.records.failure import RecordedError, read_error
from lvjobs.worker import signals
from lvjobs.worker.follower import PEER_LOST, Assignment

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

    def __init__(self, root: Path, size: int, checkpoint: Path | None, step: int) -> None:
        """Start the followers; each waits for the others in `lvjobs.worker.process_group.join`, at `meeting`."""
        self._directory = Path(tempfile.mkdtemp(prefix="lvjobs-"))
        self.meeting = self._directory / "meeting"
        assignments = [
            Assignment(str(root), rank, size, str(self.meeting), str(checkpoint or ""), step) for rank in range(1, size)
        ]
        self._closing = threading.Event()
        self._followers: list[tuple[Assignment, subprocess.Popen[bytes]]] = []
        for assignment in assignments:
            command = [sys.executable, "-m", "lvjobs.worker.follower", assignment.to_json()]
            with signals.shielded():
                process = subprocess.Popen(command, stdin=subprocess.PIPE)
            self._followers.append((assignment, process))

    def watch(self, give_up: Callable[[LostRank], object]) -> None:
        """Call `give_up` in a thread, some seconds after a follower ended, unless `close` was called by then."""
        threading.Thread(target=self._watch, args=[give_up], daemon=True).start()

    def _watch(self, give_up: Callable[[LostRank], object]) -> None:
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
