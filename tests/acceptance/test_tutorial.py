"""docs/tutorial.md, typed as it stands there, but for the installation: on the local backend, with the kill on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from docs_blocks import ROOT, blocks_of

from lvjobs.cluster.local_files import MemberFiles, jobs_in

PAGE = ROOT / "docs" / "tutorial.md"
INSTALLS = "scripts/demo"
STAYS = "lvjobs status -w"
LAST = "xdg-open"
KILLS = "kill -9"
KILLS_AT = 20
"""The page says: at step 20 or beyond."""

pytestmark = pytest.mark.slow


class Terminal:
    """A shell in a home of its own, where the tutorial is typed block by block."""

    def __init__(self, home: Path):
        self.home = self.where = home
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "HOME": str(home), "PATH": path}
        self.environment.pop("LVJOBS_STUDY", None)

    def type(self, text: str) -> str:
        """Type the block and return its output; the shell stays where it went."""
        script = f"set -eu\n{text}\npwd >{self.home}/.where\n"
        way = {"cwd": self.where, "env": self.environment, "capture_output": True, "text": True, "timeout": 900}
        done = subprocess.run(["bash"], input=script, check=False, **way)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        self.where = Path((self.home / ".where").read_text().strip())
        return done.stdout

    def stay(self, text: str, until) -> None:
        """A block that stays, and is left by Ctrl-C."""
        command = ["bash", "-c", f"exec {text}"]
        staying = subprocess.Popen(command, cwd=self.where, env=self.environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 900
        while not until():
            assert staying.poll() is None, "it left by itself"
            assert time.monotonic() < deadline
            time.sleep(0.3)
        staying.send_signal(signal.SIGINT)
        assert staying.wait(timeout=600) in (0, 130)

    def last_execution(self) -> MemberFiles:
        """Of the run called final."""
        (jobs,) = (run["job_id"] for name, run in self.runs().items() if name.startswith("final"))
        (found,) = (job for job in jobs_in(self.where / ".lvjobs" / "local") if job.id == jobs)
        return found.members()[0]

    def runs(self) -> dict:
        return {run["name"]: run for run in json.loads(self.type("lvjobs status --json --no-pass"))["runs"]}

    def final(self) -> dict:
        return next(run for name, run in self.runs().items() if name.startswith("final"))


def wait_for_the_end(execution: MemberFiles) -> None:
    """Until its death is written down: a reader takes that long to type the next line."""
    deadline = time.monotonic() + 300
    while not execution.record("ended"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def terminal(tmp_path):
    yield Terminal(tmp_path)
    for process in psutil.process_iter(["cmdline"]):  # what a failure left running
        if any(str(tmp_path) in word for word in process.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_the_tutorial_to_the_letter(terminal):
    said = {}
    for block in blocks_of(PAGE, "sh"):
        text = block.text.strip()
        if text.startswith((INSTALLS, LAST)):
            continue
        if text.startswith(STAYS):
            terminal.stay(text, lambda: terminal.final()["step"] >= KILLS_AT)
        elif text.startswith(KILLS):
            killing, then = text.splitlines()
            final = terminal.last_execution()
            terminal.type(killing)
            wait_for_the_end(final)
            said[then] = terminal.type(then)
        else:
            said[text.splitlines()[-1]] = terminal.type(text)
    runs = terminal.runs()
    assert {run["state"] for run in runs.values()} == {"completed"}
    assert len(runs) == 7
    final = terminal.final()
    assert (final["step"], final["attempts"]) == (120, 2), "killed once, and done"
    assert "killed" in said["lvjobs status"], "what follows the kill"
    assert "killed" in said["lvjobs why final"]
    assert "from the checkpoint of step" in said["lvjobs status final"]
    assert "repeated" in said["lvjobs budget"]
    for words in ("lvjobs status", "lvjobs why final", "lvjobs status final"):
        assert "Slurm" not in said[words], "there is none here"
    assert "Fits: needs 1.226e13 FLOPs at once" in said["lvjobs plan"]
    report = (terminal.where / "report" / "index.html").read_text(encoding="utf-8")
    assert all(name in report for name in runs if not name.startswith("eval"))


def test_what_the_page_shows_is_what_these_commands_print():
    """Every block of output follows the block that prints it, in the words of today."""
    shown = "\n".join(block.text for block in blocks_of(PAGE, "text"))
    for words in (
        "Fits: needs 1.226e13 FLOPs at once",
        "lowest validation_loss at the end",
        "continues",
        "evidence",
        "next",
        "commands",
        "from the checkpoint of step",
        "official convention",
        "report: index.html",
    ):
        assert words in shown
