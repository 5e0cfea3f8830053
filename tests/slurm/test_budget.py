"""The budget on real Slurm: charges are what ran, to the last step; what does not fit does not start."""

import json
import time

import psutil
import pytest
from driving import Study, kill_worker
from toy_task import TRAINING, VALIDATION

pytestmark = pytest.mark.slurm

SMALL = ("--steps", "20")


def budget(study):
    return json.loads(study.type("budget", "--json"))


def agrees(study, name):
    """Every step in the journals is charged once, as useful or as replayed; every validation once."""
    run, said = study.run(name), budget(study)
    executed = study.executed(name)
    assert said["useful"] == 1000 * TRAINING
    assert said["replayed"] == (len(executed) - 1000) * TRAINING
    validations = sum(line["kind"] == "validation" for line in study.journal(name))
    assert said["validation"] == validations * VALIDATION > 0
    assert said["estimated"] == said["reserved"] == said["generation"] == 0
    parts = said["useful"] + said["replayed"] + said["validation"]
    assert parts == said["spent"] == sum(said["by_stage"].values()) == sum(said["by_run"].values()) == run["flops"]
    assert said["free"] == said["limit"] - said["spent"]
    return said


def test_a_run_that_was_preempted_and_killed_is_charged_to_the_last_step(study: Study, lab):
    study.gate("run", 300)
    study.gate("run", 620, generation=2)
    study.submit("run")
    lab.preempt(study.halt("run", 300)["job_id"])
    kill_worker(study.halt("run", 620, generation=2))
    study.until("run", "completed")
    assert agrees(study, "run")["replayed"] > 0


def test_a_run_that_slurm_runs_twice_is_charged_once(study: Study, lab, tmp_path):
    study.keep_requeueable(tmp_path / "bin")
    study.submit("run")
    job_id = study.reach("run", 10)["job_id"]
    study.until("run", "completed")
    before = agrees(study, "run")
    before.pop("efficiency")  # of hours, and Slurm may not have told yet when the attempt ended
    deadline = time.monotonic() + 600
    while lab.run("squeue", "-h", "-j", job_id, "-o", "%T").strip() in ("RUNNING", "COMPLETING"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    lab.run("scontrol", "requeue", job_id)
    log = next(study.root.glob("logs/run/*.out"))
    while "done already" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    after = agrees(study, "run")
    after.pop("efficiency")
    assert after == before


def test_an_orphans_steps_are_charged_as_replayed_also_when_it_wakes_after_the_end(study: Study, lab, fault):
    study.gate("run", 260)
    study.submit("run")
    claim = study.halt("run", 260)  # within a step: at the end of it, it would find that it is an orphan
    orphan = psutil.Process(claim["pid"])
    orphan.suspend()
    lab.fail(lab.run("squeue", "-h", "-j", claim["job_id"], "-o", "%N").strip())
    study.until("run", "completed")
    asleep = budget(study)
    assert asleep["estimated"] > 0, "what it may have executed unseen is charged at its upper bound"
    seen = len(study.executed("run"))
    study.open_gates("run")
    orphan.resume()
    orphan.wait(600)
    assert len(study.executed("run")) > seen
    study.run("run")
    assert agrees(study, "run")["replayed"] > 0
    fault("node_fail", study)


def test_ten_at_once_into_a_budget_for_three(study: Study, lab, tmp_path):
    scratch = Study(tmp_path / "scratch")
    # None may complete, and free what it did not replay, while the others are still asking.
    lab.run("scontrol", "update", "partitionname=low", "state=down")
    scratch.submit("one", *SMALL)
    price = budget(scratch)["reserved"]
    assert price > 0
    study.type("budget", "set", str(3 * price + price // 2))

    def words(number):
        return "submit", "run", "--name", f"run{number}", *SMALL

    commands = [study.start(*words(number)) for number in range(10)]
    ends = [study.outcome(process, *words(number)) for number, process in enumerate(commands)]
    codes = [code for _, _, code in ends]
    assert sorted(codes) == [0] * 3 + [2] * 7, ends
    for _, err, code in ends:
        assert code == 0 or "available (limit 1.44e8); nothing was submitted" in err
    said = budget(study)
    assert said["spent"] + said["reserved"] <= said["limit"]
    lab.run("scontrol", "update", "partitionname=low", "state=up")
    deadline = time.monotonic() + 600
    while any(run["state"] != "completed" for run in study.runs().values()):
        assert time.monotonic() < deadline, study.runs()
        time.sleep(0.5)
    assert len(study.runs()) == len(list((study.root / "checkpoints").iterdir())) == 3
    scratch.until("one", "completed")
    said, alone = budget(study), budget(scratch)
    assert said["spent"] == 3 * alone["spent"]
    assert said["reserved"] == 0
    assert sum(said["by_run"].values()) == said["spent"]


def test_a_limit_that_changes_while_runs_go_on_and_wait(study: Study, lab):
    study.gate("runs", 20)  # it is to run for as long as the user takes to type all this
    study.submit("runs")
    study.halt("runs", 20)
    lab.run("scontrol", "update", "partitionname=low", "state=down")  # what runs goes on; what comes now waits
    try:
        study.submit("waits", *SMALL)
        study.submit("gives", *SMALL)
        said = budget(study)
        tight = said["spent"] + said["reserved"] - 1
        assert "gives: held" in study.type("budget", "set", str(tight))
        states = {name: run["state"] for name, run in study.runs().items()}
        assert states == {"runs": "running", "waits": "queued", "gives": "held"}
        assert "FLOPs more than is available" in study.run("gives")["reason"]
        lab_jobs = lab.run("squeue", "-h", "-o", "%j").split()
        assert len(lab_jobs) == 2

        study.type("budget", "set", "1000")
        states = {name: run["state"] for name, run in study.runs().items()}
        assert states == {"runs": "running", "waits": "held", "gives": "held"}
        assert budget(study)["free"] < 0
        assert "spent and reserved exceed the limit by" in study.type("budget")

        assert "--because" in study.type("budget", "set", "1e17", code=2)
        study.type("budget", "set", "1e17", "--because", "the supervisor agreed")
        assert "limit = 1e17" in (study.root / "study.toml").read_text()
        states = {name: run["state"] for name, run in study.runs().items()}
        assert states == {"runs": "running", "waits": "queued", "gives": "queued"}
    finally:
        study.open_gates("runs")
        lab.run("scontrol", "update", "partitionname=low", "state=up")
    for name in ("runs", "waits", "gives"):
        study.until(name, "completed")
    assert study.executed("runs") == list(range(1, 1001)), "the budget disturbed a run that ran"
    assert budget(study)["reserved"] == 0
