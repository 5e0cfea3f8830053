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
    assert_is_not_at_its_end,
    beside_python,
    end_all,
    kill,
    put_files,
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
        made.append(ProgramStudy(tmp_path / name, SUBJECTS[name], stages, resources, **changes))
        return made[-1]

    yield make
    for study in made:
        end_all(study)


def killed(study, *victims, inside_a_save=False, seed=0):
    """Submit a run, kill each of its attempts after its first checkpoint, and wait until it is completed.

    The moments are random, or inside a save.
    """
    chance = random.Random(seed)
    study.submit("run")
    for generation, victim in enumerate(victims, start=1):
        until(lambda expected=generation: study.run("run") and len(study.claims("run")) == expected)
        wait_for_a_checkpoint(study, "run", generation)
        if inside_a_save:
            assert wait_into_a_save(study, "run")
        else:
            wait_a_moment(chance, 0.4)
        assert_is_not_at_its_end(study, "run")
        kill(study, "run", victim)
    run = study.until("run", "completed", "held")
    assert (run["state"], run["attempts"]) == ("completed", len(victims) + 1), study.story("run")
    begun = [line["resumed_from"] for line in study.journal("run") if line["kind"] == "start"]
    assert [bool(name) for name in begun] == [False, *(True for _ in victims)]
    study.type("ledger", "check")
    return run


@pytest.mark.parametrize(
    ("name", "victims", "seed"),
    [
        ("heat", ["worker"], 1),
        ("accelerated", ["program"], 2),
        pytest.param("snapshot", ["rank", "launcher", "program"], 3, id="torchrun"),
    ],
)
def test_a_killed_program_ends_bit_for_bit_as_an_undisturbed_one(make_study, alone, name, victims, seed):
    study = make_study(name)
    killed(study, *victims, seed=seed)
    assert are_equal(study.final("run"), alone.final(name))


@pytest.mark.parametrize(("name", "victim"), [("trainer", "worker"), ("trl", "program")])
def test_a_trainer_killed_inside_a_save_ends_bit_for_bit_as_an_undisturbed_one(make_study, alone, name, victim):
    study = make_study(name)
    killed(study, victim, inside_a_save=True)
    assert are_equal(study.final("run"), alone.final(name))


@pytest.mark.parametrize(("name", "victim", "seed"), [("imagenet", "worker", 6), ("lit", "program", 7)])
def test_a_killed_program_that_saves_no_random_state_completes(make_study, name, victim, seed):
    study = make_study(name)
    run = killed(study, victim, seed=seed)
    assert run["step"] == study.train["steps"]
    assert study.final("run").exists()


def test_a_killed_program_that_repeats_its_first_batches_ends_with_nearly_the_same_loss(make_study, alone):
    """nanoGPT seeds its generator anew. Its last validation has 32 random pieces of text."""
    study = make_study("nano")
    killed(study, "program", seed=8)
    losses = [line["loss"] for line in study.journal("run") if line["kind"] == "validation"]
    assert losses[-1] == pytest.approx(alone.validation_loss("nano"), rel=TOLERANCE)
    assert losses[0] > losses[-1] * (1 + 2 * TOLERANCE), "an untrained model is outside of the tolerance"


def test_a_trainer_under_accelerate_that_saves_at_sigterm_and_exits_with_0_is_resumed(make_study):
    """`accelerate launch` ends at once, and leaves the training behind, which saves."""
    command = ["accelerate", "launch", "--cpu", *SUBJECTS["trainer"].train["command"][1:], "--jit"]
    study = make_study("trainer", command=command, stop="TERM", steps=200, checkpoint_every=80)
    study.submit("run")
    os.kill(study.reach("run", 5)["pid"], signal.SIGTERM)
    run = study.until("run", "completed", "held")
    assert (run["state"], run["attempts"]) == ("completed", 2), study.story("run")
    assert [line["cause"] for line in study.journal("run", 1) if line["kind"] == "leave"] == ["preempted"]
    assert study.saved("run", 1)[-1] % 80, "it saved where no checkpoint was due"
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
