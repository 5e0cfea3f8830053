"""A rehearsal without Slurm: of the bundled training, which holds, and of one that forgets, which does not."""

import json
import time

import pytest
from driving import Study

from lvjobs.forecasting.data import make_dataset
from lvjobs.rehearsal.conduct import disturb, leave_alone, report
from lvjobs.rehearsal.misfortunes import LocalStage
from lvjobs.study.layout import StudyLayout
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Resources

pytestmark = pytest.mark.slow


def test_the_bundled_training_is_resumed_bit_for_bit(tmp_path):
    make_dataset(tmp_path / "data.h5", systems=40, seed=0)
    study = Study(tmp_path, tmp_path / "data.h5", profile="local")
    said = json.loads(study.type("rehearse", "--minutes", "0.4", "--json", "--set", "validation_limit=2"))
    assert said["holds"], said
    assert said["differences"] == []
    assert sum(said["met"].values()) == said["attempts"] - 1 > 0
    assert "runs.db" not in {path.name for path in tmp_path.iterdir()}, "the study itself was not touched"


def test_a_training_that_forgets_its_generator_is_found_out(tmp_path):
    config = RunConfig(task="forgetful_task:train", steps=400, checkpoint_every=100, validate_every=100)
    alone = leave_alone(tmp_path / "alone", config, Resources(), print)
    root = tmp_path / "disturbed"
    killed = {"killed (SIGKILL)": LocalStage(StudyLayout(root)).misfortunes["killed (SIGKILL)"]}
    until = time.monotonic() + 20
    found = disturb(root, "local", config, Resources(), killed, seed=0, until=until, say=print)
    verdict = report(alone, *found)
    assert verdict.met
    assert verdict.run["state"] == "completed"
    assert not verdict.holds
    first = verdict.differences[0]
    assert first.what == "step's loss"
    assert first.step % 100 == 1, "where it went on"
