"""What the driver's job does while it runs: a pass, and more while something is due."""

import signal
import threading
import time
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from lvjobs.cli import cli, driver
from lvjobs.control import loop

OPEN = {"runs": [{"state": "running"}], "stages": [], "problems": []}


class Passes:
    """Stands for the study: each pass did so many things, and finds the next due in so many seconds."""

    def __init__(self, *told):
        self.told, self.times = list(told), []

    @contextmanager
    def session(self, _study, **_more):
        yield self

    def make_pass(self):
        did, seconds = self.told[min(len(self.times), len(self.told) - 1)]
        self.times.append(time.monotonic())
        self.due = None if seconds is None else time.time() + seconds
        return {**OPEN, "did": ["something"] * did}

    def gaps(self):
        return [round(two - one, 1) for one, two in zip(self.times, self.times[1:], strict=False)]


@pytest.fixture
def drive(tmp_path, monkeypatch):
    (tmp_path / "study.toml").write_text('profile = "lab"\n')
    monkeypatch.setattr(driver, "_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(driver, "_STAY_SECONDS", 2.5)

    def make(*told):
        passes = Passes(*told)
        monkeypatch.setattr(loop, "open_session", passes.session)
        result = CliRunner().invoke(cli, ["driver", "run", "--study", str(tmp_path)])
        assert result.exit_code == 75, result.output
        return passes

    return make


def wake():
    """To the thread that listens: others that this process has, unlike the driver, would take it and do nothing."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGURG)


@pytest.fixture
def wakened():
    """A worker ends so many seconds from now."""
    timers = []

    def after(seconds):
        timers.append(threading.Timer(seconds, wake))
        timers[-1].start()

    yield after
    for timer in timers:
        timer.join()


def test_one_pass_where_nothing_is_due(drive):
    assert len(drive((0, None)).times) == 1


def test_a_pass_that_did_something_is_followed_by_another(drive):
    assert len(drive((1, None), (2, None), (0, None)).times) == 3
    assert len(drive((1, None)).times) == driver._MOST_PASSES


def test_it_stays_for_what_is_due_soon_and_leaves_what_is_due_later_to_its_own_timer(drive):
    [gap] = drive((0, 0.4), (0, None)).gaps()
    assert 1.4 <= gap < 2.2, "a second later than due: then it is due by any clock"
    assert len(drive((0, 30)).times) == 1


def test_a_worker_that_ends_cuts_the_wait_short(drive, wakened):
    wakened(0.3)
    [gap] = drive((0, 2), (0, None)).gaps()
    assert 0.4 <= gap < 1.2


def test_a_worker_that_ended_while_the_pass_was_made_is_not_missed(drive, monkeypatch):
    make_pass = Passes.make_pass

    def one_ends(passes):
        if not passes.times:
            wake()
        return make_pass(passes)

    monkeypatch.setattr(Passes, "make_pass", one_ends)
    assert len(drive((0, None)).times) == 2
