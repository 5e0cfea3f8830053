"""Persistence, means, seasons and vector autoregressions, each of the series itself.

Two autoregressions choose order and ridge on training systems.

(Luetkepohl, New Introduction to Multiple Time Series Analysis, 2005.)
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import UsageError
from lvjobs.forecasting.baselines.tuning import tuned
from lvjobs.forecasting.codec import Floats


def persistence(history: Floats, horizon: int) -> Floats:
    """Repeat the last value: (S, T, V) -> (S, horizon, V), original units."""
    return history[:, -1:].repeat(horizon, axis=1)


def mean(history: Floats, horizon: int) -> Floats:
    """Repeat the mean of each variable's history: (S, T, V) -> (S, horizon, V), original units."""
    forecast: Floats = history.mean(axis=1, keepdims=True).repeat(horizon, axis=1)
    return forecast


def seasonal_naive(history: Floats, horizon: int) -> Floats:
    """Repeat the last period: (S, T, V) -> (S, horizon, V), original units.

    All variables of a system share one period (`period`). Raises UsageError for a history of one step.
    """
    lag, steps = period(history), np.arange(horizon)
    where = history.shape[1] - lag[:, None] + steps % lag[:, None]
    return np.take_along_axis(history, where[:, :, None], axis=1)


def period(history: Floats) -> NDArray[np.int64]:
    """Return each system's period in steps, (S,), from history (S, T, V).

    The period is the lag at which the last half of the history differs least, in mean square over steps and variables,
    from the same stretch that much earlier. That is autocorrelation less the energy of both stretches (the difference
    function of de Cheveigne and Kawahara, JASA 111, 2002): plain autocorrelation over so few periods prefers lags at
    which the stretch is large. Lags run from a tenth of the history (8 of 80 steps) to half of it (40), and the
    shortest one wins a tie. Populations vary over orders of magnitude, so series that are positive throughout are
    compared in logarithms, others in units of each variable's standard deviation.
    """
    need_steps(history, 2, "seasonal-naive")
    steps = history.shape[1]
    positive = (history > 0).all(axis=(1, 2), keepdims=True)
    compared = np.where(positive, np.log(np.where(positive, history, 1.0)), history / moments(history)[1])
    longest = steps // 2
    lags = np.arange(max(1, steps // 10), longest + 1)
    last = compared[:, steps - longest :]
    distances = np.stack(
        [((last - compared[:, steps - longest - lag : steps - lag]) ** 2).mean(axis=(1, 2)) for lag in lags]
    )
    # In an exact cycle every multiple of the period is equally near, except for rounding.
    tie = distances.min(axis=0) + 1e-12 * (last**2).mean(axis=(1, 2))
    chosen: NDArray[np.int64] = lags[np.argmax(distances <= tie, axis=0)]
    return chosen


RIDGE = 1e-3
ORDERS, RIDGES = (4, 8, 12, 16, 20, 25, 30), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""The orders and ridges among which the tuned VARs choose."""
TUNED_ON = 100
"""The number of training systems on which they choose."""
LARGEST = 1e6
"""The factor by which a forecast may exceed its history's largest size, so that a divergence can still be squared."""
_SQUARABLE = 1e140
"""The bound of sizes before that factor is applied."""


def var_levels(history: Floats, horizon: int, order: int = 8) -> Floats:
    """Forecast by a VAR of `order` on the values themselves: (S, T, V) -> (S, horizon, V), original units.

    Raises:
        UsageError: the history is not longer than the order.
    """
    bound = LARGEST * np.minimum(np.abs(history).max(axis=1), _SQUARABLE)
    return _forecast(history, horizon, order, -bound, bound)


def var_logs(history: Floats, horizon: int, order: int = 12) -> Floats:
    """Forecast by a VAR of `order` on logarithms: (S, T, V) -> (S, horizon, V), original units, positive.

    A forecast that rises too far is exponentiated, which causes rare divergences that dominate the mean (not the
    median).

    Raises:
        UsageError: the history is not longer than the order, or not positive throughout.
    """
    need_positive(history, "VAR in logarithms")
    logs = np.log(history)
    highest = np.log(LARGEST) + np.minimum(logs.max(axis=1), np.log(_SQUARABLE))
    return np.exp(_forecast(logs, horizon, order, logs.min(axis=1) - np.log(LARGEST), highest))


def tuned_var_levels(history: Floats, horizon: int, training: NDArray[Any] | None) -> Floats:
    """Forecast by a VAR whose order and ridge suit the training systems best: (S, T, V) -> (S, horizon, V).

    Original units. The finished forecast is clipped to the range of each variable's history. So narrow a bound within
    the recursion would be taken for an observation.

    Raises:
        UsageError: the training systems are refused by `tuned`, or the history is too short for every order.
    """

    def forecast(known: Floats, order: int, ridge: float) -> Floats:
        sizes = np.abs(known).max(axis=1, keepdims=True)
        scaled = known / np.where(sizes > 0, sizes, 1.0)
        bound = np.full((len(known), known.shape[2]), LARGEST)
        made = _forecast(scaled, horizon, order, -bound, bound, ridge)
        clipped: Floats = np.clip(made, scaled.min(axis=1, keepdims=True), scaled.max(axis=1, keepdims=True)) * sizes
        return clipped

    return tuned("var-tuned", forecast, _settings(), history, horizon, training, systems=TUNED_ON)


def tuned_var_logs(history: Floats, horizon: int, training: NDArray[Any] | None) -> Floats:
    """Forecast by such a VAR of logarithms; (S, T, V) -> (S, horizon, V), original units, positive.

    Raises:
        UsageError: as `tuned_var_levels`; or a history is not positive throughout.
    """
    need_positive(history, "VAR in logarithms")

    def forecast(known: Floats, order: int, ridge: float) -> Floats:
        logs = np.log(known)
        reach = np.log(LARGEST)
        made = _forecast(logs, horizon, order, logs.min(axis=1) - reach, logs.max(axis=1) + reach, ridge)
        return np.exp(np.clip(made, logs.min(axis=1, keepdims=True), logs.max(axis=1, keepdims=True)))

    return tuned("var-tuned-log", forecast, _settings(), history, horizon, training, systems=TUNED_ON, positive=True)


def _settings() -> Iterator[tuple[int, float]]:
    return itertools.product(ORDERS, RIDGES)


def _forecast(series: Floats, horizon: int, order: int, low: Floats, high: Floats, ridge: float = RIDGE) -> Floats:
    """Fit by least squares with an intercept, and continue from the end; `low` and `high` (S, V) bound every step.

    Each variable is first scaled to mean 0 and deviation 1, and `ridge` times the squared coefficients is added (Hoerl
    and Kennard, 1970). 80 smooth steps barely determine 17 coefficients per variable: without the ridge the study's
    file gives an MSE of 160 over all systems, because of a handful that diverge. statsmodels' VAR has no such term and
    fits one system at a time; here all are solved at once.
    """
    need_steps(series, order + 1, f"VAR of order {order}")
    count, steps, _ = series.shape
    middle, width = moments(series)
    scaled = (series - middle) / width
    lagged = np.concatenate([scaled[:, order - lag : steps - lag] for lag in range(1, order + 1)], axis=2)
    design = np.concatenate([np.ones((count, steps - order, 1)), lagged], axis=2)
    normal = design.transpose(0, 2, 1) @ design + ridge * np.eye(design.shape[2])
    weights = np.linalg.solve(normal, design.transpose(0, 2, 1) @ scaled[:, order:])
    low, high = ((edge[:, None] - middle) / width for edge in (low, high))
    past = [scaled[:, steps - lag : steps - lag + 1] for lag in range(1, order + 1)]  # newest first
    future: list[Floats] = []
    for _ in range(horizon):
        row = np.concatenate([np.ones((count, 1, 1)), *past], axis=2)
        step = np.clip(row @ weights, low, high)
        future.append(step)
        past = [step, *past[:-1]]
    return np.concatenate(future, axis=1) * width + middle


# -- what every baseline demands of a history, and what several compute of it -----------------------------------------


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
        raise UsageError(f"horizon = {horizon}: it must be at least 1")
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


def checked_times(time: NDArray[Any] | None, steps: int, horizon: int, method: str) -> Floats:
    """Return the times of history and horizon in mean steps of the history, from 0: (steps + horizon,).

    None means equal steps. Raises UsageError for too few times, or times that do not increase.
    """
    if time is None:
        return np.arange(steps + horizon, dtype=np.float64)
    times = np.asarray(time, dtype=np.float64)[: steps + horizon]
    if times.shape != (steps + horizon,) or not (np.diff(times) > 0).all():
        raise UsageError(
            f"{method} needs {steps + horizon} increasing times, history and horizon; it got {np.shape(time)}"
        )
    scaled: Floats = (times - times[0]) / np.diff(times[:steps]).mean()
    return scaled
