"""Automatic ARIMA, exponential smoothing and Theta of statsforecast, of each variable of a series by itself.

(Hyndman and Khandakar, J. Stat. Software 27, 2008; Hyndman and others, Forecasting with Exponential Smoothing, 2008;
Fiorucci and others, Int. J. Forecasting 32, 2016.)
"""

from typing import Any

import numpy as np

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.baselines.statistical import period
from lvjobs.forecasting.codec import Floats

CLASSES = {"auto-arima": "AutoARIMA", "auto-ets": "AutoETS", "auto-theta": "AutoTheta"}


class NotFitted(LvjobsError):
    """A method that cannot be fitted to a history."""


def forecast_each(method: str, history: Floats, horizon: int) -> Floats:
    """Forecast one series: (horizon, V) from its history (T, V), original units.

    The season is the period of the series, as `seasonal-naive` has it. With it, the errors of all three methods on 50
    training systems are lower than without a season (docs/evaluate.md).

    Raises:
        NotFitted: the method cannot be fitted to a variable of this history.
    """
    from statsforecast import models

    season = int(period(history[None])[0])
    made: list[Any] = []
    for number, values in enumerate(history.T):
        try:
            found = getattr(models, CLASSES[method])(season_length=season).forecast(y=values.copy(), h=horizon)
        except MemoryError:
            raise
        except Exception as error:  # statsforecast passes on whatever numba and scipy raise
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise NotFitted(f"{method} cannot be fitted to variable {number} ({reason})") from error
        made.append(found["mean"])
    return np.stack(made, axis=1).astype(np.float64)
