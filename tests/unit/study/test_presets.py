"""Presets are settings of [train], and those that the documents tell of."""

import re
import shlex
from pathlib import Path

import pytest

from lvjobs.forecasting.data import STEPS
from lvjobs.study.config import TrainSettings
from lvjobs.study.presets import TINY_TRAINING

TINY = Path(__file__).parents[3] / "docs" / "tiny.md"


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
    assert settings.context_length == STEPS * settings.tokens_per_step


def test_a_preset_stays_as_it_is():
    with pytest.raises(TypeError):
        TINY_TRAINING["steps"] = 1
