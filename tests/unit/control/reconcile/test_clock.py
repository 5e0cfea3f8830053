"""This host's clock is set, an hour ahead or back, between passes: Slurm's and the nodes' go on as they were."""

import pytest
from control_builders import NOW, a_run
from control_scenes import Scene, begun, check, make_haste

from lvjobs.control import loop
from lvjobs.control.loop import open_session
from lvjobs.control.reconcile.hang import Watch, grown_at, silent_for
from lvjobs.control.reconcile.policy import waits_until
from lvjobs.study.tables import Policy
from lvjobs.worker.generation import newest_generation

HOUR = 3600.0
JUMPS = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "back"])


class Elsewhen(Scene):
    """A scene whose passes go by a clock that is `off` by so many seconds."""

    off = 0.0

    def session(self):
        return open_session(self.study, wait=5, factory=lambda *_: self.shown, clock=lambda: self.clock.now + self.off)

    def long_step(self, seconds):
        """Time passes, and the job is in the midst of a step."""
        self.clock.now += seconds


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: Elsewhen(tmp_path, **more)


def to_the_end(scene, seconds=600):
    """Return the time that it takes, with a pass every 15 seconds."""
    for passed in range(0, seconds, 15):
        if scene.state() in ("completed", "held") and not scene.is_busy():
            return passed
        scene.cluster.advance(15)
        scene.one_pass()
    raise AssertionError(f"{scene.state()}: {scene.run()['reason']}")


@JUMPS
def test_a_run_that_trains_is_left_alone(make, jump, fault):
    scene = begun(make(steps=40))
    for off in (jump, 0.0, jump):
        scene.off = off
        for _ in range(3):
            scene.long_step(15)
            scene.one_pass()
        scene.cluster.advance(5)
    to_the_end(scene)
    assert scene.causes() == ["completed"]
    assert len(scene.jobs()) == 1
    fault("clock", scene)


@JUMPS
def test_a_job_that_has_only_just_begun_is_left_alone(make, jump, fault):
    """Its worker loads, and has no journal yet: when it began is told by Slurm's clock, and by no pass's."""
    scene = make(steps=12)
    scene.enter("one")
    scene.cluster.advance(1)
    assert (scene.job().state, newest_generation(scene.files())) == ("RUNNING", 0)
    scene.one_pass()
    for off in (jump, 0.0, jump):
        scene.off = off
        scene.long_step(15)
        scene.one_pass()
    to_the_end(scene)
    assert scene.causes() == ["completed"]
    fault("clock", scene)


def test_a_host_whose_clock_is_ahead_from_the_first_does_not_call_a_job_hung_that_began(make):
    scene = make(steps=12)
    scene.off = HOUR
    scene.enter("one")
    scene.cluster.advance(1)
    for _ in range(5):
        scene.long_step(15)
        scene.one_pass()
    to_the_end(scene)
    assert scene.causes() == ["completed"]


def long_watched(scene):
    """For longer than a silence may be, passes have followed one another closely."""
    for _ in range(8):
        scene.long_step(280)
        scene.one_pass()
    return scene


@pytest.mark.parametrize("behind", [2.0, 45.0, 300.0])
def test_a_job_that_begins_ahead_of_the_passes_clock_is_no_silence_however_long_they_have_watched(make, behind):
    """Slurm's host is ahead by as much, or the pass took its time before it asked."""
    scene = make(steps=40)
    scene.off = -behind
    long_watched(scene)
    scene.enter("one")
    scene.cluster.advance(1)
    assert (scene.job().state, newest_generation(scene.files())) == ("RUNNING", 0)
    for _ in range(3):
        scene.one_pass()
        scene.long_step(1)
    assert scene.state() == "running"
    to_the_end(scene)
    assert scene.causes() == ["completed"]


@pytest.mark.parametrize("back", [40.0, 300.0])
def test_a_clock_that_is_set_back_a_little_makes_no_run_hung(make, back):
    scene = begun(long_watched(make(steps=40)))
    scene.one_pass()
    scene.off = -back
    for _ in range(4):
        scene.long_step(3)
        scene.one_pass()
    assert scene.causes() == [None]


def test_a_silence_is_seen_though_two_hosts_whose_clocks_differ_make_passes(make, monkeypatch):
    scene = begun(make(steps=40))
    monkeypatch.setattr(loop, "machine", lambda: f"host {scene.off}")
    silent = scene.clock.now
    while scene.causes()[0] is None:
        for off in (5.0, 0.0):
            scene.off = off
            scene.long_step(3)
            scene.one_pass()
        scene.long_step(250)
        assert scene.clock.now - silent < Policy().hung_seconds + 600
    assert scene.causes()[0] == "hung"


@JUMPS
def test_a_silence_that_is_one_is_seen_all_the_same(make, jump, fault):
    scene = begun(make(steps=40))
    scene.long_step(600)
    scene.one_pass()
    scene.off = jump
    seconds = 0
    while scene.causes()[0] is None:
        scene.long_step(60)
        scene.one_pass()
        seconds += 60
    assert scene.causes()[0] == "hung"
    assert seconds <= Policy().hung_seconds + 120
    to_the_end(scene)
    assert (scene.state(), len(scene.jobs())) == ("completed", 2)
    fault("clock", scene)


@pytest.mark.parametrize("off", [0.0, 100.0, -100.0], ids=["right", "ahead", "behind"])
def test_the_last_line_tells_when_a_silence_began(make, off):
    """By a clock that is right to the second; by another one as nearly as two passes that follow one another."""
    scene = begun(make(steps=40, hung_seconds=400))
    scene.off = off
    scene.one_pass()
    scene.cluster.advance(30)
    last = scene.clock.now
    scene.long_step(90)
    scene.one_pass()
    for expected in (last + 210, last + 300):
        scene.long_step(expected - scene.clock.now)
        with scene.session() as session:
            session.make_pass()
        error = {0.0: 0, 100.0: -30, -100.0: 90}[off]  # the passes were 30 seconds before the line and 90 after it
        assert session.due == pytest.approx(last + 400 + error + off, abs=1)
    scene.long_step(session.due - off - scene.clock.now - 2)
    scene.one_pass()
    assert scene.causes()[0] is None
    scene.long_step(4)
    scene.one_pass()
    assert scene.causes()[0] == "hung"


@pytest.mark.parametrize("off", [100.0, -100.0], ids=["ahead", "behind"])
def test_a_run_that_says_something_within_half_of_the_bound_is_not_hung_whatever_clocks_say(make, off):
    scene = begun(make(steps=40, hung_seconds=240))
    scene.off = off
    for _ in range(6):
        scene.one_pass()
        scene.long_step(115)
        scene.one_pass()
        scene.cluster.advance(4)
    assert scene.causes() == [None]


@JUMPS
@pytest.mark.parametrize("before", [0.0, HOUR, -HOUR])
def test_a_back_off_ends(make, jump, before, fault):
    scene = begun(make(steps=40))
    scene.off = before
    scene.one_pass()
    for _ in range(3):  # the third is backed off for a minute
        job = scene.reach(6)
        scene.cluster.kill(job.id)
        scene.one_pass()
    assert scene.run()["not_before"] - scene.clock.now - scene.off == 60
    scene.off += jump
    assert to_the_end(scene) < 240
    assert scene.causes() == ["killed"] * 3 + ["completed"]
    assert len(scene.jobs()) == 4
    fault("clock", scene)


@JUMPS
@pytest.mark.parametrize("before", [0.0, HOUR])
def test_a_job_that_is_nowhere_is_replaced_once_and_soon(make, jump, before, fault):
    scene = begun(make(steps=40))
    scene.off = before
    lost = scene.job()
    scene.cluster.forget()
    scene.cluster.accounting = "off"
    scene.one_pass()
    scene.one_pass()
    assert scene.causes() == [None]
    scene.off += jump
    assert to_the_end(scene) < 300
    assert scene.is_revoked(lost)
    assert len(scene.jobs()) == 1, "beside the one that is forgotten"
    fault("clock", scene)


@JUMPS
def test_a_submission_whose_answer_was_lost_is_looked_for_and_adopted(make, jump, fault):
    scene = make(steps=12)
    scene.cluster.submit_faults.append("lost")
    scene.enter("one")
    scene.off = jump
    to_the_end(scene)
    assert scene.causes() == ["completed"]
    assert len(scene.jobs()) == 1
    fault("clock", scene)


def test_the_clock_goes_to_and_fro_while_a_cluster_misbehaves(make, fault):
    scene = make(steps=60)
    scene.enter("one", "two")
    for turn in range(60):
        scene.off = (0.0, HOUR, 0.0, -HOUR)[turn % 4]
        scene.cluster.advance(15)
        if turn in (2, 9, 20):
            for job in scene.cluster.jobs:
                if job.state == "RUNNING":
                    scene.cluster.preempt(job.id)
        if turn == 1:
            scene.cluster.kill(scene.job("two").id)
        scene.one_pass()
    scene.off = 0.0
    scene.go(300)
    check(scene)
    assert {scene.state(name) for name in ("one", "two")} == {"completed"}
    assert not {"hung", "lost", "node_fail"} & {*scene.causes("one"), *scene.causes("two")}
    assert (len(scene.jobs("one")), len(scene.jobs("two"))) == (1, 2)
    fault("clock", scene)


# -- pure ------------------------------------------------------------------------------------------------------------


def test_passes_that_follow_one_another_closely_are_a_watch():
    watch = Watch().at(NOW, 1800, "a", 50)
    assert watch == Watch(NOW, NOW, "a", 50)
    assert watch.at(NOW + 1800, 1800, "b", 7) == Watch(NOW + 1800, NOW, "b", 7)
    assert watch.at(NOW + 1801, 1800, "b", 7) == Watch(NOW + 1801, NOW + 1801, "b", 7)
    assert watch.at(NOW + 600, 60, "b", 7).since == NOW, "a driver makes one every two minutes"
    assert watch.at(NOW - 1, 1800, "b", 7) == watch, "by another host's clock"
    assert watch.at(NOW - 361, 1800, "b", 7) == Watch(NOW - 361, NOW - 361, "b", 7)


def test_a_machine_knows_how_long_nobody_looked():
    watch = Watch(NOW, NOW - 100, "a", 50)
    assert watch.at(NOW + 9000, 1800, "a", 50 + 9000).since == NOW - 100
    assert watch.at(NOW + 9000, 1800, "a", 50 + 5400).since == NOW + 9000, "its clock was set ahead by an hour"
    assert watch.at(NOW + 9000, 1800, "b", 50 + 9000).since == NOW + 9000, "and another machine's is another"


@pytest.mark.parametrize(
    ("quiet_since", "watched", "silence"),
    [
        (NOW - 50, NOW - 70, 50),
        (NOW - 50, NOW - 30, 30),
        (NOW + 3000, NOW - 30, 30),
        (NOW, NOW - 30, 0),
        (NOW + 2, NOW - HOUR, 0),
        (NOW + 300, NOW - HOUR, 0),
        (NOW - 50, NOW + 9, 0),
    ],
)
def test_only_what_was_watched_is_silence(quiet_since, watched, silence):
    assert silent_for(quiet_since, watched, NOW) == silence


@pytest.mark.parametrize(
    ("last", "said", "grown"),
    [
        (NOW - 121, NOW - 60, NOW - 60),
        (NOW - 121, NOW - HOUR, NOW - 121),
        (NOW - 121, NOW + HOUR, NOW),
        (NOW - 121, float("nan"), NOW - 121),
        (NOW - HOUR, NOW - HOUR, NOW - 900),
        (NOW + HOUR, NOW - 60, NOW),
        (0.0, NOW - HOUR, NOW - 900),
    ],
)
def test_a_journal_that_grew_did_so_since_the_last_pass_and_within_half_of_the_bound(last, said, grown):
    assert grown_at(said, Watch(last).growing_from(NOW, 1800), NOW) == grown


@pytest.mark.parametrize(
    ("not_before", "due"), [(0.0, True), (NOW, True), (NOW + 1, False), (NOW + 240, False), (NOW + 241, True)]
)
def test_a_back_off_that_is_longer_than_any_was_set_by_another_clock(not_before, due):
    assert (waits_until(a_run(not_before=not_before), Policy(), NOW) is None) == due
