"""Paired comparisons: their numbers beside scipy's, what seeds add, and how often intervals and tests are right."""

import numpy as np
import pytest
from scipy import stats

from lvjobs.errors import UsageError
from lvjobs.forecasting.comparison import MEASURES, Errors, compare, errors_of, gathered, holm

RNG = np.random.default_rng(5)
HARD = RNG.lognormal(-3, 1.2, 120)
"""Errors of a forecaster by series: a few series are many times as hard as most."""


def forecaster(mae, mse=None):
    """A forecaster of one seed, or of several rows."""
    mae = np.atleast_2d(mae)
    return Errors(mae, mae**2 if mse is None else np.atleast_2d(mse))


def compared(own, other, **more):
    (found,) = compare([(own, other)], **more)
    return found


def test_differences_are_those_of_the_means_and_medians():
    own, other = HARD * RNG.uniform(0.5, 1.2, 120), HARD
    found = compared(forecaster(own), forecaster(other)).measures
    assert found["mae"].value == pytest.approx(own.mean() - other.mean())
    assert found["mse"].value == pytest.approx((own**2).mean() - (other**2).mean())
    assert found["median"].value == pytest.approx(np.median(own) - np.median(other))
    assert found["mae"].skill == pytest.approx(1 - own.mean() / other.mean())


def test_the_interval_of_a_mean_is_scipys():
    own, other = HARD * RNG.uniform(0.5, 1.2, 120), HARD
    found = compared(forecaster(own), forecaster(other)).measures
    for name, power in (("mae", 1), ("mse", 2)):
        differences = own**power - other**power
        expected = stats.bootstrap((differences,), np.mean, method="percentile", n_resamples=20_000, rng=RNG)
        low, high = expected.confidence_interval
        width = high - low
        assert found[name].low == pytest.approx(low, abs=0.05 * width)
        assert found[name].high == pytest.approx(high, abs=0.05 * width)


def test_the_interval_of_a_median_is_scipys():
    own, other = HARD * RNG.uniform(0.5, 1.2, 120), HARD

    def apart(own, other, axis=-1):
        return np.median(own, axis=axis) - np.median(other, axis=axis)

    expected = stats.bootstrap((own, other), apart, paired=True, method="percentile", n_resamples=20_000, rng=RNG)
    low, high = expected.confidence_interval
    found = compared(forecaster(own), forecaster(other)).measures["median"]
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))


@pytest.mark.parametrize("shift", [0.9, 1.0, 1.05])
def test_the_rank_test_is_scipys(shift):
    own, other = HARD * shift * RNG.uniform(0.8, 1.25, 120), HARD
    found = compared(forecaster(own), forecaster(other))
    assert found.measures["median"].p == stats.wilcoxon(own, other).pvalue
    assert found.wins == (own < other).sum()
    higher = stats.wilcoxon(own, other, alternative="greater").pvalue < 0.5
    assert found.direction == (1 if higher else -1)


def test_the_p_value_of_a_mean_is_near_the_permutation_tests():
    differences = RNG.normal(0.25, 1, 120)
    own, other = HARD + differences, HARD
    expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=RNG)
    assert compared(forecaster(own), forecaster(other)).measures["mae"].p == pytest.approx(expected.pvalue, abs=0.01)


def test_p_and_interval_agree():
    """Below .05 exactly where the 95 % interval leaves out 0."""
    for shift in np.linspace(0, 0.3, 13):
        found = compared(forecaster(HARD + RNG.normal(shift, 1, 120)), forecaster(HARD)).measures["mae"]
        outside = found.low > 0 or found.high < 0
        assert outside == (found.p < 0.05) or found.p == pytest.approx(0.05, abs=0.002)


def test_equal_forecasters_differ_in_nothing():
    found = compared(forecaster(HARD), forecaster(HARD.copy()))
    assert (found.wins, found.ties, found.direction) == (0, 120, 0)
    for name in MEASURES:
        each = found.measures[name]
        assert (each.value, each.low, each.high, each.p) == (0, 0, 0, 1.0)


def test_pairs_are_finer_than_the_intervals_of_each():
    """Both errors range over factors, and the intervals of their means overlap by far: one is lower on every series."""
    own, other = HARD * 0.9, HARD
    alone = [stats.bootstrap((each,), np.mean, rng=RNG).confidence_interval for each in (own, other)]
    assert alone[0].high > alone[1].low
    found = compared(forecaster(own), forecaster(other)).measures
    assert all(found[name].p < 0.001 and found[name].high < 0 for name in MEASURES)


def test_a_few_series_can_make_the_mean_worse_and_the_typical_series_better():
    own = HARD * 0.8
    own[:10] += 2
    found = compared(forecaster(own), forecaster(HARD))
    assert (found.measures["mae"].value > 0, found.direction, found.wins) == (True, -1, 110)


def test_several_seeds_widen_the_interval_by_what_they_differ():
    base = np.ones(200)
    rows = np.array([base * seed for seed in (0.9, 1.0, 1.1)])
    one = compared(forecaster(rows.mean(axis=0)), forecaster(base)).measures["mae"]
    several = compared(forecaster(rows), forecaster(base)).measures["mae"]
    assert (one.low, one.high) == (0, 0)
    assert several.value == pytest.approx(0)
    assert several.low < -0.09
    assert several.high > 0.09
    assert forecaster(rows).spread["mae"] == pytest.approx(0.1)
    assert forecaster(base).spread["mae"] is None


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "least"), [(1, 0.9), (3, 0.85), (5, 0.88)])
def test_intervals_cover_the_truth_about_as_often_as_they_say(seeds, least):
    """A model whose error over all seeds and series is that of the other; 95 % of the intervals should hold 0."""
    rng, hits = np.random.default_rng(seeds), 0
    for _ in range(200):
        other = rng.gamma(2, 1, 60)
        own = other + rng.normal(0, 0.5, 60) + rng.normal(0, 0.1, (seeds, 1)) * (seeds > 1)
        found = compared(forecaster(own), forecaster(other), seed=int(rng.integers(1 << 30))).measures["mae"]
        hits += found.low <= 0 <= found.high
    assert least <= hits / 200 <= 0.99


def test_holms_correction_is_that_of_its_paper():
    # 0.01 * 4, 0.02 * 3, then never less than the one before: 0.03 * 2, 0.04 * 1 -> 0.06
    assert holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]) == []


def test_errors_by_series_are_those_of_the_forecasts():
    truth, forecast = RNG.random((2, 7, 5, 2))
    found = errors_of(forecast, truth)
    assert found["mae"][3] == pytest.approx(np.abs(forecast[3] - truth[3]).mean())
    assert found["mse"][3] == pytest.approx(((forecast[3] - truth[3]) ** 2).mean())
    errors = gathered([found, found])
    assert (errors.seeds, errors.mae.shape) == (2, (2, 7))


def test_other_series_are_refused():
    with pytest.raises(UsageError, match="other series"):
        compared(forecaster(HARD), forecaster(HARD[:50]))


def test_equal_input_gives_equal_numbers():
    own, other = forecaster(HARD * 0.9), forecaster(HARD)
    assert compared(own, other) == compared(own, other)
    assert compared(own, other) != compared(own, other, seed=1)
