"""A run that is preempted, killed, timed out or loses its node ends with the weights of one that was left alone."""

import os
import signal
import sqlite3
import time
from contextlib import closing, suppress

import psutil
import pytest
from driving import SHORT, Study, kill_worker, until

from lvjobs.lab import LabConfig
from lvjobs.study.layout import RunLayout

pytestmark = pytest.mark.slurm

FAULT = {
    "requeue": "preempted",
    "user_signal": "preempted_signal",
    "grace_0": "preempted_no_grace",
    "qos": "preempted_qos",
    "cancel": "preempted_cancel",
    "no_accounting": "accounting_off",
}


@pytest.mark.parametrize("kind", ["requeue", "user_signal", "grace_0", "qos", "cancel", "no_accounting"])
def test_preempted(kind, study: Study, lab_for, lab_configs, undisturbed, fault):
    lab = lab_for(lab_configs[kind])
    preempt_once(study, lab, *(["--qos", "low"] if kind == "qos" else []))
    assert study.weights("run") == undisturbed
    fault(FAULT[kind], study, same_bits=True)


def test_the_bundled_training_is_preempted(forecasting: Study, lab, undisturbed_forecaster, fault):
    preempt_once(forecasting, lab, *SHORT, step=100, steps=240)
    assert forecasting.weights("run") == undisturbed_forecaster
    fault("preempted", forecasting, same_bits=True)


def test_two_processes_that_train_together_are_preempted(tmp_path, series, lab):
    study = Study(tmp_path, series, resources="gpus = 2")  # one each
    preempt_once(study, lab, "--batch-size", "2", "--steps", "60", "--checkpoint-every", "20", step=30, steps=60)
    assert [line["processes"] for line in study.journal("run") if line["kind"] == "start"] == [2, 2]


def preempt_once(study, lab, *arguments, step=300, steps=1000):
    """Submit a run, and preempt its first attempt at `step`; it leaves in time, and is completed by the second."""
    study.gate("run", step)
    study.submit("run", *arguments)
    claim = study.halt("run", step)
    lab.preempt(claim["job_id"])
    run = study.until("run", "completed")
    assert study.executed("run") == list(range(1, steps + 1)), "a step was lost, or executed twice"
    assert {other["job_id"] for other in study.claims("run")} == {claim["job_id"]}, "another job id"
    assert run["attempts"] == 2
    assert run["replayed_steps"] == 0


def test_preempted_more_often_than_slurm_requeues_a_job(study: Study, lab, fault):
    """From the fifth requeue on Slurm holds a job for good (REQUEUE_HOLD): another one takes its place."""
    for generation in range(1, 6):
        study.gate("run", 150 * generation, generation=generation)
    study.submit("run", "--steps", "2000")
    for generation in range(1, 6):
        lab.preempt(study.halt("run", 150 * generation, generation=generation)["job_id"])
        while len(study.claims("run")) == generation:
            study.run("run")
            time.sleep(0.2)
    run = study.until("run", "completed")
    assert study.executed("run") == list(range(1, 2001))
    assert len({claim["job_id"] for claim in study.claims("run")}) == 2
    assert run["attempts"] == 6
    fault("preempted_often", study, times=5)


def test_killed_three_times_each_after_a_new_checkpoint(study: Study, lab, undisturbed, fault):
    kills = ((1, 310), (2, 580), (3, 760))
    for generation, step in kills:
        study.gate("run", step, generation=generation)
    study.submit("run")
    for generation, step in kills:
        kill_worker(study.halt("run", step, generation=generation))
        study.until("run", "queued", "running", "interrupted")
        while len(study.claims("run")) == generation:  # a pass, and a back-off from the second death on
            study.run("run")
            time.sleep(0.2)
    run = study.until("run", "completed")

    assert study.weights("run") == undisturbed
    assert run["attempts"] == 4
    assert run["executed_steps"] == len(study.executed("run")) == 1000 + run["replayed_steps"]
    resumed = [line["resumed_from"] for line in study.journal("run") if line["kind"] == "start"]
    newest = [None]
    for line in study.journal("run"):
        newest[-1] = line["name"] if line["kind"] == "checkpoint" else newest[-1]
        newest += newest[-1:] if line["kind"] == "start" else []
    assert resumed == newest[:-1], "each goes on from the newest"
    fault("killed", study, times=3, same_bits=True)


def test_killed_three_times_without_a_new_checkpoint_is_held_and_says_why(study: Study, lab, fault):
    for generation in (1, 2, 3):
        study.gate("run", 20, generation=generation)
    study.submit("run", "--checkpoint-every", "1000")
    for generation in (1, 2, 3):
        kill_worker(study.halt("run", 20, generation=generation))
        deadline = time.monotonic() + 600
        while study.run("run")["attempts"] == generation and len(study.claims("run")) == generation:
            if study.run("run")["state"] == "held":
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
    run = study.until("run", "held")
    assert run["cause"] == "killed"
    assert "3 times in a row without a new checkpoint" in run["reason"]
    assert "3 times in a row" in study.type("status")
    fault("no_progress", study, times=3)

    assert "resumed by the user" in study.type("resume", "run")
    study.until("run", "completed")


def test_the_time_limit_ends_it_twice(study: Study, lab, undisturbed, fault):
    """One minute is the shortest limit. A run this small would be done by then: it is held up until Slurm's signal.

    Twice at least: on a busy machine what is left after the second limit may need a third.
    """
    for generation in (1, 2):
        study.gate("run", 20 * generation, generation=generation)
    study.submit("run", "--time-limit", "1m")
    for generation in (1, 2):
        study.halt("run", 20 * generation, generation=generation)
        while len(study.claims("run")) == generation:  # a pass, where the worker could not requeue itself in time
            study.run("run")
            time.sleep(0.2)
    run = study.until("run", "completed")
    leaves = [line["cause"] for line in study.journal("run") if line["kind"] == "leave"]
    assert len(leaves) >= 2
    assert set(leaves) == {"timeout"}
    assert study.weights("run") == undisturbed
    assert study.executed("run") == list(range(1, 1001))
    assert run["attempts"] == len(leaves) + 1
    fault("time_limit", study, times=len(leaves), same_bits=True)


def published(study, generation):
    """The checkpoints of that generation that are there."""
    return {path.name for path in RunLayout(study.files("run")).steps.glob(f"{generation:06d}-*")}


def test_an_orphan_of_a_failed_node_cannot_publish(study: Study, lab, undisturbed, fault):
    study.gate("run", 260)
    study.gate("run", 280, generation=2)
    study.submit("run")
    claim = study.halt("run", 260)
    orphan = psutil.Process(claim["pid"])
    orphan.suspend()
    before = published(study, 1)
    node = lab.run("squeue", "-h", "-j", claim["job_id"], "-o", "%N").strip()
    lab.fail(node)
    study.run("run")
    study.halt("run", 280, generation=2)
    study.open_gates("run", 260)
    orphan.resume()
    orphan.wait(600)
    study.open_gates("run")
    run = study.until("run", "completed")

    assert study.weights("run") == undisturbed
    assert published(study, 1) <= before, "the orphan published after its node was given up"
    assert any(line["kind"] == "leave" and line["cause"] == "superseded" for line in study.journal("run"))
    assert run["cause"] == "completed"
    assert study.run("run")["executed_steps"] == 1000 + study.run("run")["replayed_steps"]
    fault("node_fail", study, same_bits=True)


def test_a_finished_job_that_slurm_runs_again_spends_nothing(
    study: Study, lab_for, lab_configs, undisturbed, tmp_path, fault
):
    """A job killed at the end of its grace keeps the flag: its next run is requeued once more however it ends."""
    lab = lab_for(lab_configs["requeue"])
    study.keep_requeueable(tmp_path / "bin")
    study.gate("run", 300)
    study.submit("run")
    claim = study.halt("run", 300)
    worker = psutil.Process(claim["pid"])
    lab.run("scontrol", "update", "partitionname=low", "gracetime=10")
    try:
        lab.preempt(claim["job_id"])
        with suppress(ProcessLookupError):
            while True:  # it cannot leave within its grace; Slurm's SIGCONT would wake it
                os.kill(worker.pid, signal.SIGSTOP)
                time.sleep(0.001)
    finally:
        lab.run("scontrol", "update", "partitionname=low", f"gracetime={lab.config.grace}")
    run = study.until("run", "completed")
    deadline = time.monotonic() + 600
    while (state := lab.run("squeue", "-h", "-j", claim["job_id"], "-o", "%T").strip()) in ("RUNNING", "COMPLETING"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    if state != "PENDING":  # Slurm's own phantom rerun, as a rule
        lab.run("scontrol", "requeue", claim["job_id"])
    log = next(study.root.glob("logs/run/*.out"))
    while "done already" not in log.read_text():
        assert time.monotonic() < deadline + 30, log.read_text()
        time.sleep(0.2)

    assert study.weights("run") == undisturbed
    assert len(study.claims("run")) == 2, "the rerun claimed a generation"
    assert study.run("run")["executed_steps"] == run["executed_steps"]
    fault("phantom", study, same_bits=True)


def test_scancel_is_final(study: Study, lab):
    study.gate("run", 50)
    study.submit("run")
    claim = study.halt("run", 50)
    lab.run("scancel", claim["job_id"])
    run = study.until("run", "cancelled")
    assert run["cause"] == "cancelled"
    until(lambda: not lab.run("squeue", "-h", "-o", "%i").strip())
    for _ in range(3):
        assert study.run("run")["state"] == "cancelled"
    assert lab.run("squeue", "-h", "-o", "%i").strip() == "", "a pass submitted it again"
    assert len(study.claims("run")) == 1


def left(study):
    """Return the reasons for which workers left, by their own journals."""
    return [line["cause"] for line in study.journal("run") if line["kind"] == "leave"]


def attempts(study):
    """Return each attempt's end and its evidence, by the ledger."""
    with closing(sqlite3.connect(study.root / "runs.db")) as ledger:
        return ledger.execute("SELECT cause, evidence FROM attempts ORDER BY id").fetchall()


@pytest.mark.parametrize("kind", ["requeue", "no_accounting"])
def test_scancel_is_final_when_the_worker_cannot_ask_slurm(kind, study: Study, lab_for, lab_configs, tmp_path):
    lab = lab_for(lab_configs[kind])
    study.mute_scontrol(tmp_path / "bin")
    study.gate("run", 50)
    study.submit("run")
    lab.run("scancel", study.halt("run", 50)["job_id"])
    until(lambda: left(study))
    run = study.until("run", "cancelled", "completed")
    assert (run["state"], run["cause"]) == ("cancelled", "cancelled")
    assert left(study) == ["unknown"]
    until(lambda: not lab.run("squeue", "-h", "-o", "%i").strip())
    assert study.run("run")["state"] == "cancelled", "a later update resubmitted it"
    assert lab.run("squeue", "-h", "-o", "%i").strip() == ""
    assert len(study.claims("run")) == 1


@pytest.mark.parametrize("kind", ["requeue", "no_accounting", "cancel"])
def test_a_preempted_run_resumes_when_the_worker_cannot_ask_slurm(
    kind, study: Study, lab_for, lab_configs, undisturbed, tmp_path
):
    lab = lab_for(lab_configs[kind])
    study.mute_scontrol(tmp_path / "bin")
    study.gate("run", 300)
    study.submit("run")
    lab.preempt(study.halt("run", 300)["job_id"])
    run = study.until("run", "completed", "cancelled")
    assert run["state"] == "completed", run["reason"]
    assert left(study) == ["unknown"]
    (cause, evidence), (last, _) = attempts(study)
    assert (cause, last) == ("preempted", "completed")
    if kind == "cancel":  # elsewhere the job may be in the queue again before a pass sees its end
        assert "job PREEMPTED" in evidence
        assert "could not ask Slurm for the reason" in evidence
    assert study.weights("run") == undisturbed
    assert study.executed("run") == list(range(1, 1001))
    assert run["attempts"] == 2
    is_new_job = len({other["job_id"] for other in study.claims("run")}) == 2
    assert is_new_job == (kind == "cancel"), "a site that requeues keeps the job"


def test_cancel_ends_it_for_good(study: Study, lab):
    study.gate("run", 50)
    study.submit("run")
    study.halt("run", 50)
    study.type("cancel", "run")
    until(lambda: not lab.run("squeue", "-h", "-o", "%i").strip())
    assert study.run("run")["state"] == "cancelled"
    assert len(study.claims("run")) == 1


def test_without_accounting_a_killed_run_goes_on_too(study: Study, lab_for, lab_configs, undisturbed, fault):
    lab_for(lab_configs["no_accounting"])
    study.gate("run", 310)
    study.submit("run")
    kill_worker(study.halt("run", 310))
    study.until("run", "completed")
    assert study.weights("run") == undisturbed
    fault("accounting_off", study, same_bits=True)


def test_the_hold_after_a_requeue_is_lifted(study: Study, lab_for):
    lab = lab_for(LabConfig(accounting=False, hold=1200, message_timeout=60))
    study.gate("run", 300)
    study.submit("run")
    lab.preempt(study.halt("run", 300)["job_id"])
    started = time.monotonic()
    while len(study.claims("run")) < 2:
        study.run("run")
        assert time.monotonic() - started < 900, "Slurm's own hold"
        time.sleep(0.5)
    study.until("run", "completed")
