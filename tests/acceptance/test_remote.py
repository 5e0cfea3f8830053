"""`lvjobs --host` and `lvjobs pull` through a real sshd on the loopback."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys

import pytest
from loopback import sshd

pytestmark = pytest.mark.slow

TASK = """
import lvjobs

@lvjobs.task(flops=10**6)
def train(run: lvjobs.Run) -> None:
    for step in range(run.step + 1, run.config.steps + 1):
        run.log(step, loss=1.0 / step)
    run.checkpoint(run.config.steps, {})
"""


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A study in another place of this machine, which is reached through sshd as `login`."""
    root = tmp_path / "there"
    root.mkdir()
    (root / "study.toml").write_text('[train]\ntask = "mine:train"\nsteps = 3\n')
    (root / "mine.py").write_text(TASK)
    lvjobs = tmp_path / "lvjobs"
    lvjobs.write_text(
        f'#!/bin/sh\nPYTHONPATH={os.environ.get("PYTHONPATH", "")} exec {sys.executable} -m lvjobs "$@"\n'
    )
    lvjobs.chmod(0o755)
    with sshd(tmp_path) as config:
        monkeypatch.setenv("LVJOBS_SSH", f"ssh -F {config}")
        monkeypatch.setenv("LVJOBS_REMOTE_EXECUTABLE", str(lvjobs))
        yield root


def typed(*words, cwd, text=""):
    command = [sys.executable, "-m", "lvjobs", *map(str, words)]
    return subprocess.run(command, cwd=cwd, input=text, capture_output=True, text=True, timeout=300, check=False)


def test_a_study_is_used_from_another_machine(there, tmp_path):
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    done = typed("--host", "login", "submit", "run", "--name", "one", "--wait", "--study", there, cwd=laptop)
    assert (done.returncode, "one: submitted as job" in done.stdout) == (0, True), done.stderr
    assert f"follow with: lvjobs --host login status --study {there}" in done.stdout
    shown = json.loads(typed("--host", "login", "status", "--json", "--study", there, cwd=laptop).stdout)
    assert [(run["name"], run["state"]) for run in shown["runs"]] == [("one", "completed")]
    assert not list(laptop.iterdir()), "nothing was made here"
    wrong = typed("--host", "login", "why", "two", "--study", there, cwd=laptop)
    assert (wrong.returncode, "no run 'two'" in wrong.stderr) == (2, True)

    (laptop / "study.toml").write_text(
        f'[remote]\nhost = "login"\nstudy = "{there}"\nexecutable = "{os.environ["LVJOBS_REMOTE_EXECUTABLE"]}"\n'
    )
    assert typed("report", cwd=laptop).returncode == 0
    adapter = there / "checkpoints" / "one" / "final" / "adapter"
    adapter.mkdir(parents=True, exist_ok=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights" * 1000)
    assert (there / "report" / "index.html").exists()
    pulled = typed("pull", cwd=laptop)
    assert pulled.returncode == 0, pulled.stderr
    for name in ("report/index.html", "adapters/one/adapter_model.safetensors"):
        source = name.replace("adapters/one", "checkpoints/one/final/adapter")
        assert (laptop / name).read_bytes() == (there / source).read_bytes()
    assert ", 0 unchanged" not in typed("pull", cwd=laptop).stdout
    assert ": 0 files copied" in typed("pull", cwd=laptop).stdout
    shutil.rmtree(there / "report")
    assert typed("resume", "nobody", cwd=laptop).returncode == 2


def test_a_terminal_reaches_the_other_machine(there, tmp_path):
    typed("--host", "login", "submit", "run", "--name", "one", "--study", there, cwd=tmp_path)
    main, end = pty.openpty()
    words = ["--host", "login", "cancel", "one", "--study", str(there)]
    command = [sys.executable, "-m", "lvjobs", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=end, stdout=end, stderr=end, start_new_session=True)
    os.close(end)
    said = b""
    while process.poll() is None or select.select([main], [], [], 0)[0]:
        if not select.select([main], [], [], 1)[0]:
            continue
        try:
            said += os.read(main, 4096)
        except OSError:
            break
        if b"Cancel one?" in said and b"y\r" not in said:
            os.write(main, b"n\r")
            said = said.replace(b"Cancel one?", b"asked")
    os.close(main)
    assert process.wait() == 0
    assert b"asked" in said, "it asked in a terminal"
    assert b"Nothing was cancelled." in said or b"completed" in said


def test_a_host_that_does_not_answer(there, tmp_path):
    done = typed("--host", "nowhere.invalid", "status", cwd=tmp_path)
    assert done.returncode == 1
    assert "lvjobs: ssh could not run the command on nowhere.invalid" in done.stderr
