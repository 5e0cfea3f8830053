"""The baselines that use nothing but the series itself: persistence, means, seasons and vector autoregressions.

(Luetkepohl, New Introduction to Multiple Time Series Analysis, 2005.)
"""

import numpy as np
from numpy.typing import NDArray

from lvjobs.forecasting.baselines.checks import moments, need_positive, need_steps
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


def _forecast(series: Floats, horizon: int, order: int, low: Floats, high: Floats) -> Floats:
    """Fit by least squares with an intercept, and continue from the end; `low` and `high` (S, V) bound every step.

    Each variable is first scaled to mean 0 and deviation 1, and RIDGE times the squared coefficients is added (Hoerl
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
    normal = design.transpose(0, 2, 1) @ design + RIDGE * np.eye(design.shape[2])
    weights = np.linalg.solve(normal, design.transpose(0, 2, 1) @ scaled[:, order:])
    low, high = ((edge[:, None] - middle) / width for edge in (low, high))
    past = [scaled[:, steps - lag : steps - lag + 1] for lag in range(1, order + 1)]  # newest first
    future: list[Floats] = []
    for _ in range(horizon):
        row = np.concatenate([np.ones((count, 1, 1)), *past], axis=2)
        step = np.clip(row @ weights, low, high)
        future.append(step)
        past = [step, *past[:-1]]
    values: Floats = np.concatenate(future, axis=1) * width + middle
    return values
