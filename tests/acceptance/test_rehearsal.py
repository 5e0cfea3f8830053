"""A rehearsal without Slurm: of the bundled training, which holds, and of one that forgets, which does not."""

import json
import time

import pytest
from driving import Study

from lvjobs.forecasting.data import make_dataset
from lvjobs.rehearsal.conduct import disturb, local_faults, train_undisturbed
from lvjobs.study.layout import StudyLayout
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Resources

pytestmark = pytest.mark.slow


def test_the_bundled_training_is_resumed_bit_for_bit(tmp_path):
    make_dataset(tmp_path / "data.h5", systems=40, seed=0)
    study = Study(tmp_path, tmp_path / "data.h5", profile="local")
    for seed in range(5):  # a machine that stalls may be late for all of it
        asked = ("--minutes", "0.5", "--seed", str(seed), "--set", "validation_limit=2")
        said = json.loads(study.type("rehearse", "--json", *asked))
        assert said["holds"], said
        assert said["differences"] == []
        assert said["attempts"] - 1 <= sum(said["met"].values()) <= said["attempts"], "one may come after the last step"
        if said["attempts"] > 1:
            break
    else:
        pytest.fail("nothing interrupted it")
    assert "runs.db" not in {path.name for path in tmp_path.iterdir()}, "the study itself was not touched"


def test_a_training_that_forgets_its_generator_is_found_out(tmp_path, monkeypatch):
    config = RunConfig(task="forgetful_task:train", steps=400, checkpoint_every=100, validate_every=100)
    alone = train_undisturbed(tmp_path / "alone", config, Resources(), print)
    root = tmp_path / "disturbed"
    killed = {"killed (SIGKILL)": local_faults(StudyLayout(root))["killed (SIGKILL)"]}
    monkeypatch.setenv("FORGETFUL_WAITS", "1")
    until = time.monotonic() + 600
    verdict = disturb(alone, root, "local", config, killed, seed=0, until=until, resources=Resources(), say=print)
    assert verdict.met
    assert verdict.run["state"] == "completed"
    assert not verdict.holds
    first = verdict.differences[0]
    assert first.what == "step's loss"
    assert first.step % 100 == 1, "where it went on"
