"""Commands while slurmctld is frozen: nothing false; and `lvjobs init` on a login node."""

import json
import time

import pytest
from driving import Study, until

from lvjobs.study.config import load_study


@pytest.fixture
def study(tmp_path):
    made = Study(tmp_path / "study")
    made.environment["LVJOBS_SLURM_WAIT"] = "1"
    return made


def test_reading_commands_say_that_slurm_did_not_answer_and_how_old_their_states_are(lab, study):
    study.submit("one", "--steps", "100000")
    study.reach("one", 5)
    lab.run("scontrol", "update", "partitionname=low", "state=down")
    study.submit("two", "--steps", "10", "--seed", "1")
    until(lambda: study.run("two")["queue_reason"] is not None)
    asked = time.time()
    lab.freeze()
    said = study.type("status")
    assert "note: squeue: squeue did not answer within 1 s\n" in said
    assert "Slurm did not answer: states of jobs are " in said
    assert "one" in said
    assert said.count("did not answer within") == 1
    assert "running" in said, "as last seen"
    assert json.loads(study.type("status", "--json").partition("\nnote: ")[0])["answered"] <= asked
    said = study.type("queue")
    assert "unknown: Slurm did not answer. Waiting at the last update: two" in said
    assert "No job of this study is waiting" not in said
    assert not json.loads(study.type("queue", "--json"))["known"]
    assert "running on n" in study.type("why", "one")
    assert "attempt 1 begins" in study.type("status", "one")
    assert "step" in study.type("logs", "one")
    study.type("budget")
    lab.thaw()
    lab.run("scontrol", "update", "partitionname=low", "state=up")
    until(lambda: "did not answer" not in study.type("status"))
    study.until("two", "completed")
    study.type("cancel", "one")


def test_init_on_a_machine_with_slurm_chooses_nothing_silently(lab, tmp_path):
    study = Study(tmp_path / "study")
    (study.root / "study.toml").unlink()
    said = study.type("init", code=2)
    assert "this may be a login node; add --yes to use profile lab" in said
    assert not (study.root / "study.toml").exists()
    assert "proposed: profile lab" in study.type("init", "--yes")
    assert load_study(study.root).config.profile == "lab"
    study.type("init", "--local", "--force")
    assert load_study(study.root).config.profile == "local"
