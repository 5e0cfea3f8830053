"""A profile that is a file of the user's, on a real cluster: deleted and edited while its jobs run."""

import shlex
import sqlite3
import subprocess
from contextlib import closing

import pytest
from driving import Study, kill_worker
from test_code import break_training

from lvjobs.cluster.profiles import load_profile
from lvjobs.cluster.templates import shipped

pytestmark = pytest.mark.slurm


@pytest.fixture
def mine(study: Study):
    """The profile's file, beside study.toml, which names it by its relative path."""
    path = study.root / "my.sh.j2"
    path.write_text(f"{shipped('lab').read_text()}# as submitted\n")
    settings = study.root / "study.toml"
    settings.write_text(settings.read_text().replace('profile = "lab"', 'profile = "my.sh.j2"'))
    return path


def scripts(study, name):
    """The scripts that Slurm got for the run, oldest first."""
    found = study.root.glob(".lvjobs/submissions/*/*_submission.sh")
    mine = [path for path in found if f"/checkpoints/{name}" in path.read_text()]
    return [path.read_text() for path in sorted(mine, key=lambda path: int(path.name.partition("_")[0]))]


def test_a_killed_run_is_resubmitted_by_the_profile_that_was_deleted(study: Study, lab, mine, undisturbed, fault):
    fixed = break_training(study.root / "toy_task.py")
    study.submit("broken", "--steps", "20")
    study.until("broken", "held")
    (study.root / "toy_task.py").write_text(fixed)
    study.gate("run", 310)
    study.submit("run")
    claim = study.halt("run", 310)
    copy = load_profile(mine).source  # with the shared parts
    mine.unlink()
    for typed in ("status", "budget", "resume", "why run", "driver status"):
        assert "cannot be read" not in study.type(*typed.split()), "its jobs are submitted by the copy"
    kill_worker(claim)
    assert study.until("run", "completed")["attempts"] == 2
    assert study.weights("run") == undisturbed
    assert [script.endswith("# as submitted\n") for script in scripts(study, "run")] == [True, True]
    fault("profile_gone", study, same_bits=True)

    said = study.type("resume", "broken", code=2)
    assert f"profile {mine} cannot be read (No such file or directory); broken stays held: put the file back" in said
    assert study.run("broken")["state"] == "held"
    command = said.partition("(as it was last submitted: ")[2].partition(")")[0]
    subprocess.run(shlex.split(command), check=True)
    assert mine.read_text() == copy
    mine.write_text(f"{copy}# as it is now\n")
    study.type("resume", "broken")
    study.until("broken", "completed")
    assert scripts(study, "broken")[-1].endswith("# as it is now\n")


def test_a_run_without_a_copy_waits_for_its_profile_and_the_others_go_on(study: Study, lab, mine, fault):
    """As a run that an older release submitted: what became of its job is seen, with no profile at all."""
    study.gate("run", 310)
    study.submit("run")
    with closing(sqlite3.connect(study.root / "runs.db")) as ledger, ledger:
        ledger.execute("UPDATE runs SET profile_copy = ''")
    claim = study.halt("run", 310)
    text = mine.read_text()
    mine.unlink()
    kill_worker(claim)
    study.until("run", "interrupted", timeout=120)  # before any run has a profile that can be used
    study.submit("other", "--steps", "20", "--profile", "lab")
    study.until("other", "completed")
    run = study.until("run", "interrupted")
    assert run["cause"] == "killed"
    assert run["reason"] == (
        f"not submitted: profile {mine} cannot be read (No such file or directory); put the file back"
    )
    for typed in ("budget", "why run", "driver status", "ledger check"):
        study.type(*typed.split())
    for typed in ("status", "resume"):
        assert study.type(typed).count("no jobs for run until you put the file back") == 1
    mine.write_text(text)
    assert study.until("run", "completed")["attempts"] == 2
    fault("profile_gone", study)
