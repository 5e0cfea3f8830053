"""A training function on two nodes of a real Slurm: it loses a rank, an agent and the worker, and trains again."""

import json
import os
import shutil
import signal
from contextlib import suppress

import psutil
import pytest
from driving import TESTS, Study, until

from lvjobs.lab import LabConfig

pytestmark = [pytest.mark.slurm, pytest.mark.heavy]

STEPS, EVERY = 40, 5


@pytest.fixture
def two_nodes(lab_for):
    return lab_for(LabConfig(accounting=True, hold=6, grace=10, kill_wait=5, message_timeout=60, nodes=2))


@pytest.fixture
def study(tmp_path, two_nodes):
    def make(processes=1, **environment):
        resources = f"nodes = 2\nprocesses = {processes}"
        study = Study(tmp_path / "study", resources=resources, environment=environment)
        text = (study.root / "study.toml").read_text()
        before, _, after = text.partition("[train]\n")
        values = {"task": "team_task:priced", "dropout": 0.2, "steps": STEPS, "checkpoint_every": EVERY}
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        (study.root / "study.toml").write_text("\n".join([before, "[train]", *lines, after[after.index("[driver]") :]]))
        shutil.copy(TESTS / "unit" / "team_task.py", study.root)
        return study

    return make


def weights(study, name):
    return (study.files(name) / "final" / "model" / "model.pt").read_bytes()


def processes(study, name, words):
    """The processes of a run whose command has these words, and their places among the nodes."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            command = process.cmdline()
            if words in command and str(study.files(name)) in command[-1] and "srun" not in command[0]:
                found[process.environ()["SLURM_NODEID"]] = process
    return found


def follower(study, name):
    return until(lambda: processes(study, name, "lvjobs.worker.follower").get("1"))


def begins_again(study, generation, step):
    """Make passes until the run trains in this generation, and wait for its gate; return its claim."""
    until(lambda: study.run("run") and len(study.claims("run")) >= generation)
    return study.halt("run", step, generation=generation)


def test_a_run_on_two_nodes_loses_a_rank_an_agent_and_the_worker(study):
    study = study()
    study.submit("whole")
    study.until("whole", "completed")
    assert study.journal("whole")[-1]["kind"] == "done"

    for generation, step in ((1, 7), (2, 15), (3, 25)):
        study.gate("run", step, generation=generation)
    study.submit("run")
    study.halt("run", 7)
    follower(study, "run").kill()
    begins_again(study, 2, 15)
    assert {"rank": 1, "status": -signal.SIGKILL}.items() <= study.journal("run", 1)[-1].items()
    assert study.run("run")["cause"] == "killed"

    processes(study, "run", "lvjobs.worker")["1"].kill()
    claim = begins_again(study, 3, 25)
    assert study.run("run")["cause"] == "killed"
    assert len(processes(study, "run", "lvjobs.worker.follower")) == 1, "that of the killed agent has ended"

    os.kill(claim["pid"], signal.SIGKILL)
    run = study.until("run", "completed")
    assert weights(study, "run") == weights(study, "whole")
    assert run["attempts"] == len(study.claims("run")) == 4
    assert run["executed_steps"] == STEPS + run["replayed_steps"]
    assert not [line for line in study.journal("run") if line["kind"] in ("error", "other_processes")]
    until(lambda: not processes(study, "run", "lvjobs.worker.follower"))


def test_an_exception_on_the_other_node_holds_the_run_until_it_is_resumed(study):
    """With two processes on each node, of which the last one fails."""
    study = study(processes=2, TEAM_FAIL="3:7")
    study.submit("run")
    run = study.until("run", "held")
    assert run["cause"] == "code_error"
    assert "ZeroDivisionError: the follower broke (process 3 on node n2)" in run["reason"]
    del study.environment["TEAM_FAIL"]
    study.type("resume", "run")
    run = study.until("run", "completed")
    assert run["attempts"] == 2
    assert [line["processes"] for line in study.journal("run") if line["kind"] == "start"] == [4, 4]
    assert run["executed_steps"] == STEPS + run["replayed_steps"]
    until(lambda: not processes(study, "run", "lvjobs.worker.follower"))
