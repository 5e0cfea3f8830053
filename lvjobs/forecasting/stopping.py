"""Early stopping: a run ends when validation has not improved for a while. Its state is in each checkpoint."""

import math
from collections.abc import Mapping
from typing import Any


class EarlyStopping:
    """The count of validations without improvement. A loss is better if it is at least `delta` below the best."""

    def __init__(self, patience: int | None, delta: float = 0.0) -> None:
        """Wait for `patience` validations in a row without improvement; None: for ever."""
        self.patience, self.delta = patience, delta
        self.best = math.inf
        self.waited = 0

    def see(self, loss: float) -> None:
        """Record a validation loss."""
        if loss < self.best and loss <= self.best - self.delta:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1

    @property
    def is_over(self) -> bool:
        """Return whether the patience is used up."""
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, float]:
        """Return the state for a checkpoint."""
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self.best, self.waited = float(state["best"]), int(state["waited"])
