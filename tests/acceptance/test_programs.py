"""Programs that know nothing of lvjobs, through the command line: trained, killed once, resumed, and compared."""

import json
import os
import random
import signal

import pytest
from driving import until
from program_studies import (
    SUBJECTS,
    TOLERANCE,
    Alone,
    ProgramStudy,
    are_equal,
    beside_python,
    end_all,
    is_stopped_before_its_end,
    kill,
    put_files,
    signal_all,
    tree,
    wait_a_moment,
    wait_for_a_checkpoint,
    wait_into_a_save,
)

from lvjobs.worker.program.process import Program, Start, environment_of

pytestmark = [pytest.mark.slow, pytest.mark.heavy, pytest.mark.torch]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        beside_python(patch)
        yield Alone(tmp_path_factory.mktemp("alone"))


@pytest.fixture
def make_study(tmp_path, monkeypatch):
    beside_python(monkeypatch)
    made = []

    def make(name, *stages, resources=None, **changes):
        made.append(ProgramStudy(tmp_path / f"{name}{len(made)}", SUBJECTS[name], stages, resources, **changes))
        return made[-1]

    yield make
    for study in made:
        end_all(study)


TRIES = 5
"""A machine that stalls lets a program of some seconds come to its end before its moment: then another one is started."""


def killed(make, *victims, inside_a_save=False, seed=0):
    """Submit a run, kill each of its attempts after its first checkpoint, and wait until it is completed.

    The moments are random, or inside a save. `make` makes the study, which is returned.
    """
    for number in range(TRIES):
        study, chance = make(), random.Random(seed + 100 * number)
        study.submit("run")
        if all(is_killed(study, *attempt, chance, inside_a_save) for attempt in enumerate(victims, start=1)):
            check_that_it_goes_on(study, victims)
            return study
        end_all(study)
    pytest.fail("each one ended before it could be killed")


def is_killed(study, generation, victim, chance, inside_a_save):
    """Kill an attempt after its first checkpoint; return False if it had come to its end."""
    until(lambda: study.run("run") and len(study.claims("run")) >= generation)
    wait_for_a_checkpoint(study, "run", generation)
    if inside_a_save and not wait_into_a_save(study, "run"):
        return False
    if not inside_a_save:
        wait_a_moment(chance, 0.4)
    if not is_stopped_before_its_end(study, "run"):
        return False
    kill(study, "run", victim)
    return True


def check_that_it_goes_on(study, victims):
    """Wait until the run is completed, by one attempt more than there were victims, each from a checkpoint."""
    run = study.until("run", "completed", "held")
    assert (run["state"], run["attempts"]) == ("completed", len(victims) + 1), study.story("run")
    begun = [line["resumed_from"] for line in study.journal("run") if line["kind"] == "start"]
    assert [bool(name) for name in begun] == [False, *(True for _ in victims)]
    study.type("ledger", "check")


@pytest.mark.parametrize(
    ("name", "victims", "seed"),
    [
        ("heat", ["worker"], 1),
        ("accelerated", ["program"], 2),
        pytest.param("snapshot", ["rank", "launcher", "program"], 3, id="torchrun"),
    ],
)
def test_a_killed_program_ends_bit_for_bit_as_an_undisturbed_one(make_study, alone, name, victims, seed):
    study = killed(lambda: make_study(name), *victims, seed=seed)
    assert are_equal(study.final("run"), alone.final(name))


@pytest.mark.parametrize(
    ("name", "victim"), [("trainer", "worker"), pytest.param("trl", "program", marks=pytest.mark.storm)]
)
def test_a_trainer_killed_inside_a_save_ends_bit_for_bit_as_an_undisturbed_one(make_study, alone, name, victim):
    study = killed(lambda: make_study(name), victim, inside_a_save=True)
    assert are_equal(study.final("run"), alone.final(name))


@pytest.mark.parametrize(
    ("name", "victim", "seed"), [("imagenet", "worker", 6), pytest.param("lit", "program", 7, marks=pytest.mark.storm)]
)
def test_a_killed_program_that_saves_no_random_state_completes(make_study, name, victim, seed):
    study = killed(lambda: make_study(name), victim, seed=seed)
    assert study.run("run")["step"] == study.train["steps"]
    assert study.final("run").exists()


def test_a_killed_program_that_repeats_its_first_batches_ends_with_nearly_the_same_loss(make_study, alone):
    """nanoGPT seeds its generator anew. Its last validation has 32 random pieces of text."""
    study = killed(lambda: make_study("nano"), "program", seed=8)
    losses = [line["loss"] for line in study.journal("run") if line["kind"] == "validation"]
    assert losses[-1] == pytest.approx(alone.validation_loss("nano"), rel=TOLERANCE)
    assert losses[0] > losses[-1] * (1 + 2 * TOLERANCE), "an untrained model is outside of the tolerance"


def test_a_trainer_under_accelerate_that_saves_at_sigterm_and_exits_with_0_is_resumed(make_study):
    """`accelerate launch` ends at once, and leaves the training behind, which saves."""
    command = ["accelerate", "launch", "--cpu", *SUBJECTS["trainer"].train["command"][1:], "--jit"]
    for _ in range(TRIES):
        study = make_study("trainer", command=command, stop="TERM", steps=200, checkpoint_every=80)
        study.submit("run")
        claim = study.reach("run", 5)
        if not is_stopped_before_its_end(study, "run") or max(study.executed("run")) >= 80:
            end_all(study)
            continue
        os.kill(claim["pid"], signal.SIGTERM)
        until(lambda: any(line["kind"] == "signal" for line in study.journal("run")))  # noqa: B023
        signal_all(tree(study.program("run")), signal.SIGCONT)
        run = study.until("run", "completed", "held")
        assert (run["state"], run["attempts"]) == ("completed", 2), study.story("run")
        assert [line["cause"] for line in study.journal("run", 1) if line["kind"] == "leave"] == ["preempted"]
        if any(step % 80 for step in study.saved("run", 1)[-1:]):
            break  # else it came to step 80 before the signal, where a checkpoint is due in any case
    else:
        pytest.fail(f"{TRIES} times it did not save between two checkpoints")
    assert study.executed("run", 2)[-1] == 200
    ended = json.loads((study.layout("run").final / "out/checkpoint-200/trainer_state.json").read_text())
    assert ended["global_step"] == 200


def test_a_program_that_exits_with_0_early_is_held_and_why_says_so(make_study):
    command = [*SUBJECTS["counter"].train["command"], "--exit-at=12:0"]
    study = make_study("counter", command=command)
    study.submit("run")
    study.until("run", "held")
    assert "exit code 0 after step 12 of 20" in study.type("why", "run")


RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


@pytest.mark.parametrize("resources", [{}, {"pack": 3, "side_by_side": 2}])
def test_nine_values_of_a_key_of_a_command_are_swept(make_study, alone, resources):
    study = make_study("counter", {"name": "nine", "grid": {"learning_rate": RATES}}, resources=resources)
    study.type("sweep", "nine", "--wait")
    results = [json.loads(study.final(name).read_text()) for name in sorted(study.runs())]
    assert results == [json.loads(alone.final("counter", learning_rate=rate).read_text()) for rate in RATES]
    assert study.stands() == {"nine": "completed"}
    jobs = {line["job_id"] for name in study.runs() for line in study.claims(name)}
    assert len(jobs) == (3 if resources else 9)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"learning_rat": 0.2}, "nothing uses the key 'learning_rat'"),
        ({"resume": ["--resume={checkpoints}"]}, "resume has the unknown placeholder {checkpoints}"),
    ],
)
def test_a_mistake_in_a_command_is_refused_in_one_line(make_study, changes, problem):
    study = make_study("counter", **changes)
    refused = study.type("submit", "run", code=2)
    assert problem in refused
    assert len(refused.splitlines()) == 1
    assert not (study.root / "checkpoints").exists()


def test_lightning_does_not_requeue_its_job_by_itself(tmp_path, monkeypatch):
    """Lightning requeues the job at SIGUSR1 where it finds Slurm's variables. `scontrol` writes down what it is asked."""
    beside_python(monkeypatch)
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    slurm = {
        "SLURM_NTASKS": "1",
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NAME": "run",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    environment = {**os.environ, "PATH": f"{scontrol.parent}:{os.environ['PATH']}", **slurm}
    put_files(SUBJECTS["lit"], tmp_path)
    command = ["python", "lit.py", "--max_steps=40", "--step_seconds=0.05"]
    program = Program([Start(0, command, environment_of(environment, "", {}))], tmp_path)
    rows = tmp_path / "out/lightning_logs/version_0/metrics.csv"
    until(lambda: rows.exists() and len(rows.read_text().splitlines()) > 4)
    program.signal("USR1")
    until(lambda: program.has_ended)
    assert [end.code for end in program.end()] == [0]
    assert (tmp_path / "out/epoch=1-step=40.ckpt").exists()
    assert not (tmp_path / "asked").exists()
