"""Early stopping: a run ends when validation has not become better for a while. What was seen is in each checkpoint."""

import math
from collections.abc import Mapping
from typing import Any


class EarlyStopping:
    """How long validation has brought nothing new. A loss counts as better if it is at least `delta` below the best."""

    def __init__(self, patience: int | None, delta: float = 0.0) -> None:
        """Wait for `patience` validations in a row without one that is better; None: for ever."""
        self.patience, self.delta = patience, delta
        self.best = math.inf
        self.waited = 0

    def see(self, loss: float) -> None:
        """Take note of a validation."""
        if loss < self.best and loss <= self.best - self.delta:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1

    @property
    def is_over(self) -> bool:
        """Whether it has been waited long enough."""
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, float]:
        """What was seen."""
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what was seen."""
        self.best, self.waited = float(state["best"]), int(state["waited"])
