"""Forecasts without a language model, to compare a model's forecasts with, over the same systems.

Each takes history (S, T, V) in the data's own units and returns the horizon's H steps, (S, H, V). None sees more of a
tested system than its history; those that take `training` see the training systems too. `statistical` has persistence,
means, seasons and vector autoregressions, and what all demand of a history; `analogue` has nearest neighbours and
motifs, `growth` fits dynamics whose law is not known, and `ode` the law behind the data. `tuning` chooses settings on
the training systems; `integration` has integrals and solutions of differential equations. A new baseline is a function,
and an entry of `BASELINES` here. `extras` has those that need a package of their own and are made on request:
`univariate` those of statsforecast, and `chronos` pretrained models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lvjobs.errors import UsageError
from lvjobs.forecasting.baselines.analogue import analogue, analogue_training, parroting
from lvjobs.forecasting.baselines.growth import sparse_growth
from lvjobs.forecasting.baselines.ode import rosenzweig_macarthur
from lvjobs.forecasting.baselines.statistical import (
    checked_history,
    mean,
    persistence,
    seasonal_naive,
    tuned_var_levels,
    tuned_var_logs,
    var_levels,
    var_logs,
)
from lvjobs.forecasting.codec import Floats
from lvjobs.forecasting.splits import Split


@dataclass(frozen=True)
class Baseline:
    """One method: its description in a line, and which of `training` and `time` it takes beside history and horizon.

    `knows_the_law`: it was given the equations behind the study's own data, which no other method has.
    """

    description: str
    method: Callable[..., Floats]
    takes: tuple[str, ...] = ()
    knows_the_law: bool = False


BASELINES: Mapping[str, Baseline] = {
    "persistence": Baseline("the last value, repeated", persistence),
    "mean": Baseline("the mean of the history", mean),
    "seasonal-naive": Baseline("the last period again, its length by autocorrelation", seasonal_naive),
    "var-8": Baseline("vector autoregression of order 8, a series at a time", var_levels),
    "var-12-log": Baseline("vector autoregression of order 12 in logarithms; rare blow-ups", var_logs),
    "var-tuned": Baseline("VAR, order and ridge tuned on training systems, clipped", tuned_var_levels, ("training",)),
    "var-tuned-log": Baseline("the same VAR in logarithms", tuned_var_logs, ("training",)),
    "analogue": Baseline("what followed the nearest windows of the same history", analogue),
    "analogue-training": Baseline(
        "what followed the nearest windows of the training systems", analogue_training, ("training",)
    ),
    "parroting": Baseline("what followed the nearest motif of the same history, copied", parroting, ("training",)),
    "sparse-growth": Baseline(
        "growth rates as sparse polynomials, fitted to the history and solved onward",
        sparse_growth,
        ("training", "time"),
    ),
    "ode": Baseline(
        "the Rosenzweig-MacArthur law, fitted to the history (it knows the law)",
        rosenzweig_macarthur,
        ("time",),
        knows_the_law=True,
    ),
}
"""The baselines by name, in the order of a table: from the simplest to the one that knows the law behind the data."""
KNOWING = frozenset(name for name, baseline in BASELINES.items() if baseline.knows_the_law)
"""The baselines that know the law behind the data."""


def row_name(name: str) -> str:
    """Return a baseline's name as tables and figures show it: one that knows the law says so."""
    return f"{name} (knows the law)" if name in KNOWING else name


def forecast(
    name: str, history: NDArray[Any], horizon: int, *, training: NDArray[Any] | None = None, time: Floats | None = None
) -> Floats:
    """Forecast `horizon` steps: (S, horizon, V) from history (S, T, V), both in the data's own units.

    Args:
        name: A key of BASELINES.
        history: The known steps of the systems to be forecast.
        horizon: The number of steps that follow.
        training: (N, T', V), other systems, for methods that take them.
        time: (T + horizon,) or longer, the steps' times, for methods that take them; None means equal steps.

    Raises:
        UsageError: the name, a shape or a value is not valid for this method.
        LvjobsError: the method failed on these series.
    """
    if name not in BASELINES:
        raise UsageError(f"there is no baseline {name!r}: choose from {', '.join(BASELINES)}")
    baseline = BASELINES[name]
    offered = {"training": training, "time": time}
    return baseline.method(checked_history(history, horizon), horizon, **{key: offered[key] for key in baseline.takes})


def forecast_split(name: str, split: Split, trajectories: NDArray[Any], time: Floats | None = None) -> Floats:
    """Forecast a split's scored systems, (S, horizon, V), to be compared with `split.truths(trajectories)`.

    `trajectories` (N, T, V) and `time` (T,) are a file's. The method gets only the scored systems' histories and the
    training systems, so it cannot look ahead. Raises as `forecast` does.
    """
    return forecast(
        name, split.histories(trajectories), split.horizon, training=split.training(trajectories), time=time
    )
