"""Paired comparison of two forecasters by their errors on the same series, with intervals and tests. Pure.

Errors are compared series by series, so that what makes a series easy or hard for both cancels out. Two intervals
that overlap say nothing about that difference. Three measures are compared:

    mae     the mean over series of each series' mean absolute error
    mse     the mean over series of each series' mean squared error
    median  the median over series of each series' mean absolute error: the typical series

A difference is `own - other`, so a negative one is a lower error. Its interval is a percentile bootstrap over series
(Efron and Tibshirani, 1993, ch. 13). Where a model was trained with several seeds, its error on a series is the mean
over seeds, and each resample draws seeds as well as series. The deviations of R seeds from their mean are scaled by
sqrt(R / (R - 1)): resamples of R seeds alone would vary too little by that factor.

`p` of mae and mse is two-sided: twice the share of resampled differences beyond 0, the observed one counted in. `p` of
the median is Wilcoxon's signed-rank test of the differences by series (Biometrics Bulletin 1, 1945). It asks whether
one error is lower on most series and by most of the size, so it may differ in sign from both means, which a few series
can carry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.stats import wilcoxon

from lvjobs.errors import UsageError
from lvjobs.forecasting.codec import Floats

Measure: TypeAlias = Literal["mae", "mse", "median"]
MEASURES: tuple[Measure, ...] = ("mae", "mse", "median")
RESAMPLES = 5000
CONFIDENCE = 0.95
FEWEST = 20
"""The number of series below which nothing is tested: a bootstrap of fewer has intervals that are too narrow."""
_BLOCK = 500
"""The number of resamples drawn at once, so that many series fit into memory."""


@dataclass(frozen=True)
class Errors:
    """A forecaster's errors by series, (seeds, series) each, in the data's own units. A baseline has one row.

    Attributes:
        mae: Mean absolute errors.
        mse: Mean squared errors.
    """

    mae: Floats
    mse: Floats

    @property
    def seeds(self) -> int:
        """Return the number of training seeds."""
        return len(self.mae)

    @property
    def spread(self) -> Mapping[Measure, float | None]:
        """Return the standard deviation over seeds of each measure; None for a single seed."""
        each: dict[Measure, Floats] = {
            "mae": self.mae.mean(axis=1),
            "mse": self.mse.mean(axis=1),
            "median": np.median(self.mae, axis=1),
        }
        return {name: float(values.std(ddof=1)) if len(values) > 1 else None for name, values in each.items()}


@dataclass(frozen=True)
class Difference:
    """A difference `own - other` of one measure, with the ends of its 95 % interval and its p-value."""

    own: float
    other: float
    low: float
    high: float
    p: float

    @property
    def value(self) -> float:
        """Return own - other."""
        return self.own - self.other

    @property
    def skill(self) -> float | None:
        """Return the skill score, 1 - own / other; None if the other error is 0."""
        return 1 - self.own / self.other if self.other else None


@dataclass(frozen=True)
class Comparison:
    """Two forecasters on the same series.

    Attributes:
        series: The number of series.
        seeds: The number of training seeds of each.
        measures: The difference of each measure.
        wins: The number of series on which the own MAE is lower; `ties`, on which both are equal.
        direction: The sign of the rank test: -1 if the own errors are the lower ones, 1 if the higher, 0 if neither.
    """

    series: int
    seeds: tuple[int, int]
    measures: Mapping[Measure, Difference]
    wins: int
    ties: int
    direction: int


def errors_of(forecast: Floats, truth: Floats) -> dict[str, Floats]:
    """Return each series' mean absolute and mean squared error, (S,) each, of forecasts (S, H, V)."""
    sizes = np.abs(forecast - truth)
    return {"mae": sizes.mean(axis=(1, 2)), "mse": (sizes**2).mean(axis=(1, 2))}


def gathered(of_seeds: Sequence[Mapping[str, Any]]) -> Errors:
    """Return the errors of one model: one mapping per seed, each with the lists `mae` and `mse` by series."""
    mae, mse = (np.array([each[name] for each in of_seeds], dtype=np.float64) for name in ("mae", "mse"))
    return Errors(mae, mse)


def compare(pairs: Sequence[tuple[Errors, Errors]], *, seed: int = 0) -> list[Comparison]:
    """Compare pairs of forecasters on the same series.

    Args:
        pairs: (own, other) each; all errors are of the same series, in the same order.
        seed: The seed of the resamples. All forecasters are resampled by the same series.

    Returns:
        The comparisons, in the order of `pairs`.

    Raises:
        UsageError: the forecasters have not the same number of series.
    """
    every = list({id(each): each for pair in pairs for each in pair}.values())
    if len({each.mae.shape[1] for each in every}) > 1:
        raise UsageError("forecasts of other series cannot be compared in pairs")
    drawn = {id(each): _resampled(each, seed, place) for place, each in enumerate(every)}
    return [_compared(own, other, drawn[id(own)], drawn[id(other)]) for own, other in pairs]


def holm(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's procedure (Scand. J. Statist. 6, 1979), in their own order."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted


def _measured(errors: Errors) -> dict[Measure, float]:
    mae, mse = errors.mae.mean(axis=0), errors.mse.mean(axis=0)
    return {"mae": float(mae.mean()), "mse": float(mse.mean()), "median": float(np.median(mae))}


def _resampled(errors: Errors, seed: int, place: int) -> dict[Measure, Floats]:
    """Return each measure of RESAMPLES resamples, (RESAMPLES,). `place` makes forecasters draw seeds of their own."""
    series, of_seeds = np.random.default_rng(seed), np.random.default_rng([seed, place])
    count, scale = errors.seeds, np.sqrt(errors.seeds / max(1, errors.seeds - 1))
    found: dict[Measure, list[Floats]] = {name: [] for name in MEASURES}
    for _ in range(RESAMPLES // _BLOCK):
        rows = series.integers(errors.mae.shape[1], size=(_BLOCK, errors.mae.shape[1]))
        shares = of_seeds.multinomial(count, [1 / count] * count, size=_BLOCK) / count
        of_measure = {}
        for name, values in (("mae", errors.mae), ("mse", errors.mse)):
            mean = values.mean(axis=0)
            of_measure[name] = np.take_along_axis(mean + scale * (shares @ (values - mean)), rows, axis=1)
        found["mae"].append(of_measure["mae"].mean(axis=1))
        found["mse"].append(of_measure["mse"].mean(axis=1))
        found["median"].append(np.median(of_measure["mae"], axis=1))
    return {name: np.concatenate(values) for name, values in found.items()}


def _compared(
    own: Errors, other: Errors, drawn: Mapping[Measure, Floats], against: Mapping[Measure, Floats]
) -> Comparison:
    ahead, behind = _measured(own), _measured(other)
    by_series = own.mae.mean(axis=0) - other.mae.mean(axis=0)
    p_rank, direction = _rank_test(by_series)
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    measures: dict[Measure, Difference] = {}
    for name in MEASURES:
        apart = drawn[name] - against[name]
        low, high = map(float, np.quantile(apart, tails))
        # The observed sample counts as one more resample, so that no p-value is 0.
        beyond = 1 + min((apart <= 0).sum(), (apart >= 0).sum())
        p = p_rank if name == "median" else min(1.0, 2 * float(beyond) / (len(apart) + 1))
        measures[name] = Difference(ahead[name], behind[name], low, high, p)
    return Comparison(
        series=len(by_series),
        seeds=(own.seeds, other.seeds),
        measures=measures,
        wins=int((by_series < 0).sum()),
        ties=int((by_series == 0).sum()),
        direction=direction,
    )


def _rank_test(differences: Floats) -> tuple[float, int]:
    """Return the two-sided p-value of Wilcoxon's signed-rank test, and its sign. Differences of 0 are left out."""
    if not differences.any():
        return 1.0, 0
    lower, higher = (float(wilcoxon(differences, alternative=side).pvalue) for side in ("less", "greater"))
    p = float(wilcoxon(differences).pvalue)
    return p, 0 if lower == higher else -1 if lower < higher else 1
