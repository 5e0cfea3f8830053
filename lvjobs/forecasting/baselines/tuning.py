"""Baselines whose settings are chosen on the training systems: by their forecasts of these, as of scored ones."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting.codec import Floats


def tuned(
    name: str,
    forecast: Callable[..., Floats],
    settings: Iterable[tuple[Any, ...]],
    history: Floats,
    horizon: int,
    training: NDArray[Any] | None,
    *,
    systems: int,
) -> Floats:
    """Forecast with the settings that have the lowest mean absolute error on training systems.

    The error of each variable is in units of its mean size there, so that its unit decides nothing. Each training
    system's first T steps are its history, and the next `horizon` its truth. No later step is used.

    Args:
        name: The baseline's name, for messages.
        forecast: A function of (S, T, V) and one of the settings, which returns (S, horizon, V).
        settings: The choices; of equal ones the first is taken.
        history: (S, T, V), the systems to be forecast.
        horizon: Steps to forecast.
        training: (N, T', V), other systems, original units.
        systems: The most training systems to use, evenly over all of them.

    Raises:
        UsageError: there are no training systems, or they are too short; or no setting can be used.
    """
    if training is None or not len(training):
        raise UsageError(f"{name} needs training systems for its settings: give it a split, or leave it out")
    steps = history.shape[1]
    if training.shape[1] < steps + horizon:
        raise UsageError(f"{name} needs training systems of {steps + horizon} steps; these have {training.shape[1]}")
    chosen = np.ascontiguousarray(training[:: -(-len(training) // systems), : steps + horizon], dtype=np.float64)
    truth = chosen[:, steps:]
    sizes = np.abs(truth).mean(axis=(0, 1))
    sizes = np.where(sizes > 0, sizes, 1.0)
    errors, problem = {}, ""
    for setting in settings:
        try:
            errors[setting] = float((np.abs(forecast(chosen[:, :steps], *setting) - truth) / sizes).mean())
        except LvjobsError as error:  # noqa: PERF203 - an order that the history is too short for
            problem = str(error)
    if not errors:
        raise UsageError(problem or f"{name} has no settings to choose from")
    return forecast(history, *min(errors, key=lambda setting: errors[setting]))
