"""The resources that a study's executions held, by real Slurm's accounting, and their report."""

import time

import pytest
from control_builders import efficiency_of
from driving import Study, kill_worker, until

from lvjobs.ledger.database import open_ledger

pytestmark = pytest.mark.slurm

LOADS_FOR = 2
"""Seconds. Slurm counts in whole ones, so it may lose one of what an attempt did beside training."""


def efficiency(study):
    ledger = open_ledger(study.root / "runs.db", 10**6)
    with ledger.transaction() as transaction:
        runs = transaction.runs()
        attempts = {run.id: transaction.attempts([run.id]) for run in runs}
    ledger.close()
    return attempts[runs[0].id], efficiency_of(runs, attempts, time.time())


def test_a_run_that_was_preempted_and_killed(tmp_path, lab):
    study = Study(tmp_path, resources="gpus = 2")
    path = study.root / "study.toml"
    path.write_text(path.read_text().replace("[train]\n", f"[train]\nloads_for = {LOADS_FOR}\n"))
    study.gate("run", 300)
    study.gate("run", 620, generation=2)
    study.submit("run")
    lab.preempt(study.halt("run", 300)["job_id"])
    claim = study.halt("run", 620, generation=2)
    kill_worker(claim)
    until(lambda: "FAILED" in lab.run("sacct", "-n", "-X", "-o", "State", "-j", claim["job_id"]), 600)  # late, as ever
    study.until("run", "completed")
    attempts, found = efficiency(study)
    for attempt in attempts[:-1]:  # the last one's row may have been too late: the run was done
        assert attempt.gpus == 2
        assert attempt.allocated_seconds > attempt.train_seconds + attempt.validation_seconds > 0
    share = found.total
    assert (share.attempts, share.estimated) == (3, sum(attempt.allocated_seconds is None for attempt in attempts))
    assert share.estimated <= 1
    assert share.allocated_gpu == 2 * share.allocated
    assert 0 < share.useful < sum(attempt.train_seconds for attempt in attempts)
    assert 0 < share.ettr < share.goodput < share.used_gpu / share.allocated_gpu < 1
    [advice] = found.advice
    assert (advice.checkpoint_every, advice.deaths) == (250, 1)  # the preempted one had its last word
    assert 0 < advice.least_cost <= advice.cost
