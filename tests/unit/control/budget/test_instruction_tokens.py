"""An instruction's tokens are priced wherever the model reads them: in validation, forecasts and likelihoods."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tokenizers
import transformers
from forked import Forked

from lvjobs.errors import UsageError
from lvjobs.flops.conventions import BINDING, CONVENTIONS
from lvjobs.forecasting.costs import workload_of
from lvjobs.forecasting.data import load_dataset, make_dataset
from lvjobs.forecasting.evaluations import EvaluationRequest, evaluation
from lvjobs.forecasting.models import TINY_DIRECTORY, load_tokenizer
from lvjobs.forecasting.tokens import Characters, prompts_of
from lvjobs.forecasting.windows import codec_of, validation_windows
from lvjobs.study.config import TrainSettings
from lvjobs.study.params import TrainingConfig
from lvjobs.tasks.registry import rates_of

TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}<e>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
QWEN = "Qwen/Qwen2.5-0.5B-Instruct"


@pytest.fixture(scope="module")
def forked():
    """Processes with transformers in them."""
    with Forked("transformers", "lvjobs.forecasting.models", "lvjobs.forecasting.tokens") as forked:
        yield forked


@pytest.fixture(autouse=True)
def _asked_in_forks(forked, monkeypatch):
    forked.answers(monkeypatch)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model's shape with a tokenizer that has a token a byte, and a chat template."""
    directory = tmp_path_factory.mktemp("model")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, "<s>", "<e>"])}
    tokenizer = transformers.Qwen2Tokenizer(
        vocab=vocabulary, merges=[], unk_token="<e>", eos_token="<e>", pad_token="<e>", bos_token="<s>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(directory)
    shutil.copy(TINY_DIRECTORY / "config.json", directory)
    return str(directory)


def a_training(model, **settings):
    return TrainingConfig(**{"model": model, "data": "/data.h5", "context_length": 1024, **settings})


def a_run(training):
    return TrainSettings(steps=10).run_config().model_copy(update={"params": training.model_dump(mode="json")})


def around(training):
    """Return the text that a job puts around a history."""
    tokenizer = load_tokenizer(training.model)
    return prompts_of("instruct", tokenizer, training.model, codec_of(training), 2)(training.horizon_steps).around


def counts(training, rank, tokens, **changes):
    """By each convention, with so many tokens of an instruction; one window of history, instruction and horizon."""
    step = workload_of(training, rank, "raw")
    step = replace(step, prompt_tokens=step.prompt_tokens + tokens, inference=True, batch=1, **changes)
    step = replace(step, length=step.prompt_tokens + step.new_tokens)
    return {name: CONVENTIONS[name].count(step) for name in BINDING}


@pytest.mark.parametrize("settings", [{}, {"horizon_steps": 5, "decimals": 3}])
def test_validation_is_charged_with_the_instruction_of_its_windows(model, settings):
    training = a_training(model, format="instruct", **settings)
    tokens = around(training)
    assert tokens > 100
    rates = rates_of(a_run(training))
    plain = rates_of(a_run(training.model_copy(update={"format": "raw"})))
    for name, counted in counts(training, training.lora_rank, tokens).items():
        assert rates[name]["validation"] == counted.forward > plain[name]["validation"]
        assert rates[name]["generation"] == counted.generation > plain[name]["generation"]
        assert rates[name]["training"] == plain[name]["training"], "the instruction is within context_length"


@pytest.mark.parametrize(("adapter", "samples", "likelihood"), [("", 1, False), ("", 5, True), ("/adapter", 1, True)])
def test_an_evaluation_is_charged_with_the_instruction(model, adapter, samples, likelihood):
    training = a_training(model, format="instruct" if adapter else "raw")
    trial = EvaluationRequest(samples=samples, likelihood=likelihood)
    rank = training.lora_rank if adapter else 0
    rates = rates_of(evaluation(training, trial, [0, 1], adapter, "instruct"))
    for name, counted in counts(training, rank, around(training), samples=samples).items():
        assert rates[name]["generation"] == counted.generation + likelihood * counted.forward


def test_the_windows_of_a_job_are_as_long_as_those_that_are_charged(model, tmp_path):
    make_dataset(tmp_path / "data.h5", systems=10, seed=0)
    data = load_dataset(tmp_path / "data.h5", steps=100)
    training = a_training(model, format="instruct", validation_limit=2)
    tokenizer = load_tokenizer(model)
    codec = codec_of(training)
    table = Characters(tokenizer, model, codec)
    windows = [
        validation_windows(data, codec, table, training, 0, prompts_of(form, tokenizer, model, codec, 2))
        for form in ("raw", "instruct")
    ]
    lengths = [each.attention.sum(axis=1) for each in windows]
    charged = [workload_of(training, 4, form).prompt_tokens for form in ("raw", "instruct")]
    assert np.unique(lengths[1] - lengths[0]).tolist() == [charged[1] - charged[0]]


def test_a_model_that_is_not_here_is_estimated_by_qwens_tokenizer(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    tokens = {horizon: workload_of(a_training(QWEN, horizon_steps=horizon), 4, "instruct") for horizon in (5, 20)}
    assert {horizon: each.prompt_tokens - 800 for horizon, each in tokens.items()} == {5: 104, 20: 105}


def test_a_model_that_cannot_be_instructed_has_no_price():
    with pytest.raises(UsageError, match=r"'tiny'.*no chat template.*use \"raw\", or type: lvjobs model check tiny"):
        rates_of(a_run(a_training("tiny", format="instruct")))
