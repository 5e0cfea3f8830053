"""Evaluations of the bundled model on five series, run in memory, for the tests of evaluations."""

import contextlib
import json

import pytest
from forecasting_helpers import FakeRun, Killed

from lvjobs.forecasting.data import make_dataset, sha256
from lvjobs.forecasting.evaluate import evaluate
from lvjobs.forecasting.evaluations import EvaluationRequest, evaluation
from lvjobs.forecasting.results import read_forecasts
from lvjobs.study.params import TrainingConfig

SYSTEMS = [32, 37, 33, 39, 35]


class EvaluationRun(FakeRun):
    """A run that also keeps what was reported as generated."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.series = []

    def generated(self, step, series, **metrics):
        self.series.append((step, series))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=40, seed=1)
    return path


@pytest.fixture(scope="module")
def training(data):
    return TrainingConfig(data=str(data), data_sha256=sha256(data), history_steps=40, horizon_steps=5)


def config_of(training, batch=2, **more):
    trial = EvaluationRequest(
        **{key: more.pop(key) for key in list(more) if key in EvaluationRequest.__dataclass_fields__}
    )
    made = evaluation(training, trial, SYSTEMS, **more)
    params = {**made.params, "batch": batch}
    return made.model_copy(update={"params": params, "steps": -(-len(SYSTEMS) // batch)})


def run_through(config, directory, **faults):
    run = EvaluationRun(config, directory, **faults)
    with contextlib.suppress(Killed):
        evaluate(run)
    return run


def result(run):
    directory = run.saved[2] / "result"
    found = read_forecasts(directory / "forecasts.h5")
    return json.loads((directory / "scores.json").read_text()), found.samples, found.systems
