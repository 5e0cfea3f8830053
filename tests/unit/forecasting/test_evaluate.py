"""The whole path of an evaluation: nothing between a model's digits and the table may lose, cut, shift or swap anything."""

from dataclasses import replace

import numpy as np
import pytest
from evaluation_helpers import SYSTEMS, config_of, data, result, run_through, training
from forecasting_helpers import Perfect, Persistence, Table, error_bound, one_thread

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting import evaluate as task
from lvjobs.forecasting.codec import ALPHABET
from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.evaluate import EvaluatedModel
from lvjobs.forecasting.evaluations import same_forecast
from lvjobs.forecasting.likelihood import negative_log_likelihood
from lvjobs.forecasting.metrics import score
from lvjobs.forecasting.models import AdapterMismatch, add_adapter, load_base, save_adapter
from lvjobs.forecasting.results import Forecasts, examine
from lvjobs.forecasting.tokens import Characters
from lvjobs.forecasting.windows import codec_of
from lvjobs.study.params import NUMERIC_HEAD, EvaluationConfig
from lvjobs.tasks.registry import rates_of

__all__ = ["data", "one_thread", "training"]
pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]


def truth_of(data, training):
    values = load_dataset(data, steps=45).trajectories.astype(np.float64)
    return values[SYSTEMS, :40], values[SYSTEMS, 40:45]


def pretend(monkeypatch, training, make):
    """Evaluate a model that is made by hand from the character table and the series' texts."""
    codec = codec_of(training)
    table = Characters(Table(), "fake", codec)

    def load(_config):
        return make(table, codec), Table()

    monkeypatch.setattr(task, "load_base", load)


def test_a_perfect_model_scores_exactly_the_codecs_rounding_error(monkeypatch, training, data, tmp_path):
    history, truth = truth_of(data, training)
    codec = codec_of(training)
    scale = codec.fit(history)
    texts = codec.encode(np.concatenate([history, truth], axis=1), scale)
    pretend(monkeypatch, training, lambda table, _: Perfect(table, texts))
    scores, samples, systems = result(run_through(config_of(training), tmp_path))
    rounded = codec.decode(codec.encode(truth, scale), scale)
    assert systems == SYSTEMS
    assert np.array_equal(samples[0], rounded)
    assert scores["scores"] == scores["rounding"] == score(truth, rounded, units=scale.unit * codec.target)
    assert scores["valid"] == 1.0
    assert (np.abs(samples[0] - truth) <= error_bound(codec, scale)[:, None, :]).all()


@pytest.mark.parametrize("scaling", ["series", "global"])
def test_scaled_errors_of_forecasts_in_square_roots_are_those_of_the_values(
    monkeypatch, training, data, tmp_path, scaling
):
    roots = training.model_copy(update={"scale_power": 0.5, "scaling": scaling})
    history, truth = truth_of(data, training)
    codec = codec_of(roots)
    seen = history if scaling == "series" else load_dataset(data, steps=45).trajectories[:29, :40].astype(np.float64)
    scale = codec.fit(seen)
    texts = codec.encode(np.concatenate([history, truth], axis=1), scale)
    pretend(monkeypatch, roots, lambda table, _: Perfect(table, texts))
    scores, samples, _ = result(run_through(config_of(roots), tmp_path))
    rounded = codec.decode(codec.encode(truth, scale), scale)
    assert np.array_equal(samples[0], rounded)
    units = replace(codec, power=1.0).fit(seen).unit * codec.target
    assert scores["scores"] == scores["rounding"] == score(truth, rounded, units=units)


def test_a_persistence_model_scores_the_persistence_baseline(monkeypatch, training, data, tmp_path):
    history, truth = truth_of(data, training)
    codec = codec_of(training)
    scale = codec.fit(history)
    pretend(monkeypatch, training, lambda table, _: Persistence(table, 40))
    scores, samples, _ = result(run_through(config_of(training), tmp_path))
    last = codec.decode(codec.encode(history, scale), scale)[:, -1:]
    assert np.array_equal(samples[0], np.repeat(last, 5, axis=1))
    assert scores["scores"] == score(truth, np.repeat(last, 5, axis=1), units=scale.unit * codec.target)
    bound = float(error_bound(codec, scale).max())
    assert abs(scores["scores"]["overall"]["mae"] - scores["baselines"]["persistence"]["overall"]["mae"]) <= bound
    assert scores["baselines"]["persistence"] == score(
        truth, np.repeat(history[:, -1:], 5, axis=1), units=scale.unit * codec.target
    )


def test_an_interrupted_evaluation_forecasts_no_series_twice_and_ends_the_same(training, tmp_path):
    config = config_of(training)
    whole = run_through(config, tmp_path / "whole")
    assert whole.series == [(1, 2), (2, 2), (3, 1)]
    first = run_through(config, tmp_path / "first", stop_at=1)
    assert [step for step, _ in first.logs] == [1]
    second = run_through(config, tmp_path / "second", before=first.saved)
    assert second.series == [(2, 2), (3, 1)]
    assert result(second)[0] == result(whole)[0]
    assert np.array_equal(result(second)[1], result(whole)[1])


def test_what_is_batched_together_changes_nothing(training, tmp_path):
    one, five = (run_through(config_of(training, batch=batch), tmp_path / str(batch)) for batch in (1, 5))
    assert np.array_equal(result(one)[1], result(five)[1])


def test_samples_have_a_median_and_a_crps(training, tmp_path):
    scores, samples, _ = result(run_through(config_of(training, samples=3, temperature=0.7), tmp_path))
    assert samples.shape == (3, 5, 5, 2)
    assert scores["scores"]["crps"] is not None
    assert not np.array_equal(samples[0], samples[1])


def test_a_model_is_asked_how_likely_it_holds_what_came(training, data, tmp_path):
    config = config_of(training, likelihood=True)
    whole = run_through(config, tmp_path / "whole")
    first = run_through(config, tmp_path / "first", stop_at=2)
    run = run_through(config, tmp_path / "second", before=first.saved)
    scores, samples, _ = result(run)
    assert scores == result(whole)[0]
    assert np.array_equal(samples, result(run_through(config_of(training), tmp_path / "plain"))[1])
    history, truth = truth_of(data, training)
    base, tokenizer = load_base(training)
    codec = codec_of(training)
    alone = negative_log_likelihood(base, Characters(tokenizer, "tiny", codec), codec, history, truth)
    assert scores["nll"]["by_step"] == pytest.approx(alone.mean(axis=0).tolist(), rel=1e-5)
    assert scores["nll"]["overall"] == pytest.approx(alone.mean(), rel=1e-5)
    rates = {asked: rates_of(config_of(training, likelihood=asked))["official"] for asked in (True, False)}
    assert rates[True]["generation"] == rates[False]["generation"] + rates[False]["validation"]


def test_samples_are_charged_what_each_adds_to_one_prompt(training):
    whole = training.model_copy(update={"history_steps": 80, "horizon_steps": 20})
    one, two, nine = (rates_of(config_of(whole, samples=n))["official"]["generation"] for n in (1, 2, 9))
    assert nine == one + 8 * (two - one)
    assert two - one < 0.3 * one


def test_a_numeric_head_is_counted_as_one(training):
    assert len(ALPHABET) == NUMERIC_HEAD
    wide = training.model_copy(update={"model": "Qwen/Qwen2.5-0.5B-Instruct"})
    full, numeric = (
        rates_of(config_of(wide.model_copy(update={"head": head}), likelihood=True))["exact"]
        for head in ("full", "numeric")
    )
    # Of the window's 450 tokens each spares 151,936 - 14 dot products over 896 numbers.
    assert full["validation"] - numeric["validation"] == 450 * (2 * 896 - 1) * (151_936 - NUMERIC_HEAD)
    assert numeric["generation"] < 0.9 * full["generation"]


def test_forecasts_are_scored_against_their_own_series_alone(training, data):
    made = Forecasts(np.ones((1, 5, 5, 2)), SYSTEMS[::-1])
    with pytest.raises(LvjobsError, match="not of the series"):
        examine(EvaluationConfig(**config_of(training).params), load_dataset(data, steps=45), made, 0)


def test_one_scale_for_all_is_that_of_the_series_that_trained(monkeypatch, training, data, tmp_path):
    shared = training.model_copy(update={"scaling": "global"})
    history, truth = truth_of(data, training)
    codec = codec_of(shared)
    # 40 systems: 8 are scored, 3 of the others validate, and have no say in the scale.
    scale = codec.fit(load_dataset(data, steps=45).trajectories[:29, :40].astype(np.float64))
    texts = codec.encode(np.concatenate([history, truth], axis=1), scale)
    pretend(monkeypatch, shared, lambda table, _: Perfect(table, texts))
    scores, samples, _ = result(run_through(config_of(shared), tmp_path))
    rounded = codec.decode(codec.encode(truth, scale), scale)
    assert np.array_equal(samples[0], rounded)
    assert scores["scores"] == scores["rounding"] == score(truth, rounded, units=scale.unit * codec.target)


def test_an_adapter_is_taken_up_exactly_and_one_that_is_not_is_refused(training, tmp_path):
    base, _ = load_base(training)
    adapted = add_adapter(base, training)
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            weights.data.normal_(std=0.5)
    save_adapter(adapted, tmp_path / "adapter")
    with_it = run_through(config_of(training, adapter=str(tmp_path / "adapter")), tmp_path / "with")
    without = run_through(config_of(training), tmp_path / "without")
    assert result(with_it)[0]["adapter_sha256"]
    assert not np.array_equal(result(with_it)[1], result(without)[1])
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises((LvjobsError, AdapterMismatch)):
        run_through(config_of(training, adapter=str(tmp_path / "adapter")), tmp_path / "lost")


def test_data_that_changed_are_refused(training):
    changed = training.model_copy(update={"data_sha256": "0" * 64})
    with pytest.raises(LvjobsError, match="no longer the file"):
        EvaluatedModel(_params(config_of(changed)), 0)


def test_an_evaluation_whose_data_file_is_gone_asks_to_restore_it(training, tmp_path):
    gone = training.model_copy(update={"data": str(tmp_path / "gone.h5")})
    with pytest.raises(LvjobsError) as caught:
        run_through(config_of(gone), tmp_path / "forecast")
    assert str(caught.value) == f"{tmp_path}/gone.h5: no such file; restore it, then type: lvjobs resume forecast"


@pytest.mark.parametrize(("key", "value", "is_same"), [("scale_power", 0.5, False), ("learning_rate", 1e-3, True)])
def test_what_decides_a_forecast_makes_it_another(training, key, value, is_same):
    other = training.model_copy(update={key: value})
    assert same_forecast(config_of(training), config_of(other)) is is_same


def test_what_was_trained_on_is_not_scored(training, tmp_path):
    config = config_of(training)
    leaking = config.model_copy(update={"params": {**config.params, "systems": [3, *SYSTEMS[1:]]}})
    with pytest.raises(UsageError, match="trained or validated on would be scored"):
        run_through(leaking, tmp_path)


def test_tiny_knows_no_words(training):
    with pytest.raises(LvjobsError, match="instruct"):
        EvaluatedModel(_params(config_of(training, prompt="instruct")), 0)


def _params(config):
    return task.EvaluationConfig(**config.params)
