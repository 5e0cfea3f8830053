"""Forecast origins: those that are refused, and the runs that others make of an evaluation."""

import numpy as np
import pytest

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting.baselines import BASELINES, forecast
from lvjobs.forecasting.data import draw_systems, sample_times, solve
from lvjobs.forecasting.evaluations import EvaluationRequest, evaluation
from lvjobs.forecasting.origins import check_origins, evaluation_at, fewest_steps, training_at
from lvjobs.forecasting.tasks import EvaluationTask, TrainingTask
from lvjobs.study.config import TrainSettings
from lvjobs.study.params import TrainingConfig

TRAINING = TrainingConfig(data="/data.h5")


@pytest.fixture(scope="module")
def series():
    times = sample_times()
    return times, solve(draw_systems(12, 0), times).astype(np.float64)


def problems(series, steps, horizon):
    """The baselines that can make no forecast from so many steps, with their reason."""
    times, values = series
    found = {}
    for name in BASELINES:
        try:
            forecast(name, values[8:, :steps], horizon, training=values[:8], time=times)
        except LvjobsError as error:  # noqa: PERF203
            found[name] = str(error)
    return found


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_the_fewest_steps_are_enough_for_every_baseline_and_one_less_is_not(series, horizon):
    fewest = fewest_steps(horizon)
    assert not problems(series, fewest, horizon)
    assert any("needs a history" in each for each in problems(series, fewest - 1, horizon).values())


@pytest.mark.parametrize(
    ("origins", "words"),
    [
        ([40, 20], "forecast origin 20: every baseline needs at least 21 observed steps to forecast 20"),
        ([81], "forecast origin 81: the data have 100 steps, and 20 are forecast"),
        ([-1], "forecast origin -1"),
    ],
)
def test_an_origin_without_room_is_refused_with_those_that_have(origins, words):
    with pytest.raises(UsageError, match=words) as refusal:
        check_origins(origins, TRAINING, 100)
    assert "choose origins from 21 to 80" in str(refusal.value)


def test_the_limits_and_the_trainings_own_origin_are_accepted():
    check_origins([21, 80], TRAINING, 100)
    check_origins([3], TRAINING.model_copy(update={"history_steps": 3}), 100)


def test_the_own_origin_is_the_same_run_and_another_costs_by_its_prompt():
    own = evaluation(TRAINING, EvaluationRequest(), range(4), adapter="/adapter")
    assert evaluation_at(own, 80).fingerprint == own.fingerprint
    moved = evaluation_at(own, 40)
    assert moved.fingerprint != own.fingerprint
    changed = {**own.params, "training": {**own.params["training"], "history_steps": 40}}
    assert moved == own.model_copy(update={"params": changed})
    task = EvaluationTask()
    assert task.rates(moved)["official"]["generation"] < task.rates(own)["official"]["generation"]


def test_forecasts_of_a_training_from_another_origin_cost_what_its_evaluation_costs():
    config = TrainSettings(data="/data.h5", steps=10).run_config()
    training = TrainingConfig.model_validate(config.params)
    scored = evaluation_at(evaluation(training, EvaluationRequest(), range(4), adapter="/adapter"), 40)
    foreseen, charged = TrainingTask().rates(training_at(config, 40)), EvaluationTask().rates(scored)
    assert {name: each["generation"] for name, each in foreseen.items()} == {
        name: each["generation"] for name, each in charged.items()
    }
