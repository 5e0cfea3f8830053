"""Progress lines in the log of a job: when a run starts to train, and its steps from time to time."""

import sys
import time
from collections.abc import Mapping

EVERY_SECONDS = 10.0
_MOST = 3
"""The number of metrics in a line."""


class ProgressLines:
    """The lines about one attempt of a run of `steps` steps. The journal has every step; a log has a few."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._begun = time.monotonic()
        self._next = 0.0

    def begin(self, step: int) -> None:
        """Print that the run starts to train after `step`, and how long loading took."""
        self._print(f"loaded in {time.monotonic() - self._begun:.0f} s; training from step {step} of {self._steps}")

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print a step, if the last line is `EVERY_SECONDS` old, or if it is the first or the last step."""
        now = time.monotonic()
        if now >= self._next or step == self._steps:
            self._next = now + EVERY_SECONDS
            values = "".join(f", {name} {value:.4g}" for name, value in list(metrics.items())[:_MOST])
            self._print(f"step {step} of {self._steps}{values}")

    def _print(self, text: str) -> None:
        sys.stdout.write(f"lvjobs worker: {text}\n")
        sys.stdout.flush()  # a log may be followed while it grows
