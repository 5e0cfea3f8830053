"""A run's losses from its journals: one curve without interruptions, and the steps from which it resumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.records.curves import LOSSES, curves
from lvjobs.study.layout import RunLayout

_SMOOTHED = 20
"""The number of means that a run's training loss is drawn as, because single batches differ more than steps do."""


@dataclass(frozen=True)
class Losses:
    """A run's losses under one metric: step -> loss, in the order of steps.

    `validation` begins at step 0, with the untrained model's. `resumed` are the steps after which an attempt resumed
    the run; repeated steps are there once, as they were repeated. `in_nats`: the losses are the bundled training's, in
    nats per token; the loss of a user's own function may be anything.
    """

    run: str
    metric: str
    training: Mapping[int, float]
    validation: Mapping[int, float]
    resumed: tuple[int, ...] = ()
    in_nats: bool = True

    @property
    def best(self) -> int | None:
        """Return the step of the lowest validation loss, the first of equal ones; None without any."""
        return min(self.validation, key=lambda step: (self.validation[step], step), default=None)

    @property
    def smooth(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return steps and training losses as they are drawn."""
        width = max(1, len(self.training) // _SMOOTHED)
        steps, losses = np.array([*self.training], dtype=float), np.array([*self.training.values()], dtype=float)
        return smoothed(steps, width), smoothed(losses, width)


def read_losses(files: RunLayout, *, in_nats: bool = True) -> Losses | None:
    """Return the losses of the run in this directory; None if its journals hold no loss yet."""
    found = curves(path.read_bytes() for path in sorted(files.journals.glob("*.jsonl")))
    for metric in LOSSES:
        training, validation = (found.values[kind].get(metric, {}) for kind in ("step", "validation"))
        if training or validation:
            trained, validated = dict(sorted(training.items())), dict(sorted(validation.items()))
            return Losses(files.root.name, metric, trained, validated, tuple(found.resumed), in_nats)
    return None


def smoothed(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Return the means of `width` values each, in order; the last mean has the remaining values."""
    return np.array([values[start : start + width].mean() for start in range(0, len(values), width)])
