"""The ten commonest commands while the controller is frozen, accounting is dead, the disk is full, home is read-only."""

import os
import re
import shutil
import signal
import subprocess

import pytest
from driving import Study
from small_disk import filled, mounted, read_only

READING = {
    "status": ("status",),
    "show": ("show", "one"),
    "why": ("why", "one"),
    "logs": ("logs", "one"),
    "queue": ("queue",),
    "plan": ("plan", "train"),
    "budget": ("budget",),
}
CHANGING = {
    "resume": ("resume",),
    "submit": ("submit", "run", "--name", "two"),
    "cancel": ("cancel", "one", "--yes"),
}
LASTS = {
    "status": "one .*running",
    "show": "one: running on .*(?s:.*)history",
    "why": "one: running on .*(?s:.*)lvjobs cancel one",
    "logs": "step 1 of 100000",
    "plan": r"Fits: needs .* spent, .* reserved",
    "budget": r"reserved +\d",
}
"""The words that a reading command shows of a study with one run, whatever fails."""
FORBIDDEN = re.compile(
    r"Traceback \(most recent|No job of this study is waiting|/lvjobs/(?:cli|cluster|control|tasks)/|Error:"
)


def begun(root, profile="lab"):
    """A study with a run that trains."""
    study = Study(root, profile=profile)
    study.submit("one", "--steps", "100000", "--set", "seconds=0.05")
    study.reach("one", 5)
    study.runs()
    return study


def answers(study, commands):
    """Type the commands; return exit codes and what they print, output and errors as they come."""
    found = {}
    for name, words in commands.items():
        process = study.start(*words, stderr=subprocess.STDOUT)
        said, _, code = study.outcome(process, *words)
        found[name] = (code, said)
        assert not FORBIDDEN.search(said) or name == "logs", said
    return found


def check_reading(said, note=""):
    """Each reading command ends with 0, shows the run, and `note` says what it could not ask."""
    for name, (code, text) in said.items():
        assert code == 0, (name, text)
        assert re.search(LASTS.get(name, ""), text), (name, text)
        assert note in text or name in ("logs", "plan"), (name, text)  # which ask neither Slurm nor the disk


def test_a_frozen_controller(impatient, tmp_path):
    study = begun(tmp_path / "study")
    study.environment |= {"LVJOBS_NOTE_AFTER": "0", "LVJOBS_SLURM_WAIT": "1"}
    impatient.freeze()
    said = answers(study, READING)
    check_reading(said, "note: squeue: squeue did not answer within 1 s")
    assert "Slurm did not answer: states of jobs are " in said["status"][1]
    assert "Updated just now from the runs' journals" in said["status"][1]
    assert "unknown: Slurm did not answer" in said["queue"][1]
    changed = answers(study, CHANGING)
    for name, (_, text) in changed.items():
        assert text.splitlines()[0] == "note: waiting for Slurm, at most 112 s", (name, text)
    assert {name: code for name, (code, _) in changed.items()} == {"resume": 0, "submit": 0, "cancel": 0}
    assert re.search(r"the job has token [0-9a-f]{12}, and the next update adopts or", changed["submit"][1])
    assert "Slurm did not answer; the next update cancels jobs that are still in the queue" in changed["cancel"][1]
    impatient.thaw()
    two = study.until("two", "completed")
    assert two["attempts"] == 1, "submitted once, whether sbatch's request was heard or not"
    assert study.run("one")["state"] == "cancelled"


def test_dead_accounting(lab, tmp_path):
    study = begun(tmp_path / "study")
    os.kill(lab.status().daemons["slurmdbd"], signal.SIGKILL)
    said = answers(study, {name: words for name, words in READING.items() if name != "queue"})
    check_reading(said, "note: sacct: ")
    changed = answers(study, CHANGING)
    assert {name: code for name, (code, _) in changed.items()} == {"resume": 0, "submit": 0, "cancel": 0}
    assert "two: submitted as job " in changed["submit"][1]
    assert "one: cancelled job " in changed["cancel"][1]
    lab.up()
    study.type("cancel", "two", "--yes")


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk"):
        subprocess.run(["mount", "-o", "remount,size=40m", str(tmp_path / "disk")], check=True)
        yield tmp_path / "disk"


def test_a_full_disk(disk):
    study = begun(disk / "study", profile="local")
    with filled(disk):
        said = answers(study, READING)
        check_reading({**said, "plan": (0, "Fits: needs 1 spent, 1 reserved")})
        assert said["plan"][0] == 0
        for name in ("status", "show", "why", "queue", "budget"):
            assert "cannot be written (No space left on device)" in said[name][1], said[name]
            assert re.search(r"; the state shown is \d+ s old", said[name][1])
        assert "unknown: the study was not updated. Waiting at the last update: none" in said["queue"][1]
        for name, (code, text) in answers(study, CHANGING).items():
            assert code == 2, (name, text)
            assert "cannot be written (No space left on device); nothing was done" in text
    assert set(study.runs()) == {"one"}, "with room again: nothing was half done"
    study.type("cancel", "one", "--yes")
    shutil.rmtree(study.root / ".lvjobs" / "code")
    with filled(disk, 600_000):  # room for the lease and runs.db, and none for a copy of the code
        text = study.type("submit", "run", "--name", "two", code=1)
        assert re.search(rf"lvjobs: {disk}/study\S* cannot be written or read \(No space left on device\); ", text)
        assert "this command submitted nothing" in text
        assert not FORBIDDEN.search(text)
    assert set(study.runs()) == {"one"}


def test_a_home_that_is_read_only(disk, tmp_path):
    study = begun(tmp_path / "study", profile="local")
    study.environment["HOME"] = str(disk)
    with read_only(disk):
        check_reading(answers(study, {name: words for name, words in READING.items() if name != "queue"}))
        assert "No job of this study is waiting" in study.type("queue")
        changed = answers(study, CHANGING)
        assert {name: code for name, (code, _) in changed.items()} == {"resume": 0, "submit": 0, "cancel": 0}
        study.type("cancel", "two", "--yes")
    assert {run["state"] for run in study.runs().values()} == {"cancelled"}
