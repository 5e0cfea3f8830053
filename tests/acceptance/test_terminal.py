"""The screen of somebody at a terminal: `lvjobs status -w` on a pseudo-terminal, until it ends or they leave."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from driving import Study

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal of 90 columns in which one command was typed."""

    def __init__(self, study: Study, *arguments: str):
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lvjobs", *arguments],
            cwd=study.root,
            env={**os.environ, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def press(self, keys: str):
        """Type these keys, such as Ctrl-C."""
        os.write(self._fd, keys.encode())

    def interrupt(self):
        """Ctrl-C, as a terminal sends it where keys are not read one by one."""
        self._process.send_signal(signal.SIGINT)

    def read_until(self, text: str, seconds=120):
        """Read on until `text` was shown again."""
        seen, deadline = len(self.shown), time.monotonic() + seconds
        while text not in self.shown[seen:]:
            assert time.monotonic() < deadline, f"{text!r} was not shown\n{self.shown}"
            assert self._read(), f"{text!r} was not shown before the end\n{self.shown}"

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._fd)
        return self._process.wait(600)

    def _read(self) -> bool:
        if not select.select([self._fd], [], [], 1)[0]:
            return True
        try:
            new = os.read(self._fd, 65536)
        except OSError:  # what Linux says of a terminal that nobody holds any more
            return False
        self.shown += CONTROL.sub("", self._decoder.decode(new))
        return bool(new)


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path, profile="local")


def test_the_live_view_is_left_by_ctrl_c_and_a_pipe_ends_with_the_study(study):
    study.submit("run", "--steps", "100000")
    terminal = Terminal(study, "status", "-w", "--every", "1")
    terminal.read_until("running")
    terminal.read_until("budget:")
    study.reach("run", 20)
    terminal.read_until("left")
    terminal.press("\x03")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown
    assert study.run("run")["state"] == "running"
    study.type("cancel", "run")
    assert "cancelled" in study.type("status", "-w")


def test_what_cannot_be_drawn_again_is_refused(study):
    for arguments in (["run", "-w"], ["-w", "--json"]):
        assert "leave out" in study.type("status", *arguments, code=2)


def test_the_steps_of_a_log_that_is_followed_are_a_bar(study):
    study.submit("run", "--steps", "100000")
    study.reach("run", 20)
    terminal = Terminal(study, "logs", "run", "-f")
    terminal.read_until("training from step 0 of 100000")
    terminal.read_until("of 100000")
    terminal.read_until("━")
    terminal.read_until("0 %")
    terminal.read_until("loss ")
    assert "worker: step " not in terminal.shown, "steps are no lines of their own"
    terminal.interrupt()
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert "lvjobs worker: step 1 of 100000" in study.type("logs", "run"), "in a pipe they are"
    study.type("cancel", "run")
