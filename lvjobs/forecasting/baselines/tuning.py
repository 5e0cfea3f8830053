"""Checks of training systems, and the choice of settings by forecasts of them."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting.codec import Floats


def checked_training(name: str, training: NDArray[Any] | None, history: Floats, steps: int) -> Floats:
    """Return the training systems as float64, (N, T', V).

    Args:
        name: The baseline's name, for messages.
        training: Other systems than those of `history`, original units.
        history: (S, T, V), the systems to be forecast.
        steps: The fewest steps that a training system must have.

    Raises:
        UsageError: there are none, they have another shape or NaN, or a system to be forecast is among them: its future
            would be known.
    """
    if training is None or not len(training):
        raise UsageError(f"{name} needs the training systems: give it a split, or leave it out")
    training = np.ascontiguousarray(training, dtype=np.float64)
    if training.ndim != 3 or training.shape[2] != history.shape[2] or training.shape[1] < steps:  # noqa: PLR2004
        raise UsageError(
            f"training systems have the shape {training.shape}; for {name} it must be "
            f"(systems, at least {steps} steps, {history.shape[2]} variables)"
        )
    if not np.isfinite(training).all():
        raise UsageError("the training systems have NaN or infinity; repair or drop those series")
    known = {series.tobytes() for series in training[:, : history.shape[1]]}
    if leaked := [index for index, series in enumerate(history) if series.tobytes() in known]:
        raise UsageError(f"series {leaked[0]} is to be forecast, but stands among the training systems with its future")
    return training


def tuned(
    name: str,
    forecast: Callable[..., Floats],
    settings: Iterable[tuple[Any, ...]],
    history: Floats,
    horizon: int,
    training: NDArray[Any] | None,
    *,
    systems: int,
    positive: bool = False,
) -> Floats:
    """Forecast with the settings that have the lowest mean absolute error on training systems.

    The error of each variable is in units of its mean size there, so that its unit decides nothing. Each training
    system's first T steps are its history, and the next `horizon` its truth. No later step is used.

    Args:
        name: The baseline's name, for messages.
        forecast: A function of (S, T, V) and one of the settings, which returns (S, horizon, V).
        settings: The choices, those that need the shortest history first; of equal ones the first is taken.
        history: (S, T, V), the systems to be forecast.
        horizon: Steps to forecast.
        training: (N, T', V), other systems, original units.
        systems: The most training systems to use, evenly over all of them.
        positive: Whether only those are used whose history is positive throughout.

    Raises:
        UsageError: the training systems are refused by `checked_training`, none is positive, or no setting can be used.
        LvjobsError: the forecast is not finite.
    """
    steps = history.shape[1]
    known = checked_training(name, training, history, steps + horizon)[:, : steps + horizon]
    if positive:
        known = known[(known[:, :steps] > 0).all(axis=(1, 2))]
        if not len(known):
            raise UsageError(f"{name} takes logarithms, but no training system is positive throughout: leave it out")
    count = min(len(known), systems)
    known = known[np.arange(count) * len(known) // count]
    truth = known[:, steps:]
    sizes = np.abs(truth).mean(axis=(0, 1))
    sizes = np.where(sizes > 0, sizes, 1.0)
    errors, problem = {}, ""
    for setting in settings:
        try:
            error = float((np.abs(forecast(known[:, :steps], *setting) - truth) / sizes).mean())
        except LvjobsError as refusal:  # noqa: PERF203 - an order that the history is too short for
            problem = problem or str(refusal)
        else:
            errors[setting] = error if np.isfinite(error) else np.inf
    if not errors:
        raise UsageError(problem or f"{name} has no settings to choose from")
    made = forecast(history, *min(errors, key=lambda setting: errors[setting]))
    if not (solved := np.isfinite(made).all(axis=(1, 2))).all():
        raise LvjobsError(f"{name} has no finite forecast of series {int(np.argmin(solved))}: leave it out")
    return made
