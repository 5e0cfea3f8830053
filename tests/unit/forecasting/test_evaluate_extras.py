"""Extra baselines in an evaluation: made after the forecasts, a batch at a time, and never lost or made twice."""

import json

import numpy as np
import pytest
from evaluation_helpers import EvaluationRun, config_of, data, result, run_through, training
from forecasting_helpers import one_thread

from lvjobs.errors import LvjobsError
from lvjobs.forecasting import evaluate as task
from lvjobs.forecasting.baselines.extras import CannotForecast, forecast_extra
from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.evaluations import with_baselines
from lvjobs.forecasting.extra_files import read_extras
from lvjobs.study.params import EvaluationConfig
from lvjobs.tasks.registry import rates_of, task_of

__all__ = ["data", "one_thread", "training"]
pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]
NAMES = ["auto-ets", "auto-theta"]


@pytest.fixture
def made(monkeypatch):
    """Return the calls of the extra baselines: names and systems, in order. Their forecasts are those of a fake."""
    calls = []

    def pretend(name, histories, horizon, systems):
        calls.append((name, systems))
        return np.repeat(histories[:, -1:], horizon, axis=1) + len(name)

    monkeypatch.setattr(task, "forecast_extra", pretend)
    return calls


def asked(training, names=NAMES):
    return with_baselines(config_of(training), names)


def kept(run, step=None):
    directory = run.saved[2] if step is None else run.directory / f"{step:06d}"
    return read_extras(directory / "result/baselines.h5", NAMES)


def test_each_is_made_once_of_each_batch_after_the_forecasts(training, made, tmp_path):
    run = run_through(asked(training), tmp_path)
    assert [step for step, _ in run.logs] == [*range(1, 10)]
    assert run.series == [(1, 2), (2, 2), (3, 1)], "they are charged with no forecasts"
    assert made == [(name, systems) for name in NAMES for systems in ([32, 37], [33, 39], [35])]
    assert not (tmp_path / "000003/result/baselines.h5").exists(), "the forecasts are saved before"
    assert (tmp_path / "000003/result/forecasts.h5").exists()
    scores, _, _ = result(run)
    assert {name: scores["baselines"][name]["made_by"]["package"] for name in NAMES} == dict.fromkeys(
        NAMES, "statsforecast"
    )
    assert scores["baselines"]["auto-ets"]["forecasts_sha256"] == kept(run)["auto-ets"].sha256


@pytest.mark.parametrize("stop", [3, 4, 6, 8])
def test_an_interrupted_one_makes_nothing_twice_and_ends_the_same(training, made, tmp_path, stop):
    whole = run_through(asked(training), tmp_path / "whole")
    made.clear()
    first = run_through(asked(training), tmp_path / "first", stop_at=stop)
    second = run_through(asked(training), tmp_path / "second", before=first.saved)
    assert len(made) == 6
    assert len(second.series) == 0, "no series is forecast again"
    assert result(second)[0] == result(whole)[0]


def test_real_forecasts_are_those_of_each_series_whatever_the_batch(training, data, tmp_path):
    found = []
    for batch in (2, 5):
        config = with_baselines(config_of(training, batch=batch), ["auto-theta"])
        found.append(kept(run_through(config, tmp_path / str(batch)))["auto-theta"].values)
    values = load_dataset(data, steps=45).trajectories.astype(np.float64)
    systems = EvaluationConfig(**config_of(training).params).systems
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], forecast_extra("auto-theta", values[systems, :40], 5, systems))


def test_another_version_makes_all_of_a_baseline_again(training, made, monkeypatch, tmp_path):
    monkeypatch.setattr(task, "made_by", lambda _: {"package": "statsforecast", "version": "2.0"})
    first = run_through(asked(training), tmp_path / "first", stop_at=4)
    monkeypatch.setattr(task, "made_by", lambda _: {"package": "statsforecast", "version": "2.1"})
    made.clear()
    second = run_through(asked(training), tmp_path / "second", before=first.saved)
    assert made[0] == ("auto-ets", [32, 37, 33, 39])
    assert kept(second)["auto-ets"].values.shape == (5, 5, 2)
    assert result(second)[0]["baselines"]["auto-ets"]["made_by"]["version"] == "2.1"


def test_one_that_cannot_be_made_has_its_reason_and_takes_no_other_down(training, made, monkeypatch, tmp_path):
    fake = task.forecast_extra

    def fails(name, histories, horizon, systems):
        if name == "auto-ets" and 33 in systems:
            raise CannotForecast("series 33: it diverges")
        return fake(name, histories, horizon, systems)

    monkeypatch.setattr(task, "forecast_extra", fails)
    scores, _, _ = result(run_through(asked(training), tmp_path))
    assert scores["baselines"]["auto-ets"]["problem"] == "series 33: it diverges"
    assert scores["baselines"]["auto-theta"]["overall"]
    assert [systems for name, systems in made if name == "auto-ets"] == [[32, 37]], "the rest is not tried"
    json.dumps(scores, allow_nan=False)


def test_a_package_that_is_gone_ends_the_job_with_its_remedy_and_keeps_the_forecasts(training, tmp_path, monkeypatch):
    monkeypatch.setattr("lvjobs.forecasting.baselines.extras.find_spec", lambda _: None)
    run = EvaluationRun(asked(training), tmp_path)
    with pytest.raises(LvjobsError, match="takes the package statsforecast"):
        task.evaluate(run)
    assert run.saved[0] == 3


def test_it_costs_what_it_costs_without_them(training):
    without, beside = config_of(training), asked(training)
    assert (without.steps, beside.steps) == (3, 9)
    assert rates_of(beside) == rates_of(without)
    task_ = task_of(beside)
    assert [task_.series(beside.params, 0, until) for until in (3, 4, 9)] == [5, 5, 5]
    assert task_.series(beside.params, 4, 9) == 0


def test_the_order_of_names_makes_no_other_evaluation(training):
    one, two = asked(training), asked(training, [*reversed(NAMES), "auto-ets"])
    assert one.fingerprint == two.fingerprint != config_of(training).fingerprint
    plain = with_baselines(config_of(training), [])
    assert with_baselines(one, []).fingerprint == plain.fingerprint
    older = {key: value for key, value in plain.params.items() if key != "baselines"}
    assert plain.model_copy(update={"params": older}).fingerprint == plain.fingerprint, "of the release before"
