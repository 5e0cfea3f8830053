"""Presets are settings of [train], and those that the documents tell of."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from lvjobs.control.stages.expand import zero_shot
from lvjobs.forecasting.data import STEPS
from lvjobs.report.horizon_table import SCALED_STEPS
from lvjobs.study.config import TrainSettings, study_model, validated
from lvjobs.study.params import EvaluationConfig, TrainingConfig
from lvjobs.study.presets import STUDIES, TINY_TRAINING
from lvjobs.study.run import read_params
from lvjobs.sweep.request import Request
from lvjobs.tasks.registry import task_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
TINY = ROOT / "docs" / "tiny.md"
SCIENCE = ROOT / "benchmarks" / "science" / "study.toml"


def typed(command):
    """The settings of [train] that a command's options are."""
    words, found = iter(shlex.split(command)), {}
    for word in words:
        pair = next(words).partition("=") if word == "--set" else (word[2:].replace("-", "_"), "", next(words))
        found[pair[0]] = pair[2]
    return TrainSettings(**found)


def test_tinys_figures_are_of_its_preset_and_of_all_that_may_train():
    (command,) = re.findall(r"^    (--(?:.*\\\n)*.*)$", TINY.read_text(), re.MULTILINE)
    assert typed(command.replace("\\\n", " ")) == TrainSettings(**TINY_TRAINING, validation_systems=0)


def test_a_window_of_tinys_preset_is_a_whole_series():
    settings = TrainSettings(**TINY_TRAINING)
    assert settings.model == "tiny"
    assert settings.history_steps + settings.horizon_steps == STEPS
    assert settings.context_length == STEPS * 2 * (settings.decimals + 3)


def test_the_study_of_the_science_page_trains_by_tinys_recipe():
    values = tomllib.loads(SCIENCE.read_text(encoding="utf-8"))
    config = validated(study_model(values), values, str(SCIENCE))
    recipe = TrainSettings(**TINY_TRAINING, precision="bf16", validation_systems=0, validation_limit=4, keep_best=False)
    assert config.train == recipe
    assert [(stage.name, stage.repeats) for stage in config.stage] == [("last200", 3), ("random", 3), ("k-fold", 15)]
    request = Request(train=values["train"], systems=list(range(200)))
    for stage in config.stage:
        made = [read_params(TrainingConfig, each.params) for each in request.configs(stage, config.stage)]
        assert {each.split for each in made} == {stage.name}


def test_a_preset_stays_as_it_is():
    with pytest.raises(TypeError):
        TINY_TRAINING["steps"] = 1


def test_every_run_of_five_steps_is_trained_for_and_scored_on_five_steps():
    train, stages = STUDIES["five-steps"]
    request = Request(train=dict(train), systems=[7, 8])
    scored = [config for stage in stages for _, config in zero_shot(stage, stages, request)]
    trained = [config for stage in stages if not stage.evaluates for config in request.configs(stage, stages)]
    scored += [task_of(config).evaluation("run", config.params, Path("/final"), [7, 8]) for config in trained]
    asked = [EvaluationConfig(**config.params).training for config in scored]
    assert len(asked) == 2 + 1 + 9 + 3 + 1
    assert {(each.horizon_steps, each.history_steps) for each in asked} == {(SCALED_STEPS, 80)}
    assert {name for stage in stages for name in stage.evaluate} == {"base", "stage1", "stage2", "final"}
