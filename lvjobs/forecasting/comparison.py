"""Paired comparison of two forecasters by their errors on the same series, with intervals and tests. Pure.

Errors are compared series by series, so that what makes a series easy or hard for both cancels out. Two intervals of
single forecasters that overlap do not decide whether the two differ. Three measures are compared:

    mae     the mean over series of each series' mean absolute error
    mse     the mean over series of each series' mean squared error
    median  the median over series of each series' mean absolute error: the typical series

A difference is `own - other`, so a negative one is a lower error. Its interval is a percentile bootstrap over series
(Efron and Tibshirani, 1993, ch. 13), the same resampled series for both. `p` is two-sided: twice the share of resampled
differences beyond 0. Where none is beyond 0, that share is too small to be counted: it is taken from a normal
distribution with the resamples' standard deviation.

The measure of a model that was trained with several seeds is the mean over seeds of each seed's measure. Each resample
then draws seeds too. The deviations of R seeds from their mean are scaled by sqrt(R / (R - 1)), as resamples of R seeds
vary too little by that factor, and by the ratio of Student's t (R - 1 degrees of freedom) to the normal quantile, as
the variance between few seeds is hardly known.

`p_rank` is Wilcoxon's signed-rank test of the differences by series, seeds averaged (Biometrics Bulletin 1, 1945). It
tests whether these differences are symmetric about 0. Its sign may be another than that of the mean difference, which a
few series can carry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.stats import norm, t, wilcoxon

from lvjobs.errors import UsageError
from lvjobs.forecasting.codec import Floats

Measure: TypeAlias = Literal["mae", "mse", "median"]
MEASURES: tuple[Measure, ...] = ("mae", "mse", "median")
RESAMPLES = 10_000
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

    def by_seed(self, rows: Any = slice(None)) -> dict[Measure, Floats]:
        """Return each seed's measures on these series: (seeds, ...) for rows (..., series)."""
        mae, mse = self.mae[:, rows], self.mse[:, rows]
        return {"mae": mae.mean(axis=-1), "mse": mse.mean(axis=-1), "median": np.median(mae, axis=-1)}

    @property
    def spread(self) -> dict[Measure, float | None]:
        """Return the standard deviation over seeds of each measure; None for a single seed."""
        return {name: float(values.std(ddof=1)) if self.seeds > 1 else None for name, values in self.by_seed().items()}


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
        p_rank: The p-value of Wilcoxon's signed-rank test.
    """

    series: int
    seeds: tuple[int, int]
    measures: Mapping[Measure, Difference]
    wins: int
    ties: int
    p_rank: float


def errors_of(forecast: Floats, truth: Floats) -> dict[str, Floats]:
    """Return each series' mean absolute and mean squared error, (S,) each, of forecasts (S, H, V)."""
    sizes = np.abs(forecast - truth)
    return {"mae": sizes.mean(axis=(1, 2)), "mse": (sizes**2).mean(axis=(1, 2))}


def gathered(of_seeds: Sequence[Mapping[str, Any]]) -> Errors:
    """Return the errors of one model: one mapping per seed, each with the lists `mae` and `mse` by series.

    Raises:
        UsageError: an error is NaN or infinite.
    """
    mae, mse = (np.array([each[name] for each in of_seeds], dtype=np.float64) for name in ("mae", "mse"))
    if not (np.isfinite(mae).all() and np.isfinite(mse).all()):
        raise UsageError("an error is NaN or infinite, and cannot be compared")
    return Errors(mae, mse)


def compare(pairs: Sequence[tuple[Errors, Errors]], *, seed: int = 0) -> list[Comparison]:
    """Compare pairs of forecasters on the same series.

    Args:
        pairs: (own, other) each; all errors are of the same series, in the same order.
        seed: The seed of the resamples. All forecasters are resampled by the same series.

    Returns:
        The comparisons, in the order of `pairs`.

    Raises:
        UsageError: the forecasters differ in their number of series.
    """
    counts = list(dict.fromkeys(each.mae.shape[1] for pair in pairs for each in pair))
    if len(counts) > 1:
        raise UsageError(f"the forecasters scored different numbers of series ({', '.join(map(str, counts))})")
    drawn = {
        (id(each), place): _resampled(each, seed, place)
        for place, every in enumerate(zip(*pairs, strict=True))
        for each in {id(one): one for one in every}.values()
    }
    return [_compared(own, other, drawn[id(own), 0], drawn[id(other), 1]) for own, other in pairs]


def intervals(errors: Errors, *, seed: int = 0) -> dict[Measure, tuple[float, float]]:
    """Return the 95 % interval of each measure of one forecaster, over series and training seeds."""
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    ends = {name: np.quantile(drawn, tails) for name, drawn in _resampled(errors, seed, 0).items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def holm(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's procedure (Scand. J. Statist. 6, 1979), in their own order."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted


def _resampled(errors: Errors, seed: int, place: int) -> dict[Measure, Floats]:
    """Return each measure of RESAMPLES resamples, (RESAMPLES,). Both forecasters of a pair draw seeds of their own."""
    series, of_seeds = np.random.default_rng(seed), np.random.default_rng([seed, 1 + place])
    count, drawn = errors.seeds, errors.mae.shape[1]
    scale = 0.0
    if count > 1:
        tail = (1 + CONFIDENCE) / 2
        scale = float(np.sqrt(count / (count - 1)) * t.ppf(tail, count - 1) / norm.ppf(tail))
    found: dict[Measure, list[Floats]] = {name: [] for name in MEASURES}
    for _ in range(RESAMPLES // _BLOCK):
        rows = series.integers(drawn, size=(_BLOCK, drawn))
        apart = of_seeds.multinomial(count, [1 / count] * count, size=_BLOCK).T / count - 1 / count
        for name, values in errors.by_seed(rows).items():
            found[name].append(values.mean(axis=0) + scale * (apart * values).sum(axis=0))
    return {name: np.concatenate(values) for name, values in found.items()}


def _compared(
    own: Errors, other: Errors, drawn: Mapping[Measure, Floats], against: Mapping[Measure, Floats]
) -> Comparison:
    mine, its = own.by_seed(), other.by_seed()
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    measures: dict[Measure, Difference] = {}
    for name in MEASURES:
        apart = drawn[name] - against[name]
        low, high = map(float, np.quantile(apart, tails))
        measures[name] = Difference(float(mine[name].mean()), float(its[name].mean()), low, high, _p_value(apart))
    by_series = own.mae.mean(axis=0) - other.mae.mean(axis=0)
    differing = by_series[by_series != 0]
    return Comparison(
        series=len(by_series),
        seeds=(own.seeds, other.seeds),
        measures=measures,
        wins=int((by_series < 0).sum()),
        ties=len(by_series) - len(differing),
        p_rank=float(wilcoxon(differing).pvalue) if len(differing) else 1.0,
    )


def _p_value(apart: Floats) -> float:
    """Return the two-sided p-value of the hypothesis that a difference is 0, from its resamples."""
    beyond = int(min((apart <= 0).sum(), (apart >= 0).sum()))
    if beyond:
        return min(1.0, 2 * beyond / len(apart))
    spread = float(apart.std())
    far = float(2 * norm.sf(abs(float(apart.mean())) / spread)) if spread else 0.0
    return min(far, 2 / len(apart))
