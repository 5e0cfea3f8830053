"""`lvjobs top` in a real terminal: tmux, and keys that are pressed in it."""

import shutil
import subprocess
import sys
import time

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="not installed here: tmux"),
]

PATIENCE = 300
TASK = """
import time
import lvjobs

@lvjobs.task(flops=10**6)
def train(run: lvjobs.Run) -> None:
    run.resume()
    for step in range(run.step + 1, run.config.steps + 1):
        if run.config.params["fails"]:
            raise ValueError("labels.csv is missing")
        run.log(step, loss=1.0 / step)
        stop = run.should_stop()
        if stop or run.due(step):
            run.checkpoint(step, {})
        if stop:
            return
        time.sleep(0.2)
"""
STUDY = 'local_slots = 2\n[train]\ntask = "mine:train"\nsteps = 100000\ncheckpoint_every = 10\nfails = false\n'


class Terminal:
    """A program in a terminal of tmux, with a server of its own."""

    def __init__(self, directory, *words, columns=80, lines=24):
        self.socket = directory / "tmux"
        command = f"{sys.executable} -m lvjobs {' '.join(words)}; echo left with $?; sleep 1000"
        size = ["-x", str(columns), "-y", str(lines)]
        self.tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(directory), command)

    def tmux(self, *words):
        done = subprocess.run(["tmux", "-S", self.socket, *words], capture_output=True, text=True, check=False)
        return done.stdout

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def until(self, *words, gone=(), wider=0):
        """Wait until the screen shows all these words, none of `gone`, and a line of more than `wider` characters."""
        deadline = time.monotonic() + PATIENCE
        while True:
            shown = self.tmux("capture-pane", "-p")
            is_wide = max(map(len, shown.splitlines()), default=0) > wider
            if is_wide and all(word in shown for word in words) and not any(word in shown for word in gone):
                return shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.1)

    def close(self):
        self.tmux("kill-server")


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "mine.py").write_text(TASK)

    def typed(*words):
        command = [sys.executable, "-m", "lvjobs", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    typed("submit", "run", "--name", "broken", "--set", "fails=true")
    typed("submit", "run", "--name", "long")
    yield tmp_path
    typed("cancel", "broken", "long")


@pytest.fixture
def terminal(study):
    made = Terminal(study, "top", "--every", "1")
    yield made
    made.close()


def test_runs_are_explained_followed_and_cancelled_by_keys(terminal):
    shown = terminal.until("broken", "held", "running", "q quit")
    assert all(len(line) <= 80 for line in shown.splitlines())
    terminal.until("labels.csv is missing")
    terminal.press("w")
    terminal.until("why broken", "evidence", "q back", gone=["q quit"])
    terminal.press("q")
    terminal.until("q quit")
    terminal.press("Down")
    terminal.until("long: running")
    terminal.press("l")
    terminal.until("logs/long/L2.out", "of 100000, loss", "q back")
    terminal.press("Escape")
    terminal.until("q quit")
    terminal.press("c")
    terminal.until("Cancel long?")
    terminal.press("n")
    terminal.until("q quit", gone=["Cancel long?"])
    assert "running" in terminal.until("long")
    terminal.press("c")
    terminal.until("Cancel long?")
    terminal.press("y")
    terminal.until("1 cancelled", gone=["Cancel long?"])
    terminal.press("r")
    terminal.until("Submit long again?")
    terminal.press("y")
    terminal.until("1 running")
    terminal.press("q")
    terminal.until("left with 0")


def test_the_view_follows_the_size_of_the_terminal(terminal):
    terminal.until("broken", "q quit")
    terminal.tmux("resize-window", "-x", "160", "-y", "40")
    terminal.until("broken", "L2", "q quit", wider=80)
