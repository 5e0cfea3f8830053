"""The time that a measurement may take, and the process that measures."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_LEAST = 60.0
"""Seconds that any part may take at least, while there are so many: models have to be loaded."""


class PartFailed(Exception):
    """A part was not measured; the message says why."""


class Budget:
    """The seconds that are left, shared among the parts that are left."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self._ends - time.monotonic()

    def share(self, weight: float, remaining: float) -> float:
        """Return the seconds of a part with this weight; `remaining` is the weight of all parts left, with this one."""
        return max(self.left, 0.0) * weight / remaining

    def bound(self, share: float) -> float:
        """Return the seconds after which a part with this share is stopped."""
        return min(self.left, max(2 * share, _LEAST))


class Helper:
    """`card.helper` in a process of its own: started when it is needed, and again after it failed."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment, self._log = environment, log
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()

    def ask(self, part: Mapping[str, Any], bound: float) -> Iterator[tuple[str, Any]]:
        """Yield what the part gives: ("row", ...) and ("note", ...).

        Raises:
            PartFailed: The part failed, its process ended, or it took longer than `bound` seconds.
        """
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        deadline = time.monotonic() + bound
        try:
            self._process.stdin.write(json.dumps(part) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PartFailed(self._why_it_ended()) from None
        while True:
            try:
                line = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self.stop()
                raise PartFailed(f"stopped after {bound:.0f} s") from None
            if line is None:
                raise PartFailed(self._why_it_ended())
            ((kind, value),) = json.loads(line).items()
            if kind == "end":
                return
            if kind == "error":
                raise PartFailed(value)
            yield kind, value

    def stop(self) -> None:
        """End the process; what it holds on the GPU is free then."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        answers: queue.Queue[str | None] = queue.Queue()
        self._answers = answers
        with self._log.open("w", encoding="utf-8") as log:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "card.helper"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True, encoding="utf-8", env={**os.environ, **self._environment},
            )  # fmt: skip

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                answers.put(line)
            answers.put(None)

        threading.Thread(target=read, daemon=True).start()

    def _why_it_ended(self) -> str:
        assert self._process is not None
        code = self._process.wait()
        self._process = None
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"]
        return f"the process ended with exit code {code}: {lines[-1][:240]}"
