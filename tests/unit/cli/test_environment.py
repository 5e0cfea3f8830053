"""A program in an environment of its own, on this machine: activated, recorded, and compared when it changes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from lvjobs import remedies
from lvjobs.cli import updates
from lvjobs.files import create_exclusive
from lvjobs.records.journal import parse_entries
from lvjobs.records.software import record_of
from lvjobs.study.layout import StudyLayout

COUNTER = Path(__file__).parents[2] / "programs" / "counter.py"
STUDY = """\
profile = "local"

[resources]
activate = "venv"

[train]
command = ["python", "counter.py", "--steps={steps}", "--every={checkpoint_every}", "--out={out}", "--named", OWN]
checkpoint = "{out}/checkpoint-{step}.json"
resume = ["--resume={checkpoint}"]
progress = '^step (?P<step>\\d+): loss (?P<loss>\\S+)'
flops = 1e9
steps = 12
checkpoint_every = 4
link = ["once"]

[policy]
backoff_seconds = 0
"""
PROBE = """\
import json, os, sys
names = ("MINE", "VIRTUAL_ENV", "PYTHONPATH", "LVJOBS_ACTIVATE", "CONDA_PREFIX")
seen = {"prefix": sys.prefix, **{name: os.environ.get(name) for name in names}}
os.makedirs("out", exist_ok=True)
open("out/seen.json", "w").write(json.dumps(seen))
"""


def make_venv(path, **packages):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
    for name, version in packages.items():
        change(path, name, version)


def change(venv, name, version):
    """Install this version of a package, as far as metadata show it."""
    (site,) = venv.glob("lib/python*/site-packages")
    for old in site.glob(f"{name}-*.dist-info"):
        old.rmdir()
    (site / f"{name}-{version}.dist-info").mkdir()


@pytest.fixture
def study(tmp_path, monkeypatch):
    make_venv(tmp_path / "venv", torch="2.4.0", same="1")
    shutil.copy(COUNTER, tmp_path)
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "once").mkdir()
    (tmp_path / "requirements.txt").write_text("torch\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def write(study, *words):
    own = ", ".join(json.dumps(word) for word in words)
    (study / "study.toml").write_text(STUDY.replace("OWN", own))


def until(typed, state, name="one", seconds=120):
    """Make passes until the run is in this state; return all that they printed."""
    end, said = time.monotonic() + seconds, ""
    while True:
        code, out, err = typed("resume")
        assert code == 0, err
        said += out
        _, shown, _ = typed("status", "--json", "--no-pass")
        (row,) = [each for each in json.loads(shown)["runs"] if each["name"] == name]
        if row["state"] == state:
            return said
        assert time.monotonic() < end, shown
        time.sleep(0.1)


def submit(typed, *words, code=0):
    found, out, err = typed("submit", "run", "--name", "one", *words)
    assert found == code, (out, err)
    return err


def records(study, name="one"):
    """Return the software in each attempt's journal."""
    paths = sorted(StudyLayout(study).run(name).journals.glob("*.jsonl"))
    return [record_of(parse_entries(path.read_bytes())[0]) for path in paths]


def test_a_retry_goes_on_with_other_packages_and_why_names_them(study, typed):
    write(study, "--hang-at=6", "--once=once/hang")
    submit(typed)
    journal = StudyLayout(study).run("one").journal(1)
    end = time.monotonic() + 120
    while '"step":6' not in (text := journal.read_text() if journal.exists() else ""):
        assert time.monotonic() < end, text
        time.sleep(0.05)
    os.kill(json.loads(text.splitlines()[0])["pid"], signal.SIGKILL)
    change(study / "venv", "torch", "2.5.1")
    line = "attempt 2 ran with other packages than attempt 1: torch 2.4.0 -> 2.5.1"
    said = until(typed, "completed")
    assert said.count(line) == 1, said
    _, why, _ = typed("why", "one")
    assert line in " ".join(why.split())
    _, history, _ = typed("status", "one")
    assert history.count("torch 2.4.0") == 1
    _, checked, _ = typed("ledger", "check")
    assert f"{line}; its weights may differ from those of an undisturbed run" in " ".join(checked.split())
    first, second = records(study)
    assert [each["versions"]["torch"] for each in (first, second)] == ["2.4.0", "2.5.1"]
    assert "numpy" not in first["versions"], "lvjobs' own packages are not the program's"
    assert "changed_packages" not in first
    assert first["locks"].keys() == {"requirements.txt"}
    lists = {path.stem: path.read_text() for path in StudyLayout(study).packages.iterdir()}
    assert "torch==2.4.0" in lists[first["packages"]]
    assert "torch==2.5.1" in lists[second["packages"]]


def test_each_copy_of_the_code_says_where_it_comes_from(study, typed):
    write(study)
    submit(typed)
    until(typed, "completed")
    layout = StudyLayout(study)
    (copy,) = layout.code.iterdir()
    origin = json.loads((copy / "_origin.json").read_text())
    assert origin.keys() == {"locks", "packages"}, "git knows nothing of this directory"
    assert origin["packages"] == records(study)[0]["packages"]
    assert "since" not in records(study)[0]
    change(study / "venv", "same", "2")
    typed("submit", "run", "--name", "two", "--set", "seed=1", "--set", "resources.activate=venv")
    assert len(list(layout.code.iterdir())) == 2


def test_export_has_commit_lock_files_and_packages_of_each_attempt(study, typed, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    for kind in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{kind}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{kind}_EMAIL", "nobody@example.org")
    write(study, "--raise-at=6", "--once=once/raise")
    (study / ".gitignore").write_text("venv\nonce\nruns.db*\n.lvjobs\ncheckpoints\nlogs\n")
    git = ["git", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    submit(typed)
    until(typed, "held")
    typed("resume", "one")
    until(typed, "completed")
    assert typed("export", "out")[0] == 0
    attempts = [json.loads(line) for line in (study / "out/tables/attempts.jsonl").read_text().splitlines()]
    assert len(attempts) == 2
    lock = hashlib.sha256((study / "requirements.txt").read_bytes()).hexdigest()[:16]
    for attempt, record in zip(attempts, records(study), strict=True):
        assert (attempt["commit"], attempt["dirty"]) == (commit, False)
        assert attempt["locks"] == {"requirements.txt": lock}
        assert attempt["packages"] == record["packages"]
        assert attempt["image"] is None
    assert commit in (study / "out/tables/attempts.csv").read_text()


@pytest.mark.remedy("RESUME_PACKAGES")
def test_resume_refuses_other_packages_and_accepts_them_when_told(study, typed, take, monkeypatch):
    write(study, "--exit-at=6:3", "--once=once/exit")
    submit(typed)
    until(typed, "held")
    assert "edited since" not in typed("why", "one")[1]
    change(study / "venv", "torch", "2.5.1")
    code, _, err = typed("resume", "one")
    assert code == 2
    assert "one: its packages changed since attempt 1: torch 2.4.0 -> 2.5.1; nothing was resumed" in err
    monkeypatch.setattr(
        updates, "sys", type("Terminal", (), {"stdin": type("Input", (), {"isatty": lambda _: True})()})
    )
    asked = []
    monkeypatch.setattr(click, "confirm", lambda text, **_: asked.append(text))
    code, out, _ = typed("resume", "one")
    assert (code, len(asked)) == (2, 1), "the user said no"
    assert "torch 2.4.0 -> 2.5.1" in out
    code, _, err = take(remedies.RESUME_PACKAGES, err, run="one")
    assert code == 0, err
    until(typed, "completed")


def test_resume_asks_nothing_where_packages_are_the_same_or_no_checkpoint_exists(study, typed):
    write(study, "--exit-at=6:3", "--once=once/exit")
    submit(typed)
    until(typed, "held")
    assert typed("resume", "one")[0] == 0
    until(typed, "completed")
    write(study, "--exit-at=2:3", "--once=once/early")
    typed("submit", "run", "--name", "two")
    until(typed, "held", "two")
    change(study / "venv", "torch", "2.6.0")
    code, _, err = typed("resume", "two")
    assert code == 0, err
    until(typed, "completed", "two")


def seen(study, typed, activate):
    """Return a program's view of its environment."""
    write(study)
    submit(typed, "--flops", "1", "--steps", "1", "--set", f"resources.activate={activate}", "--", "python", "probe.py")
    until(typed, "completed")
    return json.loads((StudyLayout(study).run("one").final / "out" / "seen.json").read_text())


@pytest.mark.parametrize(
    ("activate", "mine"),
    [("venv", None), ("source venv/bin/activate", None), ("source venv/bin/activate && export MINE='a b'", "a b")],
)
def test_a_program_runs_in_the_environment_that_is_named(activate, mine, study, typed):
    found = seen(study, typed, activate)
    assert found["prefix"] == found["VIRTUAL_ENV"] == str(study / "venv")
    assert found["MINE"] == mine
    assert (found["PYTHONPATH"], found["LVJOBS_ACTIVATE"]) == (None, None)
    (record,) = records(study)
    assert record["versions"]["torch"] == "2.4.0"


def test_an_environment_of_conda_is_activated_by_its_name(study, typed, monkeypatch):
    """A stand-in for conda, with its two commands: conda is not installed where tests run."""
    (study / "tools").mkdir()
    hook = f"conda() {{ export CONDA_PREFIX={study}/venv PATH={study}/venv/bin:$PATH MINE=$2; }}"
    (study / "tools" / "conda").write_text(f"#!/bin/sh\n[ \"$*\" = 'shell.bash hook' ] && echo '{hook}'\n")
    (study / "tools" / "conda").chmod(0o755)
    (study / "venv" / "conda-meta").mkdir()
    (study / "venv" / "conda-meta" / "cuda-12.4-0.json").touch()
    monkeypatch.setenv("PATH", f"{study}/tools:{os.environ['PATH']}")
    found = seen(study, typed, "conda:mine")
    assert (found["MINE"], found["prefix"]) == ("mine", str(study / "venv"))
    (record,) = records(study)
    assert "cuda==12.4" in (StudyLayout(study).packages / f"{record['packages']}.txt").read_text()


@pytest.mark.parametrize(
    ("activate", "words"),
    [
        ("echo no such module; false", "activate failed (exit code 1: no such module); correct activate"),
        ("exit 0", "activate failed (exit code 0); correct activate"),
    ],
)
def test_an_activation_that_fails_holds_the_run(activate, words, study, typed):
    write(study)
    submit(typed, "--set", f"resources.activate={activate}")
    until(typed, "held")
    _, why, _ = typed("why", "one")
    assert words in " ".join(why.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "resources.activate=gone"], "gone is no virtual environment, for it has no bin/activate"),
        (["--set", "resources.activate=source gone/bin/activate"], "gone is no virtual environment"),
        (["--set", "resources.activate=a\nb"], "write one line"),
        (["own:train"], "is for programs; other tasks run in lvjobs' own environment"),
    ],
)
def test_an_environment_that_cannot_be_used_is_refused_in_one_line(words, said, study, typed):
    write(study)
    create_exclusive(
        study / "own.py", "import lvjobs\n@lvjobs.task(flops={'training': 1})\ndef train(run):\n    pass\n"
    )
    code, _, err = typed("submit", "run", "--name", "one", *words)
    assert (code, err.count("\n")) == (2, 1), err
    assert said in err
    assert not list(StudyLayout(study).checkpoints.glob("*"))
    assert typed("submit", "run", "--dry-run", *words)[0] == 2


@pytest.mark.slow
def test_a_rehearsal_runs_in_the_environment_too(study, typed):
    write(study)
    words = ("--rehearsed-steps", "6", "--minutes", "1e-6", "--local")
    code, out, err = typed("rehearse", *words)
    assert (code, "nothing was tested: no fault was injected" in out) == (1, True), (out, err)
    layout = StudyLayout(StudyLayout(study).internal / "rehearsal" / "alone").run("rehearsal")
    record = record_of(parse_entries(layout.journal(1).read_bytes())[0])
    assert record["versions"]["torch"] == "2.4.0"
    shutil.rmtree(study / "venv")
    code, _, err = typed("rehearse", *words)
    assert (code, "is no virtual environment" in err) == (2, True)
