"""The driver's job while it runs: a pass, and more while something is due."""

import signal
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from lvjobs.api import driver
from lvjobs.cli import cli
from lvjobs.control import loop

OPEN = {"study": "s", "runs": [{"name": "one", "state": "running"}], "stages": [], "problems": []}
OVER = {"study": "s", "runs": [{"name": "one", "state": "completed"}], "stages": [], "problems": []}


class Passes:
    """Stands for the study: each pass did so many things, and finds the next due in so many seconds.

    `over`: from which pass on all is at rest; `owed`: how many passes do not get a notice through; `awaited`: how many
    find that FLOPs may yet come back.
    """

    def __init__(self, *told, over=10_000, owed=0, awaited=0):
        self.told, self.times, self.over, self.owed, self.awaited = list(told), [], over, owed, awaited

    @contextmanager
    def session(self, _study, **_more):
        yield self

    def make_pass(self):
        did, seconds = self.told[min(len(self.times), len(self.told) - 1)]
        self.times.append(time.monotonic())
        self.due = None if seconds is None else time.time() + seconds
        self.owes_notice, self.awaits_flops = len(self.times) <= self.owed, len(self.times) <= self.awaited
        return {**(OPEN if len(self.times) < self.over else OVER), "did": ["something"] * did}

    def gaps(self):
        return [round(two - one, 1) for one, two in zip(self.times, self.times[1:], strict=False)]


@pytest.fixture
def drive(tmp_path, monkeypatch):
    (tmp_path / "study.toml").write_text('profile = "lab"\n')
    monkeypatch.setattr(driver, "_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(driver, "_STAY_SECONDS", 2.5)

    def make(*told, code=75, wanted=True, **more):
        passes = Passes(*told, **more)
        monkeypatch.setattr(loop, "open_session", passes.session)
        monkeypatch.setattr(driver, "is_wanted", lambda _: wanted)
        result = CliRunner().invoke(cli, ["driver", "run", "--study", str(tmp_path)])
        assert result.exit_code == code, result.output
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


def test_after_its_last_pass_it_waits_for_nothing(drive, monkeypatch):
    """Whoever ends meanwhile would wake it in vain."""
    monkeypatch.setattr(driver, "_MOST_PASSES", 3)
    waits = []
    monkeypatch.setattr(driver, "_is_woken", waits.append)
    assert len(drive((1, None), (1, None), (0, 2)).times) == 3
    assert len(waits) == 2


def test_its_last_pass_has_ended_before_its_script_would_end_it(drive, monkeypatch):
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time=time.time, strftime=time.strftime)

    def wait(seconds):
        now[0] += seconds

    monkeypatch.setattr(driver, "time", clock)
    monkeypatch.setattr(driver, "_is_woken", wait)
    monkeypatch.setattr(driver, "_TURN_SECONDS", 0.7)
    assert len(drive((1, None)).times) == 4, "one each 0.2 s"


def test_it_ends_where_all_is_at_rest_and_tries_again_to_tell_of_it(drive):
    assert len(drive((1, None), (0, None), over=2, code=0).times) == 2
    assert len(drive((1, None), (0, None), over=2, owed=3, code=0).times) == 4


def test_one_that_cannot_tell_of_the_end_ends_all_the_same(drive, monkeypatch):
    monkeypatch.setattr(driver, "_MOST_PASSES", 3)
    assert len(drive((0, None), over=1, owed=99, code=0).times) == 3


def test_it_does_not_end_while_flops_may_come_back_that_something_waits_for(drive):
    assert len(drive((1, None), (0, None), over=1, awaited=2).times) == 2
    assert len(drive((1, None), (0, None), over=1, awaited=1, code=0).times) == 2


def test_one_that_is_not_wanted_any_more_does_not_come_back(drive):
    drive((0, None), wanted=False, code=0)
