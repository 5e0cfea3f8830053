"""Commands on a host that sees the study's directory and has none of Slurm's programs: PATH leaves them out."""

import os
import shutil
import socket
import time

import pytest
from driving import Study, kill_worker, until

pytestmark = pytest.mark.slurm

STAGES = """
[[stage]]
name = "first"
grid = { width = [3, 4] }
select = { metric = "training_loss" }

[[stage]]
name = "last"
from = "first"
set = { learning_rate = 1e-3 }
"""


@pytest.fixture
def elsewhere(request, study: Study, lab, tmp_path_factory):
    """Type a command where Slurm, but for the programs that the test has, is not on PATH; see that it says so once."""
    path = tmp_path_factory.mktemp("elsewhere")
    there = getattr(request, "param", ())
    for name in ("git", "sh", "env", *there):
        if found := shutil.which(name):
            (path / name).symlink_to(found)
    here = os.environ["PATH"]
    missing = "srun is" if there else "sbatch, squeue, scancel, scontrol and srun are"
    note = f"Slurm is not reachable from {socket.gethostname()}: {missing} not on PATH"

    def typed(*arguments, code=0):
        study.environment["PATH"] = str(path)
        try:
            said = study.type(*arguments, code=code)
        finally:
            study.environment["PATH"] = here
        assert said.count(note) == said.count("not on PATH") == 1, said
        assert "refused" not in said
        assert "cannot be run" not in said, "a program that is missing was asked all the same"
        return said

    return typed


def test_runs_wait_where_slurm_is_not_on_path_and_are_submitted_where_it_is(
    study: Study, lab, elsewhere, undisturbed, fault
):
    path = study.root / "study.toml"
    text = path.read_text().replace("[train]\n", "[train]\nfail_at = 0\n")
    path.write_text(text.replace("backoff_seconds = 1\n", "backoff_seconds = 20\n"))
    study.gate("run", 300)
    study.gate("run", 600, generation=2)
    study.submit("run")
    kill_worker(study.halt("run", 300))
    study.type("submit", "run", "--name", "held", "--set", "fail_at=3")
    until(lambda: study.run("held")["state"] == "held" and len(study.claims("run")) == 2, 300)
    kill_worker(study.halt("run", 600, generation=2))
    due = study.until("run", "interrupted")["not_before"]
    until(lambda: not lab.run("squeue", "-h", "-o", "%i") and time.time() > due)
    jobs = set(study.known_jobs())
    assert "run" in elsewhere("status")
    elsewhere("resume")
    assert "held: stays held; it cannot be resumed from this host" in elsewhere("resume", "held")
    said = elsewhere("submit", "run", "--name", "other", "--set", "learning_rate=0.5", code=2)
    assert "nothing was submitted" in said
    assert not study.files("other").exists()
    after = {run["name"]: run["state"] for run in study.summary()["runs"]}
    assert after == {"run": "interrupted", "held": "held"}
    assert set(study.known_jobs()) == jobs
    run = study.until("run", "completed")
    assert study.executed("run")[-1] == 1000
    assert run["attempts"] == 3
    assert study.weights("run") == undisturbed
    fault("absent", study, same_bits=True)


def test_a_stage_waits_where_slurm_is_not_on_path_and_begins_where_it_is(study: Study, elsewhere, fault):
    path = study.root / "study.toml"
    path.write_text(path.read_text() + STAGES)
    elsewhere("sweep", "all")
    assert set(study.stands().values()) == {"asked"}
    assert not set(study.known_jobs())
    study.runs()
    until(lambda: len(list(study.root.glob("checkpoints/*/done.json"))) == 2)
    jobs = set(study.known_jobs())
    assert "last" in elsewhere("resume")
    assert study.stands() == {"first": "completed", "last": "asked"}
    assert set(study.known_jobs()) == jobs
    until(lambda: study.runs() and study.stands()["last"] == "completed", 600)
    runs = study.runs()
    assert {run["state"] for run in runs.values()} == {"completed"}
    assert len(set(study.known_jobs())) == 2, "one array a stage"
    fault("absent", study)


@pytest.mark.parametrize("elsewhere", [(), ("sbatch", "squeue", "scancel", "scontrol")], indirect=True)
def test_no_driver_is_submitted_from_where_slurm_is_not_on_path(study: Study, lab, elsewhere):
    path = study.root / "study.toml"
    study.gate("run", 300)
    study.submit("run")
    study.halt("run", 300)
    path.write_text(path.read_text().replace("job = false", "job = true"))
    elsewhere("resume")
    elsewhere("driver", "run", code=75)
    assert "driver." not in lab.run("squeue", "-h", "-o", "%j")
    assert "driver: submitted as job" in study.type("resume")
    study.type("driver", "stop")
