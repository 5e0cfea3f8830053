"""Rarer deaths, and commands that end in the midst of their work: while it loads, for want of memory, with a terminal."""

import os
import shutil
import signal
import stat
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest
from driving import SHORT, Study, until

pytestmark = pytest.mark.slurm


def queued(lab):
    """Id and name of each job in the queue."""
    return [line.split() for line in lab.run("squeue", "-h", "-r", "-o", "%i %j").splitlines()]


def set_policy(study, **bounds):
    """The study's policy from now on; nothing given: as it was."""
    path = study.root / "study.toml"
    text = path.read_text().partition("\n# changed by the test\n")[0]
    lines = [f"{key} = {value}" for key, value in bounds.items()]
    path.write_text("\n".join([text, "# changed by the test", *lines, ""]))


# -- workers ------------------------------------------------------------------------------------------------------


def test_preempted_while_the_model_loads(forecasting: Study, lab, undisturbed_forecaster, fault):
    """The worker waits once it has claimed the run, until Slurm's signal arrives; then it loads all the same."""
    study = forecasting
    study.gate("run", 0)
    study.submit("run", *SHORT)
    lab.preempt(study.halt("run", 0)["job_id"])
    run = study.until("run", "completed")

    first = next(line for line in study.journal("run") if line["kind"] in ("signal", "leave"))
    assert (first["kind"], first["step"]) == ("signal", 0)
    assert study.executed("run") == list(range(1, 241))
    assert run["attempts"] == 2
    assert study.weights("run") == undisturbed_forecaster
    fault("preempted_loading", study, same_bits=True)


def test_a_worker_that_shows_no_life_is_cancelled_and_goes_on(study: Study, lab, undisturbed, fault):
    study.gate("run", 300)
    study.submit("run")
    worker = psutil.Process(study.halt("run", 300)["pid"])
    worker.suspend()
    set_policy(study, hung_seconds=3)
    run = until(lambda: (row := study.run("run"))["cause"] and row)
    set_policy(study)  # a busy machine is silent for as long while it starts the next one
    study.until("run", "completed")

    assert run["cause"] == "hung"
    assert len(study.claims("run")) == 2
    assert study.weights("run") == undisturbed
    with suppress(psutil.TimeoutExpired):
        worker.wait(600)
    assert not worker.is_running()
    fault("hung", study, same_bits=True)


@pytest.fixture
def strict(lab_for, lab_configs):
    """A cluster that ends jobs which use more memory than they asked for."""
    words = ("JobAcctGatherParams=OverMemoryKill", "JobAcctGatherFrequency=task=1")
    return lab_for(replace(lab_configs["no_accounting"], extra=words))


def test_out_of_memory_is_answered_with_more_of_it(study: Study, strict, undisturbed, fault):
    set_policy(study, out_of_memory_factor=20)
    study.gate("run", 300)  # Slurm looks once a second, at times before the worker has claimed its first generation
    study.submit("run", "--memory-mb", "30")  # a worker takes 50
    until(lambda: study.run("run")["cause"])
    study.open_gates("run")
    run = study.until("run", "completed", "held")
    assert (run["state"], run["attempts"]) == ("completed", 2), run["reason"]
    assert study.weights("run") == undisturbed
    fault("out_of_memory", study, same_bits=True)


def test_out_of_memory_for_the_third_time_is_held(study: Study, strict, fault):
    for generation in (1, 2, 3):
        study.gate("run", 300, generation=generation)
    study.submit("run", "--memory-mb", "16")
    run = study.until("run", "held")
    assert run["cause"] == "out_of_memory"
    asked = {line.partition("=")[2].strip("M") for line in all_scripts(study) if line.startswith("#SBATCH --mem=")}
    assert asked == {"16", "24", "36"}
    fault("out_of_memory", study, times=3)


def all_scripts(study):
    """The lines of all the batch scripts that were submitted."""
    for path in (study.root / ".lvjobs" / "submissions").glob("*/*.sh"):
        yield from path.read_text().splitlines()


# -- commands -----------------------------------------------------------------------------------------------------


def type_in_a_terminal(study, *words):
    """The command as the leader of a group of its own."""
    return study.start(*words, start_new_session=True)


def test_a_terminal_that_goes_away_takes_no_run_along(study: Study, lab, undisturbed, fault):
    study.gate("run", 100)
    command = type_in_a_terminal(study, "submit", "run", "--name", "run", "--wait")
    with study.held_up("run", 100) as claim:
        os.killpg(command.pid, signal.SIGHUP)
        command.communicate(timeout=600)
        assert command.returncode == -signal.SIGHUP
    run = study.until("run", "completed")

    assert [other["job_id"] for other in study.claims("run")] == [claim["job_id"]]
    assert study.executed("run") == list(range(1, 1001))
    assert run["attempts"] == 1
    assert study.weights("run") == undisturbed
    fault("gone", study, same_bits=True)


@pytest.mark.parametrize(("number", "key"), [(signal.SIGHUP, "gone"), (signal.SIGINT, "interrupted")])
def test_a_command_that_is_ended_while_sbatch_is_at_work(study: Study, lab, tmp_path, fault, number, key):
    """As a terminal does it: all of its foreground is signalled. sbatch may live on, and tells nobody of its job."""
    directory = tmp_path / "bin"
    directory.mkdir()
    script = directory / "sbatch"
    wait = f"while [ ! -s {directory}/victim ]; do sleep 0.1; done"
    kill = f"kill -{number.name.removeprefix('SIG')} -$(cat {directory}/victim)"
    script.write_text(f'#!/bin/sh\n{wait}\n{kill}\nsleep 1\nexec "{shutil.which("sbatch")}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    kept = dict(study.environment)
    study.prepend_path(directory)
    victim = type_in_a_terminal(study, "submit", "run", "--name", "run", "--steps", "30")
    (directory / "victim").write_text(str(victim.pid))
    out, err = victim.communicate(timeout=300)
    assert victim.returncode == (130 if number is signal.SIGINT else -number), out + err
    assert "Traceback" not in err
    study.environment = kept

    study.until("run", "completed")
    assert study.executed("run") == list(range(1, 31)), "trained exactly once"
    assert len(study.claims("run")) == 1
    fault(key, study)


def test_ten_commands_at_once(study: Study, lab, fault):
    lab.run("scontrol", "update", "partitionname=low", "state=down")  # jobs are taken, and wait
    try:
        study.submit("other", "--steps", "30")
        submit = ["submit", "run", "--steps", "30"]
        typed = [[*submit, "--name", "run"]] * 4 + [[*submit, "--name", "third", "--seed", "1"]]
        typed += [words.split() for words in ("status", "resume", "budget", "queue", "cancel other")]
        for command, words in [(study.start(*words), words) for words in typed]:
            out, err, code = study.outcome(command, *words)
            assert code == 0, out + err
            assert "Traceback" not in out + err
            assert "locked" not in out + err
        runs = study.runs()
        assert {name: run["state"] for name, run in runs.items()} == {
            "run": "queued",
            "other": "cancelled",
            "third": "queued",
        }
        until(lambda: len(queued(lab)) == 2)
        assert {job_id for job_id, _ in queued(lab)} == {runs["run"]["job_id"], runs["third"]["job_id"]}
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=up")
    for name in ("run", "third"):
        study.until(name, "completed")
        assert study.executed(name) == list(range(1, 31))
    fault("at_once", study)
