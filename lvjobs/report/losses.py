"""What the journals say of a run's losses: one curve, as if nothing had ever died, and where it was taken up again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.records.curves import LOSSES, curves
from lvjobs.study.layout import RunLayout

_SMOOTHED = 20
"""A training loss is drawn as means over a twentieth of the run: single batches differ more than steps do."""


@dataclass(frozen=True)
class Losses:
    """A run's losses under one metric: step -> loss, in the order of steps.

    `validation` begins at step 0, the untrained model's. `resumed` are the steps after which an attempt took the run up
    again; the steps that were lost with its predecessor are there once, as they were done again. `in_nats`: they are
    the bundled training's, in nats a token; what a function of one's own calls its loss may be anything.
    """

    run: str
    metric: str
    training: Mapping[int, float]
    validation: Mapping[int, float]
    resumed: tuple[int, ...] = ()
    in_nats: bool = True

    @property
    def best(self) -> int | None:
        """The step of the lowest validation loss, the first of equal ones."""
        return min(self.validation, key=lambda step: (self.validation[step], step), default=None)

    @property
    def smooth(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Steps and training losses as they are drawn."""
        width = max(1, len(self.training) // _SMOOTHED)
        steps, losses = np.array([*self.training], dtype=float), np.array([*self.training.values()], dtype=float)
        return smoothed(steps, width), smoothed(losses, width)


def read_losses(files: RunLayout, *, in_nats: bool = True) -> Losses | None:
    """Of the run in this directory; None where its journals hold no loss yet."""
    found = curves(path.read_bytes() for path in sorted(files.journals.glob("*.jsonl")))
    for metric in LOSSES:
        training, validation = (found.values[kind].get(metric, {}) for kind in ("step", "validation"))
        if training or validation:
            trained, validated = dict(sorted(training.items())), dict(sorted(validation.items()))
            return Losses(files.root.name, metric, trained, validated, tuple(found.resumed), in_nats)
    return None


def smoothed(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Means of `width` values each, one after the other; what is left at the end is the last mean."""
    return np.array([values[start : start + width].mean() for start in range(0, len(values), width)])
