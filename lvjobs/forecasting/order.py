"""The order in which windows are trained on: shuffled anew each epoch, from a generator of its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError


class WindowOrder:
    """An endless stream of batches of window indices; its whole state is the number of drawn indices."""

    def __init__(self, windows: int, batch: int, seed: int) -> None:
        """Begin an order over `windows` windows, `batch` at a time; a batch may span two epochs."""
        self.windows, self.batch, self.seed = windows, batch, seed
        self.drawn = 0
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    def next(self) -> NDArray[np.int64]:
        """Return the next batch's indices, (batch,)."""
        batch = np.array([self._at(index) for index in range(self.drawn, self.drawn + self.batch)])
        self.drawn += self.batch
        return batch

    def _at(self, index: int) -> int:
        epoch, place = divmod(index, self.windows)
        if self._epoch[0] != epoch:
            self._epoch = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.windows)
        return int(self._epoch[1][place])

    def state(self) -> dict[str, int]:
        """Return the position, with the settings of the order."""
        return {"drawn": self.drawn, "windows": self.windows, "batch": self.batch, "seed": self.seed}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved position.

        Raises:
            LvjobsError: it is a position in another order.
        """
        for key in ("windows", "batch", "seed"):
            if state[key] != getattr(self, key):
                raise LvjobsError(
                    f"the checkpoint counts {key} = {state[key]}, this run {getattr(self, key)}; submit a new run"
                )
        self.drawn = int(state["drawn"])
