"""What writing numbers with few decimals costs by itself: no forecast, for it sees the truth; the floor below them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.forecasting.codec import Floats


def rounding_floor(
    history: NDArray[Any], truth: NDArray[Any], decimals: int = 2, alpha: float = 0.99, target: float = 10.0
) -> Floats:
    """The truth (S, H, V), scaled, rounded to `decimals` and scaled back: what a perfect model's forecast would be.

    The scale is one for all series: the alpha-quantile of all histories (S, T, V) is written as `target`, which with
    10 and two decimals makes a unit of the last decimal 0.006 on the study's file, and the mean error a quarter of it.
    A codec with a scale per series has a floor of its own.
    """
    unit = float(np.quantile(np.asarray(history, dtype=np.float64), alpha)) / target or 1.0
    rounded: Floats = np.round(np.asarray(truth, dtype=np.float64) / unit, decimals) * unit
    return rounded
