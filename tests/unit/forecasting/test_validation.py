"""The free-running error of a validation: an evaluation's own figure, which draws nothing and is charged as planned."""

import numpy as np
import pytest
import torch
from forecasting_helpers import FakeRun, adapter_bytes, one_thread, run_through, small

from lvjobs.control.budget.cost import replay_of_an_interval, work_ahead
from lvjobs.forecasting.data import make_dataset
from lvjobs.forecasting.evaluate import EvaluatedModel
from lvjobs.forecasting.evaluations import EvaluationRequest, evaluation
from lvjobs.forecasting.train import Trainer, train
from lvjobs.study.params import EvaluationConfig, TrainingConfig
from lvjobs.study.run import read_params

__all__ = ["one_thread"]  # a fixture
pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=20, seed=0)
    return path


def forecasting(data, **params):
    return small(data, train_systems=None, validation_systems=4, validation_forecasts=3, **params)


class CountingRun(FakeRun):
    """A run that keeps what was reported as generated."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.generation = []

    def generated(self, step, series, **_):
        self.generation.append((step, series))


def counted(config, directory):
    run = CountingRun(config, directory)
    train(run)
    return run


@pytest.mark.parametrize("head", ["full", "numeric"])
def test_it_is_the_error_that_an_evaluation_of_the_same_systems_has(data, tmp_path, head):
    config = forecasting(data, head=head)
    run = counted(config, tmp_path)
    training = read_params(TrainingConfig, config.params)
    systems = [12, 13, 14]  # 16 may train, of which the last four validate
    wanted = evaluation(training, EvaluationRequest(), systems, adapter=str(run.saved[2] / "adapter"))
    model = EvaluatedModel(read_params(EvaluationConfig, wanted.params), 0)
    error = np.abs(model.forecast(systems)[0] - model.truth(systems)).mean()
    assert run.validations[-1][1]["mae"] == pytest.approx(error, rel=1e-12)


def test_a_small_training_batch_does_not_split_the_forecasts(data, monkeypatch):
    batches = []
    monkeypatch.setattr(
        "lvjobs.forecasting.validation.sample",
        lambda *arguments, decoding, **_: (
            batches.append(decoding.batch) or np.zeros((1, len(arguments[3]), arguments[4], 2))
        ),
    )
    for size in (1, 64):
        trainer = Trainer(forecasting(data, batch_size=size))
        trainer.forecasts.error(trainer.model)
    assert batches == [20, 64]


def test_it_draws_nothing_and_changes_no_weight(data, tmp_path):
    plain = run_through(small(data, train_systems=None, validation_systems=4), tmp_path / "plain")
    config = forecasting(data)
    run = counted(config, tmp_path / "forecasting")
    assert adapter_bytes(run) == adapter_bytes(plain)
    trainer = Trainer(config)
    before = torch.get_rng_state()
    assert trainer.forecasts.error(trainer.model) == run.validations[0][1]["mae"]
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_forecast_is_what_was_planned(data, tmp_path):
    config = forecasting(data, validate_every=5)
    run = counted(config, tmp_path)
    assert run.generation == [(step, 3) for step in (0, 5, 10, 12)]
    planned = work_ahead(config.model_dump(), 0)
    assert planned.generation == sum(series for _, series in run.generation)
    assert work_ahead(config.model_dump(), 5).generation == 2 * 3
    assert replay_of_an_interval(config.model_dump(), 0).generation == 2 * 3
    assert work_ahead(small(data).model_dump(), 0).generation == 0


class Errors:
    """In place of forecasts: what their error is at each validation."""

    def __init__(self, values):
        self.values = list(values)

    def __len__(self):
        return 3

    def error(self, *_):
        return self.values.pop(0)


def test_the_error_ends_a_run_early_and_not_the_loss(data, tmp_path, monkeypatch):
    config = forecasting(data, validate_every=2, early_stopping_patience=2)
    monkeypatch.setattr(
        "lvjobs.forecasting.train.ValidationForecasts", lambda *_: Errors([3.0, 2.0, 1.0, 1.5, 1.0, 0.5])
    )
    run = counted(config, tmp_path)
    assert [metrics["mae"] for _, metrics in run.validations] == [3.0, 2.0, 1.0, 1.5, 1.0]
    assert run.events[-1] == ("final", 8)
