"""A study that is copied or moved while its jobs wait and train on a real cluster."""

import copy
import json
import shutil
import subprocess
import time

import pytest
from driving import Study, closed_partition, until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(3000)]

HUNG_SECONDS = 20


def in_place(study, root):
    """The commands of the study, typed in `root`."""
    other = copy.copy(study)
    other.root = root
    return other


def copied(study, root):
    """A copy, as a user makes it. What changes meanwhile (a claim of the lease) may be missing in it."""
    subprocess.run(["cp", "-r", study.root, root], capture_output=True, check=False)
    return in_place(study, root)


def moved(study, root):
    return in_place(study, study.root.rename(root))


def nothing_but_logs(root):
    """Slurm makes the directory of a job's log where it is not there."""
    return {path.name for path in root.glob("*")} <= {"logs"}


def causes(study):
    """Return the causes that ended the attempts of the study's run, oldest first."""
    rows = study.type("ledger", "export", "--table", "attempts").splitlines()
    return [json.loads(row)["cause"] for row in rows if row.startswith("{")]


def queue(lab):
    """The names of the jobs in the queue."""
    return lab.run("squeue", "-h", "-a", "-o", "%j").split()


def test_a_copy_beside_its_original_touches_no_job_and_starts_none(tmp_path, lab, undisturbed, fault):
    """Both make passes until the copy's journals have stood still for three times what is called hung."""
    study = Study(tmp_path / "study", driver=True)
    toml = study.root / "study.toml"
    study.gate("run", 300)  # where the original trains on, and is not called hung as soon as its copy
    study.submit("run")
    study.halt("run", 300)
    other = copied(study, tmp_path / "copy")
    hasty = toml.read_text().replace("[policy]\n", f"[policy]\nhung_seconds = {HUNG_SECONDS}\n")
    (other.root / "study.toml").write_text(hasty)
    checked = other.type("ledger", "check")
    assert "this is a copy" in checked
    told = other.type("status")
    assert "paused" in told
    assert f"this study is a copy of {study.root}" in "\n".join(other.summary()["did"])

    passes = 0
    last = max(line["time"] for line in other.journal("run"))
    while passes < 10 or time.time() - last < 3 * HUNG_SECONDS:
        assert study.run("run")["state"] == "running", study.story("run")
        assert other.run("run")["state"] == "paused"
        assert other.summary()["did"] == []
        passes += 1
        time.sleep(1)  # cores are for others, too
    drivers = {name for name in queue(lab) if name.startswith("driver.")}
    assert len(drivers) == 1, "the copy has none"
    assert "no driver" in other.type("driver", "status") or "stopped" in other.type("driver", "status")

    study.open_gates("run")
    run = study.until("run", "completed")
    assert run["attempts"] == 1
    assert len({job for job, _ in study.known_jobs()}) == 1
    assert study.executed("run") == list(range(1, 1001))
    assert study.weights("run") == undisturbed
    study.type("ledger", "check")

    assert other.run("run")["reason"].startswith(f"belongs to the original in {study.root}; to also train it here")
    steps = max(line["step"] for line in other.journal("run") if line["kind"] == "checkpoint")
    other.type("resume", "run")
    other.until("run", "completed")
    assert other.executed("run", 2) == list(range(steps + 1, 1001)), "from the newest checkpoint that was copied"
    assert other.weights("run") == undisturbed
    other.type("ledger", "check")
    assert study.run("run") == run
    fault("copied", study, same_bits=study.weights("run") == undisturbed)


def test_a_study_that_is_moved_while_its_job_waits(tmp_path, lab, undisturbed, fault):
    """The job's script names the old place, where it cannot begin: the run is submitted again from the new one."""
    study = Study(tmp_path / "study")
    lab.run("scontrol", "update", "partitionname=low", "state=down")
    try:
        study.submit("run")
        other = moved(study, tmp_path / "elsewhere")
        first = other.run("run")
        assert other.summary()["did"] == [
            f"the study was moved here from {study.root}; its jobs are followed from here"
        ]
        assert first["state"] == "queued"
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=up")
    run = other.until("run", "completed")
    assert other.executed("run") == list(range(1, 1001))
    assert len(other.claims("run")) == 1
    assert run["job_id"] != first["job_id"]
    assert run["replayed_steps"] == 0
    assert causes(other) == ["launch_failed", "completed"]
    assert other.weights("run") == undisturbed
    assert nothing_but_logs(study.root)
    other.type("ledger", "check")
    fault("moved", other, same_bits=True)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("trains", ["preempted", "completed"]),
        ("waits to go on", ["preempted", "launch_failed", "completed"]),
    ],
)
def test_a_study_that_is_moved_after_its_run_began(how, expected, tmp_path, lab, undisturbed, fault):
    study = Study(tmp_path / "study", driver=True)
    study.gate("run", 300)
    study.submit("run")
    claim = study.halt("run", 300)
    (driver,) = {name for name in queue(lab) if name.startswith("driver.")}
    if how == "trains":
        other = moved(study, tmp_path / "elsewhere")  # its gate with it: the worker goes on
    else:
        with closed_partition(lab):  # it does not resume before the study is moved
            lab.preempt(claim["job_id"])
            until(lambda: any(line["kind"] == "leave" for line in study.journal("run")))
            other = moved(study, tmp_path / "elsewhere")
    run = other.until("run", "completed")
    executed = other.executed("run")
    assert len(executed) == 1000 + run["replayed_steps"]
    assert sorted(set(executed)) == list(range(1, 1001))
    assert run["executed_steps"] == len(executed), "each step is charged"
    assert len(other.claims("run")) == 2
    assert len({each["token"] for each in other.claims("run")}) == 2
    assert causes(other) == expected
    assert other.weights("run") == undisturbed
    assert nothing_but_logs(study.root)
    until(lambda: driver not in queue(lab))
    other.type("ledger", "check")
    fault("moved", other, same_bits=True)


def test_a_study_that_was_copied_and_its_original_deleted_asks_once(tmp_path, lab, fault):
    study = Study(tmp_path / "study")
    lab.run("scontrol", "update", "partitionname=low", "state=down")
    try:
        study.submit("run")
        other = copied(study, tmp_path / "copy")
        shutil.rmtree(study.root)
        for command in (("submit", "run", "--name", "more"), ("resume",), ("cancel", "run"), ("sweep", "stop", "all")):
            assert "lvjobs study copied" in other.type(*command, code=2)
        assert "lvjobs study moved" in other.type("status")
        assert len(queue(lab)) == 1
        other.type("study", "moved")
        assert other.run("run")["state"] == "queued"
        assert len(queue(lab)) == 1
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=up")
    assert other.until("run", "completed")["replayed_steps"] == 0
    fault("original_deleted", other)
