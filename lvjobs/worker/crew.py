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

from lvjobs.worker import signals
from lvjobs.worker.follower import BEREFT, Assignment

_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""Seconds for the first process to notice by itself that a follower ended, and for that follower's exit to show."""


@dataclass(frozen=True)
class Loss:
    """The end of a follower. `error`, `message` and `traceback` are its exception, empty if it raised none.

    `status` is its exit code, negative for a signal, and None if it runs and does not answer.
    """

    rank: int
    status: int | None
    error: str = ""
    message: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        if self.error:
            return f"process {self.rank} failed: {self.error}: {self.message}"
        if self.status is None:
            return "the processes that train together no longer answer one another"
        return f"process {self.rank} of those that train together died ({self.status})"


class Crew:
    """The followers of one attempt."""

    def __init__(self, root: Path, size: int, checkpoint: Path | None, step: int) -> None:
        """Start the followers; each waits for the others in `lvjobs.worker.team.join`, at `meeting`."""
        self._directory = Path(tempfile.mkdtemp(prefix="lvjobs-"))
        self.meeting = self._directory / "meeting"
        places = [
            Assignment(str(root), rank, size, str(self.meeting), str(checkpoint or ""), step) for rank in range(1, size)
        ]
        self._closing = threading.Event()
        self._followers: list[tuple[Assignment, subprocess.Popen[bytes]]] = []
        for place in places:
            command = [sys.executable, "-m", "lvjobs.worker.follower", place.to_json()]
            with signals.shielded():
                process = subprocess.Popen(command, stdin=subprocess.PIPE)
            self._followers.append((place, process))

    def watch(self, give_up: Callable[[Loss], object]) -> None:
        """Call `give_up` in a thread, some seconds after a follower ended, unless the crew is closed by then."""
        threading.Thread(target=self._watch, args=[give_up], daemon=True).start()

    def _watch(self, give_up: Callable[[Loss], object]) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            if any(process.poll() is not None for _, process in self._followers):
                if not self._closing.wait(_GRACE_SECONDS):
                    give_up(self.loss())
                return

    def loss(self) -> Loss:
        """Return the loss that ended the group: a follower's error, else an end that no other end caused.

        This waits some seconds for such an end. If none shows, the processes no longer answer (`status` is None).
        """
        end = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < end:
            ended = [(place, status) for place, process in self._followers if (status := process.poll()) is not None]
            for place, status in ended:
                with contextlib.suppress(OSError, ValueError):
                    told = json.loads(place.report.read_text(encoding="utf-8"))
                    return Loss(place.rank, status, told["type"], told["message"], told["traceback"])
            for place, status in ended:
                if status != BEREFT:
                    return Loss(place.rank, status)
            time.sleep(_LOOK_SECONDS)
        return Loss(0, None)

    def close(self) -> None:
        """End all followers. A second call does no harm."""
        self._closing.set()
        for _, process in self._followers:
            if process.stdin is not None:
                process.stdin.close()
        end = time.monotonic() + _LOOK_SECONDS
        while time.monotonic() < end and any(process.poll() is None for _, process in self._followers):
            time.sleep(0.01)
        for _, process in self._followers:
            process.kill()
            process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


def exit_code_of(loss: Loss) -> int:
    """Return the exit code that a shell would give for the loss."""
    if loss.status is None or loss.status >= 0:
        return loss.status or 1
    return 128 - loss.status
