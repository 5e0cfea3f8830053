"""Waits that a command announces."""

import io
import sys
import threading
import time

import pytest

from lvjobs.cli.spinner import _unless_it_ends, spinner


class Screen(io.StringIO):
    def isatty(self):
        return True


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_pipe_gets_one_line_with_the_bound(monkeypatch, capsys):
    monkeypatch.setenv("LVJOBS_NOTE_AFTER", "0")
    said = ""
    with spinner("Slurm", 112):
        deadline = time.monotonic() + 120
        while not (said := said + capsys.readouterr().err):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert said == "note: waiting for Slurm, at most 112 s\n"


def test_a_short_wait_says_nothing(monkeypatch, capsys):
    monkeypatch.setenv("LVJOBS_NOTE_AFTER", "3600")
    with spinner("Slurm", 5):
        pass
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_spinner_that_is_removed(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with spinner("Slurm", 112):
        until(lambda: "waiting for Slurm, at most 112 s" in screen.getvalue())
    assert screen.getvalue().rstrip().endswith("\x1b[2K"), "the line is erased"


def test_what_has_begun_is_over_when_the_block_ends():
    """Else a spinner could start after it was stopped."""
    begun, release, done = threading.Event(), threading.Event(), []

    def act():
        begun.set()
        release.wait(120)
        done.append(True)

    with _unless_it_ends(0, act):
        assert begun.wait(120)
        threading.Timer(0.2, release.set).start()
    assert done


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_passes_through(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", Screen() if terminal else io.StringIO())
    with pytest.raises(KeyError), spinner("Slurm", 1):
        raise KeyError("x")
