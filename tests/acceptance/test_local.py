"""Without Slurm: the embedded local cluster, the command killed half-way, the machine rebooted."""

import json
import os
import signal
import time
from contextlib import suppress

import psutil
import pytest
from driving import Study


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("undisturbed"), profile="local")
    study.submit("run", "--wait")
    return study.weights("run")


@pytest.fixture
def study(tmp_path):
    made = Study(tmp_path, profile="local")
    yield made
    kill_all_of(made)


def processes_of(study):
    """Every process that works for this study: wrappers and workers alike."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(study.root) in word for word in process.info["cmdline"] or ())
    ]


def kill_all_of(study):
    for process in processes_of(study):
        with suppress(psutil.NoSuchProcess):  # one takes others along
            process.kill()


def test_the_waiting_command_is_killed_and_typed_again(study, undisturbed):
    study.gate("run", 300)
    waiting = study.start("submit", "run", "--name", "run", "--wait")
    with study.held_up("run", 300):
        waiting.send_signal(signal.SIGKILL)
        waiting.communicate()
        assert waiting.returncode == -signal.SIGKILL
    said = study.submit("run", "--wait")
    assert "already exists" in said
    assert study.weights("run") == undisturbed
    assert study.executed("run") == list(range(1, 1001)), "the job did not notice"


def test_a_reboot(study, undisturbed):
    study.gate("run", 300)
    study.submit("run")
    study.halt("run", 300)
    kill_all_of(study)
    deadline = time.monotonic() + 120
    while processes_of(study):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    said = study.type("resume")
    assert "node_fail" in said
    assert "submitted as job" in said
    run = study.until("run", "completed")
    assert study.weights("run") == undisturbed
    assert run["attempts"] == 2
    assert run["executed_steps"] == 1000 + run["replayed_steps"]


def test_a_killed_worker_is_not_a_reboot(study, undisturbed):
    study.gate("run", 300)
    study.submit("run")
    claim = study.halt("run", 300)
    os.kill(claim["pid"], signal.SIGKILL)
    run = study.until("run", "completed")
    story = study.type("status", "--json")
    assert json.loads(story)["runs"][0]["attempts"] == 2
    assert run["replayed_steps"] <= 250
    assert study.weights("run") == undisturbed


def test_a_sigterm_leaves_at_a_step_and_replays_nothing(study, undisturbed):
    study.gate("run", 300)
    study.submit("run")
    claim = study.halt("run", 300)
    os.kill(claim["pid"], signal.SIGTERM)
    run = study.until("run", "completed")
    assert run["replayed_steps"] == 0
    assert study.executed("run") == list(range(1, 1001))
    assert study.weights("run") == undisturbed


def test_a_held_run_is_resumed_with_the_settings_that_study_toml_has_now(study, undisturbed):
    task, settings = study.root / "toy_task.py", study.root / "study.toml"
    good = task.read_text()
    task.write_text(good.replace("    order, position = [], 0\n", "    raise RuntimeError('to be fixed')\n"))
    study.submit("run")
    study.until("run", "held")
    task.write_text(good)
    settings.write_text(settings.read_text().replace("checkpoint_every = 250", "checkpoint_every = 100"))
    assert "unknown key" in study.type("resume", "run", "--set", "resources.gpu=1", code=2)
    assert "what the run trains" in study.type("resume", "run", "--set", "width=5", code=2)
    said = study.type("resume", "run", "--time-limit", "3h", "--set", "resources.cpus=2")
    assert "checkpoint_every 250 -> 100" in said
    assert "time_limit_minutes unset -> 180" in said
    assert "cpus unset -> 2" in said
    assert study.until("run", "completed")["attempts"] == 2
    assert study.weights("run") == undisturbed
    assert [line["checkpoint_every"] for line in study.journal("run") if line["kind"] == "start"] == [250, 100]
    validated = [line["step"] for line in study.journal("run", 2) if line["kind"] == "validation"]
    assert validated == [250, 500, 750, 1000], "as it was declared"
    assert "already exists" in study.submit("run"), "with another interval it is the same run"
    study.type("ledger", "check")


def test_cancel_stops_the_worker(study):
    study.submit("run", "--steps", "100000")
    study.reach("run", 20)
    study.type("cancel", "run")
    deadline = time.monotonic() + 180
    while processes_of(study):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run = study.run("run")
    assert (run["state"], run["cause"]) == ("cancelled", "cancelled")


def test_the_budget_counts_what_ran(study):
    study.submit("run", "--wait")
    budget = json.loads(study.type("budget", "--json"))
    run = study.run("run")
    assert budget["useful"] > 0
    assert budget["validation"] > 0
    assert budget["replayed"] == 0
    assert budget["spent"] == budget["useful"] + budget["replayed"] + budget["validation"] == run["flops"]
    assert budget["by_stage"] == {"run": budget["spent"]}
