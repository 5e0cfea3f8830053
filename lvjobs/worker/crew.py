"""The first process of a team, and those that follow it: started inside the job, watched, ended with it.

The death of one is the end of the attempt, and it is never waited for long: gloo notices a peer that is gone, NCCL may
not, so a thread looks. An exception in a follower is the run's error; any other death is no fault of the code, and the
attempt ends as a worker that was killed: without a last word, by the exit code of the one that died.
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
"""For the first process to notice by itself that another died; and for that one's end to be seen."""


@dataclass(frozen=True)
class Loss:
    """How a follower ended. `error`, `message` and `traceback` are what it raised; empty if it just died.

    `status` is its exit code, negative for a signal, and None where it lives and does not answer.
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
        """Start them; each waits for the others in `lvjobs.worker.team.join`, at `meeting`."""
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
        """Call `give_up`, in a thread, some seconds after a follower died, if the crew is not closed by then."""
        threading.Thread(target=self._watch, args=[give_up], daemon=True).start()

    def _watch(self, give_up: Callable[[Loss], object]) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            if any(process.poll() is not None for _, process in self._followers):
                if not self._closing.wait(_GRACE_SECONDS):
                    give_up(self.loss())
                return

    def loss(self) -> Loss:
        """Who is lost, once it shows: the one that failed, else the one that died first of itself."""
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
        """End them all; harmless when done twice."""
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
    """A shell's exit code for it."""
    if loss.status is None or loss.status >= 0:
        return loss.status or 1
    return 128 - loss.status
