"""Faults of the scheduler while runs wait or train: it dies, forgets, says no. The run waits, and continues."""

import os
import pwd
import re
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest
from driving import Study, kill_worker, until, wait_until_saved

from lvjobs.cluster.profiles import load_profile
from lvjobs.lab import LabError

pytestmark = pytest.mark.slurm

USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def harsh(lab_for, lab_configs):
    """A cluster that requeues nothing by itself and soon forgets what ended; its accounting may be broken."""
    return lab_for(replace(lab_configs["requeue"], min_job_age=2, extra=("JobRequeue=0",)))


def passes_for(study, name, seconds):
    """Pass after pass, the last one begun so long after the first; every row of the run that was seen."""
    rows = [study.run(name)]
    deadline, is_last = time.monotonic() + seconds, False
    while not is_last:
        is_last = time.monotonic() > deadline
        rows.append(study.run(name))
    return rows


# -- the controller -----------------------------------------------------------------------------------------------


def test_the_controller_is_killed_and_started_again_while_a_run_trains(study: Study, impatient, undisturbed, fault):
    lab = impatient
    study.gate("run", 100, 400)
    study.submit("run")
    with study.held_up("run", 100) as claim:
        wait_until_saved(lab, claim["job_id"])
        shown = until(lambda: (row := study.run("run"))["state"] == "running" and row)
        lab.kill_controller()
    with study.held_up("run", 400):
        silent = study.run("run")
        said = study.type("status")
        lab.start_controller()
    run = study.until("run", "completed")

    known = ("state", "job_id", "attempts", "cause")
    assert [silent[key] for key in known] == [shown[key] for key in known] == ["running", claim["job_id"], 1, None]
    assert "squeue: " in said
    assert study.executed("run") == list(range(1, 1001))
    assert run["attempts"] == 1
    assert study.weights("run") == undisturbed
    fault("controller_restarted", study, same_bits=True)


def test_a_controller_that_lost_its_state_begins_anew_with_job_1(study: Study, harsh, undisturbed, fault):
    study.gate("run", 300)
    study.submit("run")
    with study.held_up("run", 300) as claim:
        worker = psutil.Process(claim["pid"])
        worker.suspend()
        harsh.kill_controller()
        shutil.rmtree(harsh.layout.state)
        harsh.layout.state.mkdir()
        harsh.start_controller()
        assert claim["job_id"] not in harsh.run("squeue", "-h", "-a", "-o", "%i").split()
        study.until("run", "interrupted", "queued")
    with suppress(psutil.NoSuchProcess):  # a node whose job nobody knows ends it, as a rule
        worker.resume()
        worker.wait(600)
    run = study.until("run", "completed")

    story = study.type("status", "run", "--no-pass")
    first, second, *_ = (int(number) for number in re.findall(r"submitted as job (\d+)", story))
    assert second <= first, f"the controller did not begin anew\n{story}"
    # The old job's node may end the new one with the old one's number before its worker begins: then there is a third.
    assert study.claims("run")[-1]["job_id"] == run["job_id"]
    seen = [line for line in study.journal("run") if line["kind"] == "step"]
    assert run["executed_steps"] == len(seen) == 1000 + run["replayed_steps"], story
    assert study.weights("run") == undisturbed
    fault("state_lost", study, same_bits=True)


def test_what_slurm_forgot_while_nobody_looked_goes_on(study: Study, lab_for, lab_configs, undisturbed, fault):
    lab = lab_for(replace(lab_configs["no_accounting"], min_job_age=2))
    study.gate("run", 300)
    study.submit("run")
    kill_worker(study.halt("run", 300))
    until(lambda: not lab.run("squeue", "-h", "-a", "-t", "all", "-o", "%i").strip())
    run = study.until("run", "completed")

    assert run["attempts"] == 2
    assert study.weights("run") == undisturbed
    fault("forgetful", study, same_bits=True)


def test_nothing_is_concluded_while_accounting_is_dead(study: Study, harsh, undisturbed, fault):
    """The job is in the queue no more: how it ended, and that it ended at all, is for accounting to say."""
    study.gate("run", 300)
    study.submit("run")
    claim = study.halt("run", 300)
    os.kill(harsh.status().daemons["slurmdbd"], signal.SIGKILL)
    kill_worker(claim)
    until(lambda: not harsh.run("squeue", "-h", "-a", "-t", "all", "-o", "%i").strip())
    for row in passes_for(study, "run", seconds=6):  # a job that is nowhere for 5 s is lost
        assert (row["attempts"], row["cause"], row["job_id"]) == (1, None, claim["job_id"])
    said = study.type("status")
    assert "sacct: " in said
    harsh.up()
    run = study.until("run", "completed")

    assert run["attempts"] == 2
    assert study.weights("run") == undisturbed
    fault("accounting_dead", study, same_bits=True)


# -- sites that requeue nothing -----------------------------------------------------------------------------------


def test_preempted_where_the_site_requeues_nothing(study: Study, harsh, undisturbed, fault):
    study.gate("run", 300)
    study.submit("run")
    harsh.preempt(study.halt("run", 300)["job_id"])
    run = study.until("run", "completed")
    assert study.executed("run") == list(range(1, 1001))
    assert run["attempts"] == 2
    assert study.weights("run") == undisturbed
    fault("no_requeue_site", study, same_bits=True)


def test_preempted_as_a_job_that_is_not_to_be_requeued(study: Study, lab, undisturbed, fault):
    path = study.root / "study.toml"
    path.write_text(path.read_text().replace('profile = "lab"', 'profile = "./mine.sh.j2"'))
    (study.root / "mine.sh.j2").write_text(load_profile("lab").source.replace("--requeue", "--no-requeue"))
    study.gate("run", 300)
    study.submit("run")
    lab.preempt(study.halt("run", 300)["job_id"])
    run = study.until("run", "completed")
    assert len({claim["job_id"] for claim in study.claims("run")}) == 2, "Slurm requeued it all the same"
    assert study.executed("run") == list(range(1, 1001))
    assert run["attempts"] == 2
    assert study.weights("run") == undisturbed
    fault("no_requeue_job", study, same_bits=True)


# -- the site says: not now ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["DOWN", "DRAIN"])
def test_a_partition_that_takes_no_jobs_is_waited_for(study: Study, lab, undisturbed, fault, state):
    study.gate("run", 300)
    study.submit("run")
    claim = study.halt("run", 300)
    lab.run("scontrol", "update", "partitionname=low", f"state={state}")
    try:
        kill_worker(claim)
        until(lambda: study.run("run")["cause"] == "killed")
        run = until(lambda: (row := study.run("run"))["reason"] and row)
        said = study.type("status", "--no-pass")
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=UP")
    assert run["state"] == "interrupted"
    assert run["reason"] in said
    study.until("run", "completed")

    assert len(study.claims("run")) == 2
    assert study.weights("run") == undisturbed
    fault("drained", study, saw=run["reason"], same_bits=True)


@pytest.fixture
def maintenance(lab):
    """Begins a maintenance on every node; returns what ends it."""
    begun = []

    def end():
        if begun:
            lab.run("scontrol", "delete", f"reservationname={begun.pop()}")

    def begin():
        words = "reservationname=upkeep starttime=now duration=60 flags=maint,ignore_jobs nodes=ALL user=root"
        lab.run("scontrol", "create", "reservation", *words.split())
        begun.append("upkeep")
        return end

    yield begin
    end()


def test_a_maintenance_is_waited_for(study: Study, lab, maintenance, undisturbed, fault):
    end = maintenance()
    study.submit("run")
    run = until(lambda: "maintenance" in (row := study.run("run"))["reason"] and row)
    said = study.type("status", "--no-pass")
    assert (run["state"], run["attempts"]) == ("queued", 0)
    end()
    study.until("run", "completed")

    assert run["reason"] in said
    assert study.executed("run") == list(range(1, 1001))
    assert study.weights("run") == undisturbed
    fault("reservation", study, saw=run["reason"], same_bits=True)


@pytest.fixture
def membership(harsh):
    """Takes the user out of the usual account, leaving another, or puts the user back; returns once it is in force."""

    back = (f"add user {USER} account=lab", f"modify user {USER} set defaultaccount=lab")
    out = (
        "add account other cluster=lab",
        f"add user {USER} account=other",
        f"modify user {USER} set defaultaccount=other",
        f"delete user {USER} account=lab",
    )

    def is_member():
        with suppress(LabError):
            harsh.run("sbatch", "--test-only", "--account=lab", "--wrap=true")
            return True
        return False

    def take(is_there):
        def is_done():
            for words in back if is_there else out:
                with suppress(LabError):  # nothing to do, or the job's end is not in the database yet
                    harsh.run("sacctmgr", "-iQ", *words.split())
            return is_member() == is_there

        until(is_done)

    yield take
    take(is_there=True)


def test_an_account_that_expired_holds_the_run_until_it_is_given_back(
    study: Study, harsh, membership, undisturbed, fault
):
    study.gate("run", 300)
    study.submit("run", "--account", "lab")
    kill_worker(study.halt("run", 300))
    until(lambda: not harsh.run("squeue", "-h", "-a", "-o", "%i").strip())
    membership(is_there=False)
    run = until(lambda: (row := study.run("run"))["cause"] and row)
    again = study.run("run")
    assert run["state"] == "held"
    assert "Invalid account" in run["reason"]
    assert again["reason"] == run["reason"]
    membership(is_there=True)
    assert "resumed by the user" in study.type("resume", "run")
    study.until("run", "completed")

    assert len(study.claims("run")) == 2
    assert study.weights("run") == undisturbed
    fault("account_expired", study, saw=run["reason"], same_bits=True)
