"""Paired comparisons: their numbers beside scipy's, what seeds add, and how often intervals hold the truth."""

import numpy as np
import pytest
from scipy import stats

from lvjobs.errors import UsageError
from lvjobs.forecasting.comparison import MEASURES, Errors, compare, errors_of, gathered, holm, intervals


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def hard():
    """Errors of a forecaster by series: a few series are many times as hard as most."""
    return np.random.default_rng(6).lognormal(-3, 1.2, 120)


def forecaster(mae, mse=None):
    """A forecaster of one seed, or of several rows."""
    mae = np.atleast_2d(mae)
    return Errors(mae, mae**2 if mse is None else np.atleast_2d(mse))


def compared(own, other, **more):
    (found,) = compare([(own, other)], **more)
    return found


def test_differences_are_those_of_means_and_medians(rng, hard):
    own, other = hard * rng.uniform(0.5, 1.2, 120), hard
    found = compared(forecaster(own), forecaster(other)).measures
    assert found["mae"].value == pytest.approx(own.mean() - other.mean())
    assert found["mse"].value == pytest.approx((own**2).mean() - (other**2).mean())
    assert found["median"].value == pytest.approx(np.median(own) - np.median(other))
    assert found["mae"].skill == pytest.approx(1 - own.mean() / other.mean())


def test_intervals_of_means_are_scipys(rng, hard):
    own, other = hard * rng.uniform(0.5, 1.2, 120), hard
    found = compared(forecaster(own), forecaster(other)).measures
    for name, power in (("mae", 1), ("mse", 2)):
        differences = own**power - other**power
        expected = stats.bootstrap((differences,), np.mean, method="percentile", n_resamples=20_000, random_state=rng)
        low, high = expected.confidence_interval
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_the_interval_of_a_median_is_scipys(rng, hard):
    own, other = hard * rng.uniform(0.5, 1.2, 120), hard

    def apart(own, other, axis=-1):
        return np.median(own, axis=axis) - np.median(other, axis=axis)

    settings = {"paired": True, "method": "percentile", "n_resamples": 20_000, "random_state": rng}
    low, high = stats.bootstrap((own, other), apart, **settings).confidence_interval
    found = compared(forecaster(own), forecaster(other)).measures["median"]
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))


@pytest.mark.parametrize("shift", [0.9, 1.0, 1.05])
def test_the_rank_test_is_scipys(rng, hard, shift):
    own = hard * shift * rng.uniform(0.8, 1.25, 120)
    found = compared(forecaster(own), forecaster(hard))
    assert found.p_rank == stats.wilcoxon(own, hard).pvalue
    assert found.wins == (own < hard).sum()


def test_equal_series_are_left_out_of_the_rank_test_and_counted(hard):
    """Of five differences of one sign no exact test goes below 1/16, however many series are equal."""
    own = hard.copy()
    own[:5] *= 0.5
    found = compared(forecaster(own), forecaster(hard))
    assert (found.wins, found.ties) == (5, 115)
    assert found.p_rank == pytest.approx(2 / 2**5)


@pytest.mark.parametrize("shift", [0.05, 0.1, 0.15])
def test_the_p_value_of_a_mean_is_near_that_of_a_permutation_test(rng, hard, shift):
    differences = rng.normal(0, 1, 120)
    differences += shift - differences.mean()
    settings = {"permutation_type": "samples", "n_resamples": 20_000, "random_state": rng}
    expected = stats.permutation_test((differences,), np.mean, **settings).pvalue
    assert 0.02 < expected < 0.7
    found = compared(forecaster(hard + differences), forecaster(hard)).measures["mae"]
    assert found.p == pytest.approx(expected, rel=0.15, abs=0.01)


def test_a_p_value_that_no_resample_shows_is_that_of_a_t_test(rng, hard):
    differences = rng.normal(0.6, 1, 120)
    found = compared(forecaster(hard + differences), forecaster(hard)).measures["mae"]
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert expected < 1e-5
    assert np.log(found.p) == pytest.approx(np.log(expected), rel=0.25)


def test_p_and_interval_agree(rng, hard):
    """Below .05 exactly where the 95 % interval leaves out 0."""
    for shift in np.linspace(0, 0.3, 13):
        found = compared(forecaster(hard + rng.normal(shift, 1, 120)), forecaster(hard)).measures["mae"]
        outside = found.low > 0 or found.high < 0
        assert outside == (found.p < 0.05) or found.p == pytest.approx(0.05, abs=0.002)


def test_equal_forecasters_have_no_difference(hard):
    found = compared(forecaster(hard), forecaster(hard.copy()))
    assert (found.wins, found.ties, found.p_rank) == (0, 120, 1.0)
    for name in MEASURES:
        each = found.measures[name]
        assert (each.value, each.low, each.high, each.p) == (0, 0, 0, 1.0)


def test_pairs_show_what_intervals_of_each_hide(rng, hard):
    """Errors range over factors, so the intervals of two means overlap by far; one is lower on every series."""
    own, other = hard * 0.9, hard
    alone = [stats.bootstrap((each,), np.mean, random_state=rng).confidence_interval for each in (own, other)]
    assert alone[0].high > alone[1].low
    found = compared(forecaster(own), forecaster(other)).measures
    assert all(found[name].p < 0.001 and found[name].high < 0 for name in MEASURES)


def test_a_few_series_can_raise_the_mean_while_most_are_lower(hard):
    own = hard * 0.8
    own[:10] += 2
    found = compared(forecaster(own), forecaster(hard))
    assert found.measures["mae"].value > 0 > found.measures["median"].value
    assert found.wins == 110


def test_several_seeds_widen_the_interval_by_their_spread():
    """Of three seeds all draws are the lowest one in 1 of 27 resamples, beyond which the interval ends."""
    base = np.ones(200)
    rows = np.array([base * seed for seed in (0.9, 1.0, 1.1)])
    one = compared(forecaster(rows.mean(axis=0)), forecaster(base)).measures["mae"]
    several = compared(forecaster(rows), forecaster(base)).measures
    assert (one.low, one.high) == (0, 0)
    widest = 0.1 * np.sqrt(3 / 2) * stats.t.ppf(0.975, 2) / stats.norm.ppf(0.975)
    for name in ("mae", "median"):
        assert several[name].value == pytest.approx(0)
        assert (several[name].low, several[name].high) == pytest.approx((-widest, widest))
        assert several[name].p > 0.5
    assert forecaster(rows).spread["mae"] == pytest.approx(0.1)
    assert forecaster(base).spread["mae"] is None


def test_the_interval_of_one_forecaster_is_over_series_and_seeds():
    rng = np.random.default_rng(0)
    rows = np.array([rng.exponential(1, 200) * seed for seed in (0.9, 1.0, 1.1)])
    beside_nothing = compared(forecaster(rows), forecaster(np.zeros(200))).measures
    found = intervals(forecaster(rows))
    for name in MEASURES:
        assert found[name] == pytest.approx((beside_nothing[name].low, beside_nothing[name].high))


def test_both_forecasters_draw_seeds_of_their_own():
    """Drawn together, equal seeds would cancel out."""
    rows = np.array([np.full(30, seed) for seed in (0.9, 1.0, 1.1)])
    found = compared(forecaster(rows), forecaster(rows.copy())).measures["mae"]
    assert found.low < -0.2 < 0.2 < found.high


@pytest.mark.slow
@pytest.mark.parametrize(("measure", "least"), [("mae", 0.89), ("mse", 0.86), ("median", 0.93)])
def test_intervals_hold_the_truth_nearly_as_often_as_they_say(measure, least):
    """Two forecasters of the same quality. Of a mean that a few series carry, fewer intervals hold the truth."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        level = rng.lognormal(-1, 0.8, 80)
        own, other = (forecaster(level * rng.lognormal(0, 0.4, 80)) for _ in range(2))
        found = compared(own, other, seed=int(rng.integers(1 << 30))).measures[measure]
        hits += found.low <= 0 <= found.high
    assert least <= hits / 200


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_few_seeds_make_no_interval_too_narrow(seeds):
    """If two models differ only in the seed, 95 % of the intervals should hold 0."""
    rng, hits = np.random.default_rng(seeds), 0
    for _ in range(200):
        level = rng.lognormal(-1, 0.8, 80)
        own = level + rng.normal(0, 0.02, (seeds, 80)) + rng.normal(0, 0.3, (seeds, 1))
        found = compared(forecaster(own), forecaster(level), seed=int(rng.integers(1 << 30))).measures["mae"]
        hits += found.low <= 0 <= found.high
    assert 0.92 <= hits / 200 <= 0.99


def test_holm_matches_a_worked_example():
    # 0.01 * 4, 0.02 * 3, then never less than the one before: 0.03 * 2, 0.04 * 1 -> 0.06
    assert holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]) == []


def test_errors_by_series_are_those_of_the_forecasts(rng):
    truth, forecast = rng.random((2, 7, 5, 2))
    found = errors_of(forecast, truth)
    assert found["mae"][3] == pytest.approx(np.abs(forecast[3] - truth[3]).mean())
    assert found["mse"][3] == pytest.approx(((forecast[3] - truth[3]) ** 2).mean())
    errors = gathered([found, found])
    assert (errors.seeds, errors.mae.shape) == (2, (2, 7))


def test_forecasters_of_different_numbers_of_series_are_refused(hard):
    with pytest.raises(UsageError, match=r"different numbers of series \(120, 50\)"):
        compared(forecaster(hard), forecaster(hard[:50]))


def test_errors_that_are_no_numbers_are_refused():
    with pytest.raises(UsageError, match="NaN or infinite"):
        gathered([{"mae": [0.1, float("nan")], "mse": [0.1, 0.1]}])


def test_equal_input_gives_equal_numbers(hard):
    own, other = forecaster(hard * 0.9), forecaster(hard)
    assert compared(own, other) == compared(own, other)
    assert compared(own, other) != compared(own, other, seed=1)
    third = forecaster(hard * 0.5)
    assert compare([(own, other), (third, other)])[0] == compared(own, other), "whatever else is compared"
