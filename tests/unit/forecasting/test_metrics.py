"""Metrics: each figure against its definition, the whole horizon or nothing, and exact zeros where they are due."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scoringrules
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lvjobs.errors import UsageError
from lvjobs.forecasting import metrics
from lvjobs.forecasting.baselines import forecast as baseline
from lvjobs.forecasting.metrics import crps, pool, score

pytestmark = pytest.mark.heavy

VALUES = st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def pairs(draw):
    """Truth and forecast of the same small shape."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)))
    return draw(arrays(float, shape, elements=VALUES)), draw(arrays(float, shape, elements=VALUES))


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    truth = rng.gamma(2, size=(12, 5, 2))
    return truth, truth + rng.normal(size=truth.shape)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 200)


def every_figure(scores):
    parts = [scores["overall"], *scores["by_variable"], *scores["by_step"]]
    figures = [part[name] for part in parts for name in ("mae", "mse", "rmse", "mre")]
    figures += [scores["median_mae"], scores["median_mse"], scores["median_rmse"]]
    figures += [end for interval in scores["intervals"].values() for end in (interval["low"], interval["high"])]
    return figures + ([] if scores["crps"] is None else [scores["crps"]])


def test_each_figure_is_what_its_definition_says(case):
    truth, forecast = case
    error = forecast - truth
    scores = score(truth, forecast)
    assert scores["systems"] == 12
    assert scores["overall"]["mae"] == pytest.approx(np.mean([abs(e) for e in error.ravel()]))
    assert scores["overall"]["mse"] == pytest.approx(np.mean([e**2 for e in error.ravel()]))
    roots = [np.sqrt(np.mean(error[..., v] ** 2)) for v in range(2)]
    assert scores["overall"]["rmse"] == pytest.approx(np.mean(roots))
    assert [part["rmse"] for part in scores["by_variable"]] == pytest.approx(roots)
    ratios = [[np.abs(error[s, :, v]).sum() / np.abs(truth[s, :, v]).sum() for v in range(2)] for s in range(12)]
    assert scores["overall"]["mre"] == pytest.approx(np.mean(ratios))
    assert [part["mre"] for part in scores["by_variable"]] == pytest.approx(np.mean(ratios, axis=0))
    assert [part["mae"] for part in scores["by_step"]] == pytest.approx([np.abs(error[:, h]).mean() for h in range(5)])
    by_step = [np.mean([np.sqrt(np.mean(error[:, h, v] ** 2)) for v in range(2)]) for h in range(5)]
    assert [part["rmse"] for part in scores["by_step"]] == pytest.approx(by_step)
    assert scores["median_mae"] == pytest.approx(np.median([np.abs(e).mean() for e in error]))
    assert scores["median_mse"] == pytest.approx(np.median([(e**2).mean() for e in error]))
    own = [np.mean([np.sqrt((e[:, v] ** 2).mean()) for v in range(2)]) for e in error]
    assert scores["median_rmse"] == pytest.approx(np.median(own))


@pytest.mark.parametrize("shape", [(12, 2), (2,)], ids=["of each series", "of all"])
def test_scaled_errors_are_those_of_scaled_series(case, shape):
    truth, forecast = case
    units = np.random.default_rng(1).uniform(0.5, 4, size=shape)
    by = units[:, None] if units.ndim == 2 else units
    scores, scaled = score(truth, forecast, units=units), score(truth / by, forecast / by)
    assert score(truth, forecast)["scaled"] is None
    assert {key: scores[key] for key in scores if key != "scaled"} == {
        key: value for key, value in score(truth, forecast).items() if key != "scaled"
    }
    for part in ("by_variable", "by_step"):
        for metric in ("mae", "mse"):
            expected = [one[metric] for one in scaled[part]]
            assert [one[metric] for one in scores["scaled"][part]] == pytest.approx(expected)
    assert scores["scaled"]["overall"]["mse"] == pytest.approx(scaled["overall"]["mse"])


@pytest.mark.parametrize("samples", [None, 3], ids=["one forecast", "samples"])
def test_pooled_parts_score_as_all_systems_at_once(case, samples):
    truth, forecast = case
    rng = np.random.default_rng(2)
    drawn = None if samples is None else forecast + rng.normal(size=(samples, *truth.shape))
    units = rng.uniform(0.5, 4, size=(12, 2))
    parts = [
        score(truth[of], forecast[of], None if drawn is None else drawn[:, of], units=units[of])
        for of in (slice(0, 3), slice(3, 4), slice(4, 12))
    ]
    whole, pooled = score(truth, forecast, drawn, units=units), pool(parts)
    for step in whole["by_step"]:
        del step["rmse"]
    assert leaves(pooled) == pytest.approx(leaves(whole))
    assert (whole["crps"] is None) == (samples is None)


def leaves(value, at=""):
    """Every number of nested scores, by its place."""
    if isinstance(value, (dict, list)):
        found = value.items() if isinstance(value, dict) else enumerate(value)
        return {place: number for key, each in found for place, number in leaves(each, f"{at}/{key}").items()}
    return {} if value is None else {at: value}


def test_parts_without_scaled_errors_have_none_together(case):
    truth, forecast = case
    assert pool([score(truth[:6], forecast[:6], units=np.ones(2)), score(truth[6:], forecast[6:])])["scaled"] is None


@given(pairs())
@settings(max_examples=40, deadline=None)
def test_a_perfect_forecast_scores_exactly_nothing(pair):
    truth, _ = pair
    scores = score(truth, truth.copy(), np.stack([truth] * 3))
    assert set(every_figure(scores)) == {0.0}


@given(pairs())
@settings(max_examples=40, deadline=None)
def test_figures_are_consistent(pair):
    truth, forecast = pair
    scores = score(truth, forecast)
    whole = scores["overall"]
    assert all(np.isfinite(every_figure(scores)))
    assert whole["mae"] ** 2 <= whole["mse"] * (1 + 1e-9)
    assert whole["rmse"] ** 2 <= whole["mse"] * (1 + 1e-9)
    for name in ("mae", "mse", "mre"):
        for parts in (scores["by_variable"], scores["by_step"]):
            assert whole[name] == pytest.approx(np.mean([part[name] for part in parts]), rel=1e-6)
    assert scores == json.loads(json.dumps(scores, allow_nan=False))


@given(pairs(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_systems_is_nothing_as_long_as_pairs_stay_together(pair, random):
    truth, forecast = pair
    order = list(range(len(truth)))
    random.shuffle(order)
    once, again = score(truth, forecast), score(truth[order], forecast[order])
    assert again["overall"]["rmse"] == pytest.approx(once["overall"]["rmse"], rel=1e-9)
    assert again["median_mse"] == pytest.approx(once["median_mse"], rel=1e-9)


def test_how_values_lie_in_memory_is_nothing(case):
    truth, forecast = case
    assert score(np.asfortranarray(truth), forecast.transpose(2, 1, 0).copy().transpose(2, 1, 0)) == score(
        truth, forecast
    )


def test_a_shuffle_that_parts_series_from_their_truth_shows(case):
    truth, _ = case
    assert score(truth, truth[::-1])["overall"]["mse"] > 1


def test_a_truth_that_is_off_by_one_step_shows():
    trajectories = np.random.default_rng(0).random((3, 100, 2))
    history, truth = trajectories[:, :80], trajectories[:, 80:]
    early = trajectories[:, 79:99]
    persistent = baseline("persistence", history, 20)
    assert score(early, persistent)["by_step"][0]["mae"] == 0
    assert score(truth, persistent)["by_step"][0]["mae"] > 0


def test_persistence_scores_what_it_should(case):
    history, truth = np.random.default_rng(1).random((4, 8, 2)), np.random.default_rng(2).random((4, 3, 2))
    scores = score(truth, baseline("persistence", history, 3))
    assert scores["overall"]["mae"] == np.abs(truth - history[:, -1:]).mean()
    assert scores["overall"]["mse"] == ((truth - history[:, -1:]) ** 2).mean()


@pytest.mark.parametrize(
    "cut",
    [np.s_[:, :4], np.s_[:, 1:], np.s_[:11], np.s_[:, :, :1], np.s_[:, :0], np.s_[0]],
    ids=["short", "late", "fewer systems", "fewer variables", "empty", "one system"],
)
def test_less_than_the_whole_horizon_is_not_scored(case, cut):
    truth, forecast = case
    with pytest.raises(UsageError, match="shape"):
        score(truth, forecast[cut])
    with pytest.raises(UsageError, match="shape"):
        score(truth[cut], forecast)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_scored(case, bad):
    truth, forecast = case
    spoilt = forecast.copy()
    spoilt[3, 2, 1] = bad
    samples = np.stack([forecast, spoilt])
    for arguments, words in (
        ((truth, spoilt), r"forecast at \[3, 2, 1\]"),
        ((spoilt, forecast), "truth"),
        ((truth, forecast, samples), r"\[1, 3, 2, 1\]"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            score(*arguments)
        assert "\n" not in str(caught.value)


def test_an_error_too_large_for_a_number_is_told():
    truth = np.ones((2, 2, 1))
    with pytest.raises(UsageError, match="so far from the truth"):
        score(truth, truth * 1e200)


def test_relative_errors_of_what_is_nothing_have_a_measure():
    truth = np.array([[[0.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [6.0, 0.0]]])
    scores = score(truth, truth + 1)
    assert score(truth * 1e-300, truth * 1e-300 + 1)["overall"]["mre"] == 1
    # The first system's prey is measured by the variable's mean over both systems, 2; predators by 1.
    assert [part["mre"] for part in scores["by_variable"]] == [pytest.approx((1 / 2 + 1 / 4) / 2), 1.0]


def brute_crps(truth, samples):
    spread = np.mean([[abs(a - b) for a in samples] for b in samples])
    return np.mean([abs(a - truth) for a in samples]) - spread / 2


@given(st.lists(VALUES, min_size=1, max_size=8), VALUES)
def test_crps_is_the_definitions(samples, truth):
    found = crps(np.full((1, 1, 1), truth), np.array(samples).reshape(-1, 1, 1, 1))
    assert found.shape == (1, 1, 1)
    assert found[0, 0, 0] == pytest.approx(brute_crps(truth, samples), rel=1e-9, abs=1e-6)


def test_crps_is_scoringrules(case):
    truth, _ = case
    samples = np.random.default_rng(0).normal(size=(7, *truth.shape)) + truth.mean()
    theirs = scoringrules.crps_ensemble(truth, samples, m_axis=0, estimator="nrg")
    assert crps(truth, samples) == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    assert score(truth, np.median(samples, axis=0), samples)["crps"] == pytest.approx(theirs.mean(), rel=1e-9)


def test_crps_of_one_sample_is_the_absolute_error(case):
    truth, forecast = case
    scores = score(truth, forecast, forecast[None])
    assert scores["crps"] == pytest.approx(scores["overall"]["mae"], rel=1e-12)
    assert scores["intervals"]["crps"]["low"] == pytest.approx(scores["intervals"]["mae"]["low"])


def test_crps_prefers_the_right_spread():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 2, 1))
    narrow, right, wide = (
        crps(truth, rng.normal(scale=scale, size=(50, *truth.shape))).mean() for scale in (0.1, 1, 5)
    )
    assert right < narrow
    assert right < wide
    assert right == pytest.approx((1 / np.sqrt(np.pi)) * (1 + 1 / 50), rel=0.06)  # the closed form, for 50 samples


def test_samples_of_another_shape_are_refused(case):
    truth, forecast = case
    for samples in (forecast, np.stack([forecast[:, :4]] * 2), np.empty((0, *truth.shape))):
        with pytest.raises(UsageError, match="shape of the samples"):
            score(truth, forecast, samples)


def test_intervals_hold_the_figure_and_hang_on_the_seed(case):
    truth, forecast = case
    scores = score(truth, forecast, seed=1)
    assert set(scores["intervals"]) == {"mae", "mse", "rmse", "mre", "median_mae", "median_mse", "median_rmse"}
    for name in ("mae", "mse", "rmse", "mre"):
        assert scores["intervals"][name]["low"] < scores["overall"][name] < scores["intervals"][name]["high"]
    assert score(truth, forecast, seed=1) == scores
    assert score(truth, forecast, seed=2)["intervals"] != scores["intervals"]


def test_intervals_cover_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        error = rng.exponential(size=(80, 1, 1))
        interval = score(np.zeros_like(error), error, seed=seed)["intervals"]["mae"]
        hits += interval["low"] <= 1 <= interval["high"]
    assert 50 <= hits <= 60


def test_an_interval_is_as_wide_as_theory_has_it(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 2000)
    error = np.random.default_rng(0).normal(5, 1, size=(300, 1, 1))
    interval = score(np.zeros_like(error), error)["intervals"]["mae"]
    assert interval["high"] - interval["low"] == pytest.approx(2 * 1.96 * error.std() / np.sqrt(300), rel=0.08)


def test_the_interval_of_rmse_is_of_the_root_of_the_mean():
    error = np.random.default_rng(0).exponential(size=(100, 1, 1)) ** 3
    scores = score(np.zeros_like(error), error)
    assert scores["intervals"]["rmse"]["low"] > scores["overall"]["mae"]
    assert scores["intervals"]["rmse"]["low"] < scores["overall"]["rmse"] < scores["intervals"]["rmse"]["high"]


def test_intervals_are_over_systems_not_over_values(case):
    # One system's steps fail together: 100 equal steps are no more evidence than one.
    truth = np.zeros((20, 100, 1))
    forecast = np.broadcast_to(np.random.default_rng(0).exponential(size=(20, 1, 1)), truth.shape)
    long, short = score(truth, forecast), score(truth[:, :1], forecast[:, :1])
    assert long["intervals"]["mae"]["high"] == pytest.approx(short["intervals"]["mae"]["high"])


def test_metrics_load_no_torch():
    code = "import sys, lvjobs.forecasting.metrics, lvjobs.forecasting.baselines; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
