"""An adapter of the study is scored on the systems that its own run held out."""

from pathlib import Path

import pytest

from lvjobs.api import evaluate
from lvjobs.api.evaluate import _with_split_of
from lvjobs.ledger.records import RunRecord
from lvjobs.study.config import StudyConfig, StudyContext
from lvjobs.study.params import TRAIN_TASK, TrainingConfig
from lvjobs.study.run import RunConfig

SPLIT = {"split": "k-fold", "folds": 3, "fold": 2, "data_systems": 20, "validation_systems": 2}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study whose run `one` was trained on a fold."""
    params = TrainingConfig(data="d.h5", lora_rank=8, **SPLIT).model_dump(mode="json")
    config = RunConfig(task=TRAIN_TASK, steps=4, params=params)
    run = RunRecord("1", "one", "s", config.fingerprint, config.model_dump(mode="json"), "local", {}, "c0de", 1.0)
    monkeypatch.setattr(evaluate, "seen_runs", lambda _study: [run])
    return StudyContext(root=tmp_path, config=StudyConfig(stage=[]))


@pytest.mark.parametrize("at", ["checkpoints/one/final/adapter", "checkpoints/one/000001-00000004.safetensors"])
@pytest.mark.parametrize("absolute", [False, True])
def test_it_has_the_split_of_its_run(study, at, absolute):
    path = study.root / at if absolute else Path(at)
    found = _with_split_of(study, path, TrainingConfig(data="d.h5"))
    assert {key: getattr(found, key) for key in SPLIT} == SPLIT
    assert found.lora_rank == TrainingConfig(data="d.h5").lora_rank


@pytest.mark.parametrize("at", ["/elsewhere/adapter", "checkpoints/one-more/final/adapter", "adapters/one"])
def test_nothing_is_known_of_one_from_elsewhere(study, at):
    given = TrainingConfig(data="d.h5")
    assert _with_split_of(study, Path(at), given) == given
