"""The conditions that every baseline demands of its history, and what several compute of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import UsageError
from lvjobs.forecasting.codec import Floats


def checked_history(history: NDArray[Any], horizon: int) -> Floats:
    """Return history as float64, (S, T, V). Raises UsageError for another shape, NaN, infinity, or a horizon of 0."""
    # One layout in memory, because sums in another order would differ in their last bits.
    history = np.ascontiguousarray(history, dtype=np.float64)
    if history.ndim != 3 or 0 in history.shape:  # noqa: PLR2004
        raise UsageError(
            f"history has the shape {history.shape}; it must be (systems, steps, variables), none of them 0"
        )
    if not np.isfinite(history).all():
        raise UsageError("history has NaN or infinity; repair or drop those series")
    if horizon < 1:
        raise UsageError(f"a horizon of {horizon} steps is none: ask for at least 1")
    return history


def need_steps(history: Floats, steps: int, method: str) -> None:
    """Raise UsageError if history, (S, T, V), has fewer than `steps` steps."""
    if history.shape[1] < steps:
        raise UsageError(f"{method} needs a history of at least {steps} steps; this one has {history.shape[1]}")


def need_positive(history: Floats, method: str) -> None:
    """Raise UsageError if a value of history, (S, T, V), has no logarithm."""
    if not (positive := (history > 0).all(axis=(1, 2))).all():
        raise UsageError(
            f"{method} takes logarithms, but series {int(np.argmin(positive))} is not positive throughout: leave it out"
        )


def moments(series: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each variable, (S, 1, V) of (S, T, V); 1 for one that never changes."""
    width = series.std(axis=1, keepdims=True)
    return series.mean(axis=1, keepdims=True), np.where(width > 0, width, 1.0)
