"""The baselines that use nothing but the series itself."""

import numpy as np
from numpy.typing import NDArray

from lvjobs.forecasting.baselines.checks import moments, need_steps
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
