"""Rehearsals without Slurm: of trainings that hold, and of those that make the mistakes that a rehearsal is to find."""

import json
import random
import signal
import time

import psutil
import pytest
from driving import Study, until
from program_studies import ProgramStudy
from program_subjects import PROGRAMS, Subject

from lvjobs.forecasting.data import make_dataset
from lvjobs.rehearsal import runs
from lvjobs.rehearsal.conduct import Rehearsal
from lvjobs.rehearsal.faults import INSIDE_A_SAVE, local_faults
from lvjobs.rehearsal.runs import shortened
from lvjobs.study.config import load_study
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Resources
from lvjobs.tasks.registry import placed

pytestmark = pytest.mark.slow

WORDS = ["--out={out}", "--steps={steps}", "--every={checkpoint_every}"]
CARELESS = Subject(
    ("careless.py",),
    {
        "command": ["python3", "careless.py", *WORDS, "--mistake={mistake}"],
        "resume": ["--resume={checkpoint}"],
        "checkpoint": "{out}/ckpt.json",
        "progress": r"^step (?P<step>\d+): loss (?P<loss>\S+) speed (?P<speed>\S+)",
        "steps": 2000,
        "checkpoint_every": 200,
        "mistake": "none",
    },
    "out/ckpt.json",
)


UNPUBLISHED = "its checkpoints was published"
"""Words of a verdict on a worker that stalled for longer than its program took from one checkpoint to the next."""


def only(kind):
    """The faults of one kind."""
    return lambda study: {kind: local_faults(study)[kind]}


def rehearsed(study, *asked, minutes="0.25"):
    """Return the report of a rehearsal with the first seed that has a fault, and its exit code."""
    for seed in range(5):  # a machine that stalls may be late for all of it
        longer = float(minutes) * (seed + 1)
        words = ("--json", "--local", f"--minutes={longer}", f"--seed={seed}", "--rehearsed-steps=36", *asked)
        out, err, code = study.outcome(study.start("rehearse", *words), "rehearse", *words, timeout=1400)
        assert code in (0, 1), err
        found = json.loads(out)
        assert code == (0 if found["holds"] else 1)
        if found["verdict"] != "untested" and UNPUBLISHED not in found["reason"]:
            return found
    pytest.fail("nothing interrupted it")


def test_the_bundled_training_is_resumed_bit_for_bit(tmp_path):
    make_dataset(tmp_path / "data.h5", systems=40, seed=0)
    study = Study(tmp_path, tmp_path / "data.h5", profile="local")
    found = rehearsed(study, "--set", "validation_limit=2", minutes="0.3")
    assert (found["verdict"], found["differences"], found["breaches"]) == ("bitwise", [], []), found
    assert found["attempts"] > 1
    assert "runs.db" not in {path.name for path in tmp_path.iterdir()}, "the study itself was not touched"


def test_a_training_that_forgets_its_generator_is_found_out(tmp_path):
    config = RunConfig(task="forgetful_task:train", steps=400, checkpoint_every=100, validate_every=100)
    rehearsal = Rehearsal(tmp_path, config, Resources(), 0.0, print)
    alone = rehearsal.train_undisturbed("local")
    kind = "killed (SIGKILL)"
    report = rehearsal.disturb(alone, "local", only(kind), chance=random.Random(0), until=time.monotonic() + 600)
    assert report.met
    assert report.run["state"] == "completed"
    assert (report.judgement.verdict, report.judgement.is_deterministic) == ("differs", True)
    first = report.judgement.differences[0]
    assert first.what == "step's loss"
    assert first.step % 100 == 1, "where it resumed"
    attempt, step = report.judgement.since
    assert (attempt > 1, step) == (True, first.step - 1)


def test_a_program_is_killed_in_every_way_and_inside_a_save(tmp_path):
    slow = ["python3", "counter.py", *WORDS, "--in-place", "--slow-save=0.2", "--seconds-per-step=0.05"]
    train = {**CARELESS.train, "command": slow, "checkpoint": "{out}/checkpoint.json"}
    train["progress"] = r"^step (?P<step>\d+): loss (?P<loss>\S+)"
    del train["mistake"]
    study = ProgramStudy(tmp_path, Subject(("counter.py",), train, "out/result.json"))
    found = rehearsed(study, minutes="20")  # it ends once each fault has met it
    assert (found["verdict"], found["breaches"], found["untested"], found["dropped"]) == ("bitwise", [], [], []), found
    assert found["met"][INSIDE_A_SAVE] >= 1
    assert len(found["met"]) == 6
    assert found["attempts"] > 6


def careless(tmp_path, mistake):
    return ProgramStudy(tmp_path, CARELESS, mistake=mistake)


def test_logs_speeds_and_times_are_no_difference(tmp_path):
    found = rehearsed(careless(tmp_path, "none"))
    assert (found["verdict"], found["is_deterministic"]) == ("bitwise", True), found
    assert "step's speed differs in every run" in found["notes"]
    assert "final/out/times.txt differs in every run" in found["notes"]


def test_a_program_that_forgets_its_generator_differs_since_it_resumed(tmp_path):
    found = rehearsed(careless(tmp_path, "forget"))
    assert (found["verdict"], found["is_deterministic"]) == ("differs", True), found
    first = next(each for each in found["differences"] if each["what"] == "step's loss")
    assert 0 < found["since"]["resumed_from"] < first["step"], "the step of its checkpoint is read off the clock"
    assert first["step"] % 6 == 1, "after a checkpoint"


def test_a_program_without_a_seed_is_not_deterministic(tmp_path):
    found = rehearsed(careless(tmp_path, "random"))
    assert (found["verdict"], found["is_deterministic"]) == ("differs", False), found


def test_a_resumed_program_that_writes_to_its_old_directory_is_found_out(tmp_path):
    found = rehearsed(careless(tmp_path, "absolute"))
    assert not found["holds"]
    assert any(text.startswith("a later attempt writes to the directory of attempt") for text in found["breaches"])


def test_a_process_that_survives_its_attempt_is_found_out_and_ended(tmp_path):
    """A program's worker ends all that it left behind. A worker that is killed cannot."""
    study = careless(tmp_path, "child")
    config = shortened(placed(load_study(study.root).config.train.run_config(), study.root), 36)
    rehearsal = Rehearsal(tmp_path / "rehearsal", config, Resources(), 0.0, print)
    kind = "killed (SIGKILL)"
    alone = rehearsal.train_undisturbed("local")
    until = time.monotonic() + 600
    report = rehearsal.disturb(alone, "local", only(kind), chance=random.Random(0), until=until)
    assert report.met["killed (SIGKILL)"]
    assert not report.holds
    (text, *_) = report.breaches
    assert text.startswith("a process of an ended attempt survives: ")
    assert not psutil.pid_exists(int(text.split(": ")[1].split()[0]))


def test_a_program_that_hangs_when_it_resumes_does_not_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_SHORTEST_SECONDS", 15.0)
    study = careless(tmp_path, "hang")
    config = shortened(placed(load_study(study.root).config.train.run_config(), study.root), 36)
    rehearsal = Rehearsal(tmp_path / "rehearsal", config, Resources(), 0.0, print)
    alone = rehearsal.train_undisturbed("local")
    until = time.monotonic() + 600
    report = rehearsal.disturb(alone, "local", only("killed (SIGKILL)"), chance=random.Random(0), until=until)
    assert report.judgement.verdict == "does_not_resume", report
    assert "hung" in report.judgement.reason


def test_a_program_that_fails_undisturbed_is_named_without_a_command_for_a_run_of_the_study(tmp_path):
    study = ProgramStudy(tmp_path, CARELESS, command=["python3", "careless.py", *WORDS, "--mistake={mistake}", "--no"])
    _, err, code = study.outcome(study.start("rehearse", "--local"), "rehearse", timeout=300)
    assert code == 1
    assert "without faults, the run is held at step 0: " in err
    assert "unrecognized arguments: --no" in err
    assert "Fix that first; its log is in" in err
    assert "lvjobs resume" not in err


def test_a_program_that_ignores_its_checkpoint_does_not_resume(tmp_path):
    command = ["python3", "counter.py", *WORDS, "--seconds-per-step=0.05", "--ignore-resume"]
    words = ("--checkpoint={out}/checkpoint.json", "--resume=--resume={checkpoint}")
    study = Study(tmp_path, profile="local")
    (tmp_path / "counter.py").write_bytes((PROGRAMS / "counter.py").read_bytes())
    progress = r"--progress=^step (?P<step>\d+): loss (?P<loss>\S+)"
    found = rehearsed(study, *words, progress, "--set=steps=2000", "--", *command)
    assert found["verdict"] == "does_not_resume", found
    assert "but began at step 1" in found["reason"]


def test_a_program_whose_checkpoint_is_elsewhere_does_not_resume(tmp_path):
    found = rehearsed(ProgramStudy(tmp_path, CARELESS, checkpoint="{out}/other.json"))
    assert (found["verdict"], found["met"]) == ("does_not_resume", {})
    assert (
        found["reason"]
        == "undisturbed, it published no checkpoint: nothing matches `checkpoint` of [train] (it left out/ckpt.json, out/log.txt, out/times.txt)"
    )


def working_in(place):
    """The processes that have a path of this directory among their words, or work in it."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = [*(process.info["cmdline"] or ()), process.info["cwd"] or ""]
        if any(str(place) in word for word in words):
            found.append(process.pid)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_rehearsal_leaves_nothing_behind_and_another_one_waits_for_its_end(tmp_path, number):
    study = careless(tmp_path / "study", "none")
    place = study.root / ".lvjobs" / "rehearsal"
    process = study.start("rehearse", "--local", "--minutes=5")
    until(lambda: len(working_in(place)) >= 2)
    refused = study.type("rehearse", "--local", code=2)
    assert f"another rehearsal works in {place}" in refused
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, "the rehearsal's jobs were cancelled" in err) == (130, True), err
    until(lambda: not working_in(place))


def test_a_directory_without_a_study_and_a_program_without_its_checkpoints_are_refused(tmp_path):
    study = careless(tmp_path / "study", "none")
    (study.root / "study.toml").unlink()
    assert "there is no study.toml in" in study.type("rehearse", code=2)
    program = ("--", "python3", "careless.py", "--steps={steps}")
    assert "the program has no checkpoint" in study.type("rehearse", *program, code=2)
    own = ("--checkpoint={out}/ckpt.json", "--checkpoint-every=30", "--steps=100", "--rehearsed-steps=36")
    assert "ends before its second checkpoint, at step 36" in study.type("rehearse", *own, *program, code=2)
