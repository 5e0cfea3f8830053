"""No job is lost and none is submitted twice, whatever becomes of sbatch's answer or of the command itself."""

import os
import shutil
import signal
import stat
import time

import pytest
from driving import Study, closed_partition

pytestmark = pytest.mark.slurm


STAGE = """
[[stage]]
name = "many"
grid = { width = [2, 4, 8], learning_rate = [1e-2, 5e-3, 1e-3] }
"""


def declare(study):
    """A stage of nine runs."""
    path = study.root / "study.toml"
    path.write_text(path.read_text() + STAGE)


def look_long(study):
    """Let passes look for a job for a minute before they submit another: a machine may stall for some seconds."""
    path = study.root / "study.toml"
    path.write_text(path.read_text().replace("unclear_seconds = 3\n", "unclear_seconds = 60\n"))


def jobs(lab):
    """Ids of all jobs in the queue, array tasks one by one."""
    return lab.run("squeue", "-h", "-r", "-o", "%i").split()


def test_a_frozen_controller(study: Study, impatient, undisturbed, fault):
    lab = impatient
    look_long(study)
    lab.freeze()
    said = study.submit("run")
    assert "Slurm did not confirm the job" in said
    lab.thaw()
    run = study.until("run", "queued", "running", "completed")
    assert {job_id for job_id, _ in study.known_jobs()} == {run["job_id"]}, "exactly one job"
    study.until("run", "completed")
    assert study.weights("run") == undisturbed
    assert {claim["job_id"] for claim in study.claims("run")} == {run["job_id"]}
    fault(
        "reply_lost", study, saw=next(line for line in said.splitlines() if "did not confirm" in line), same_bits=True
    )


def test_a_dead_controller(study: Study, impatient, undisturbed, fault):
    lab = impatient
    study.gate("run", 1)  # the run is not over before the queue has been looked at
    lab.kill_controller()
    said = study.submit("run")
    assert "not submitted yet" in said
    assert study.run("run")["state"] == "planned"
    lab.start_controller()
    earlier = jobs(lab)  # of other tests: a controller that is killed remembers what it saved last
    run = study.until("run", "queued", "running")
    assert [job for job in jobs(lab) if job not in earlier] == [run["job_id"]]
    tokens = {path.name for path in (study.root / ".lvjobs" / "submissions").glob("*") if path.is_dir()}
    carried = [name for name in lab.run("squeue", "-h", "-o", "%j").split() if name.rpartition(".")[2] in tokens]
    assert len(carried) == 1
    study.open_gates("run")
    study.until("run", "completed")
    assert study.weights("run") == undisturbed
    fault("controller_dead", study, saw=said.strip().splitlines()[-1], same_bits=True)


def test_a_ledger_that_is_lost_while_one_run_trains_and_the_answer_for_another_never_came(
    study: Study, impatient, undisturbed, fault
):
    lab = impatient
    look_long(study)
    study.gate("run", 300)
    study.submit("run")
    study.halt("run", 300)
    lab.freeze()
    assert "Slurm did not confirm the job" in study.submit("other", "--seed", "1")
    lab.thaw()
    (study.root / "runs.db").unlink()
    assert "lvjobs ledger rebuild" in study.type("status", code=2)
    said = study.type("ledger", "rebuild")
    assert "runs.db: 2 runs" in said
    assert "nothing was submitted" in said
    study.open_gates("run")
    for name in ("run", "other"):
        study.until(name, "completed")
        assert len({claim["job_id"] for claim in study.claims(name)}) == 1
    sent = list((study.root / ".lvjobs" / "submissions").glob("*.jsonl"))
    assert len(sent) == 2, f"one sbatch for each run\n{study.story('run')}\n{study.story('other')}"
    assert study.weights("run") == undisturbed
    assert "fine: runs.db is intact" in study.type("ledger", "check")
    paths = [path for name in (".lvjobs", "checkpoints", "logs") for path in (study.root / name).rglob("*")]
    assert any(path.suffix == ".out" for path in paths)
    assert not [path for path in paths if path.stat().st_mode & 0o077], "Slurm's log and scripts are private too"
    fault("ledger_gone", study, saw=said.strip().splitlines()[0], same_bits=True)


@pytest.fixture
def deadly_sbatch(tmp_path, lab):
    """An sbatch that kills the command that calls it, before or after it has done its work."""
    directory = tmp_path / "deadly"
    directory.mkdir()

    def make(when):
        kill = f'kill -9 "$LVJOBS_VICTIM" 2>/dev/null || kill -9 $(cat {directory}/victim)\n'
        real = f'"{shutil.which("sbatch")}" "$@"\n'
        script = directory / "sbatch"
        wait = f"until [ -s {directory}/victim ]; do sleep 0.05; done\n"
        script.write_text(f"#!/bin/sh\n{wait}" + (kill + "sleep 1" if when == "before" else real + kill))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return directory

    return make


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("array", [False, True], ids=["job", "array"])
def test_the_command_killed_between_the_row_and_the_job_id(study: Study, lab, deadly_sbatch, when, array, fault):
    directory = deadly_sbatch(when)
    path = {"PATH": f"{directory}:{os.environ['PATH']}"}
    declare(study)
    arguments = ["sweep", "many", "--steps", "30"] if array else ["submit", "run", "--name", "run", "--steps", "30"]
    study.environment |= path
    expected = 9 if array else 1
    lab.run("scontrol", "update", "partitionname=low", "state=down")  # jobs are taken, and wait until they are counted
    try:
        victim = study.start(*arguments)
        (directory / "victim").write_text(str(victim.pid))
        victim.communicate(timeout=600)
        assert victim.returncode == -signal.SIGKILL
        assert len(jobs(lab)) == (expected if when == "after" else 0)
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=up")
    del study.environment["PATH"]

    deadline = time.monotonic() + 600
    while True:
        runs = study.runs()
        assert len(runs) == expected
        if all(run["state"] == "completed" for run in runs.values()):
            break
        assert time.monotonic() < deadline, runs
        time.sleep(0.5)
    for name in runs:
        assert study.executed(name) == list(range(1, 31)), "trained exactly once"
        assert len(study.claims(name)) == 1
    fault("killed_at_sbatch", study)


def test_a_sweep_is_one_array(study: Study, lab):
    declare(study)
    with closed_partition(lab):  # what is submitted stays in the queue until it has been looked at
        said = study.type("sweep", "many", "--steps", "20")
        assert "9 runs: submitted as job" in said
        tasks = [line.split() for line in lab.run("squeue", "-h", "-r", "-o", "%F %K").splitlines()]
    assert {array for array, _ in tasks} == {said.partition("submitted as job ")[2].split(";")[0]}
    assert sorted(int(task) for _, task in tasks) == list(range(9))
    for name in study.runs():
        study.until(name, "completed")


def test_the_same_settings_are_the_same_run(study: Study, lab):
    study.submit("run", "--steps", "20")
    assert "already exists" in study.submit("run", "--steps", "20")
    study.until("run", "completed")
    assert "already exists (completed)" in study.submit("run", "--steps", "20")
    refused = study.type("submit", "run", "--name", "run", "--steps", "10", code=2)
    assert "already exists with other settings (steps 20 -> 10)" in refused
    assert "lvjobs submit run --continue run --steps 21" in study.type(
        "submit", "run", "--name", "run", "--steps", "21", code=2
    )


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--partition", "nowhere", "nowhere"),
        ("--account", "nobody", "Invalid account or account/partition combination"),
        ("--time-limit", "100h", "1-12:00:00"),
    ],
)
def test_what_the_site_refuses_is_told_and_nothing_is_half_made(study: Study, lab, option, value, words, fault):
    said = study.type("submit", "run", "--name", "run", option, value, code=2)
    assert words in said
    assert said.count("\n") == 1
    assert study.runs() == {}
    assert jobs(lab) == []
    assert not (study.root / "checkpoints" / "run").exists()
    fault("refused", study, saw=said.strip())
