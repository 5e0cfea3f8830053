"""`lvjobs logs` of a run that trains, and of one that has ended."""

import pytest
from driving import Study


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path, profile="local")


def test_a_log_shows_steps_and_following_it_ends_with_the_run(study):
    study.submit("run", "--steps", "300")
    study.reach("run", 1)
    said = study.type("logs", "run", "-f", "-n", "500")
    lines = [line for line in said.splitlines() if line.startswith("lvjobs worker: ")]
    assert any(line.startswith("lvjobs worker: step 300 of 300, loss ") for line in lines)
    assert "run is done: 300 steps" in lines[-1]
    assert said.endswith("run is completed\n")
    said = study.type("logs", "run", "-f")
    assert "lvjobs worker: loaded in " in said
    assert "training from step 0 of 300" in said
    job = study.run("run")["job_id"]
    assert "run is done: 300 steps\n" in study.type("logs", job, "-n", "1")
