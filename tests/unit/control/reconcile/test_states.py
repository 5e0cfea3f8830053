"""States of live jobs that are neither waiting nor running: suspended ones, and those that lvjobs does not know."""

import pytest
from control_builders import NOW, TOKEN, a_job, a_member
from control_scenes import Scene, begun, make_haste

from lvjobs.cluster.protocol import Job
from lvjobs.cluster.states import ENDED_STATES
from lvjobs.control.reconcile.hang import Rest, Watch
from lvjobs.ledger.records import Member

UNKNOWN = ["RESV_DEL_HOLD", "EXPEDITING", "POWER_UP_NODE", "REVOKED", "?", "OF_A_LATER_RELEASE"]
BOUND = 60


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: Scene(tmp_path, hung_seconds=BOUND, **more)


def reports(scene, state):
    return [row["text"] for row in scene.rows("events") if f"reports its job as {state}," in row["text"]]


@pytest.mark.parametrize("state", UNKNOWN)
def test_a_waiting_job_in_an_unknown_state_is_alive_and_is_reported_once(make, state):
    scene = make(steps=40)
    scene.enter("one")
    scene.cluster.call(scene.job().id, state)
    told = [line for _ in range(5) for line in (scene.cluster.advance(60), scene.one_pass())[1]]
    assert [line for line in told if state in line] == [
        f"one: Slurm reports its job as {state}, a state unknown to lvjobs; treated as active"
    ]
    assert (scene.state(), scene.run()["reason"]) == (
        "queued",
        f"Slurm says {state}: other jobs have a higher priority (Priority)",
    )
    scene.cluster.call(scene.job().id, "")
    scene.one_pass()
    scene.cluster.call(scene.job().id, state)
    scene.make_pass()
    scene.cluster.call(scene.job().id, "")
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.causes() == ["completed"]
    assert len(scene.jobs()) == len(reports(scene, state)) == 1


@pytest.mark.parametrize("state", UNKNOWN)
def test_a_running_job_in_an_unknown_state_is_left_alone(make, state):
    scene = begun(make(steps=40))
    scene.cluster.call(scene.job().id, state)
    scene.cluster.advance(5)
    scene.make_pass()
    assert (scene.state(), scene.run()["reason"]) == ("running", f"Slurm says {state}")
    scene.go(60)
    scene.cluster.call(scene.job().id, "")
    scene.go(30)
    assert scene.state() == "completed"
    assert scene.causes() == ["completed"]
    assert len(scene.jobs()) == len(reports(scene, state)) == 1


def test_the_states_that_end_a_job_are_listed():
    assert all(Job("1", TOKEN, 0, state).is_ended for state in ENDED_STATES)
    assert not any(Job("1", TOKEN, 0, state).is_ended for state in ("PENDING", "RUNNING", "SUSPENDED", *UNKNOWN))


def test_a_suspended_job_is_not_hung_nor_is_it_after_it_was_resumed(make):
    scene = begun(make(steps=40))
    job = scene.job()
    scene.cluster.suspend(job.id)
    for _ in range(20):
        scene.cluster.advance(15)
        scene.one_pass()
        assert (scene.state(), scene.run()["reason"]) == ("running", f"job {job.id} is suspended (SUSPENDED)")
    scene.clock.now += 4 * BOUND  # nobody looks, and it is resumed just before somebody does
    scene.cluster.resume(job.id)
    scene.make_pass()
    assert (scene.state(), scene.run()["reason"]) == ("running", "")
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.causes() == ["completed"]
    assert len(scene.jobs()) == 1


def test_a_job_that_was_suspended_between_two_passes_is_not_hung(make):
    scene = begun(make(steps=40))
    job = scene.job()
    for _ in range(2):
        scene.cluster.suspend(job.id)
        scene.cluster.advance(5 * BOUND)
        scene.cluster.resume(job.id)
        scene.make_pass()
        assert scene.state() == "running"
        scene.reach(job.step + 1)
    scene.go(60)
    assert scene.causes() == ["completed"]
    assert len(scene.jobs()) == 1


def test_a_stopped_job_is_not_hung_nor_is_it_after_it_was_continued(make):
    scene = begun(make(steps=40))
    job = scene.job()
    scene.worker.dumb.add("one")
    scene.cluster.call(job.id, "STOPPED")
    scene.go(5 * BOUND)
    scene.cluster.call(job.id, "")
    scene.worker.dumb.clear()
    scene.make_pass()
    assert scene.state() == "running"
    scene.go(60)
    assert scene.causes() == ["completed"]
    assert len(scene.jobs()) == 1


def test_a_job_that_hangs_after_it_was_resumed_is_hung_after_the_usual_bound(make):
    scene = begun(make(steps=40))
    job = scene.job()
    scene.cluster.suspend(job.id)
    scene.cluster.advance(5 * BOUND)
    scene.cluster.resume(job.id)
    scene.worker.dumb.add("one")
    resumed = scene.clock.now
    while scene.causes() == [None]:
        assert scene.clock.now - resumed < 2 * BOUND
        scene.one_pass()
        scene.cluster.advance(15)
    assert scene.causes() == ["hung"]
    assert scene.clock.now - resumed > BOUND


def test_what_a_suspended_job_missed_is_no_part_of_its_time_limit(make):
    scene = make(steps=40)
    scene.enter("one", time_limit="2m")
    job = scene.reach(6)
    scene.cluster.suspend(job.id)
    scene.go(180)
    scene.cluster.resume(job.id)
    scene.go(60)
    assert scene.causes() == ["completed"]


# -- the watch over rests ---------------------------------------------------------------------------------------------


def rests(watch, now, job, **member):
    return watch.with_rests([a_member(job, member=Member(TOKEN, 0, "r1", **member))], now)


def test_a_rest_counts_once_and_what_squeue_rounds_counts_as_none():
    watch = rests(Watch(NOW, NOW - 500), NOW, a_job("RUNNING", suspended=4.0))
    assert watch.rests == {}
    watch = rests(watch, NOW, a_job("RUNNING", suspended=90.0))
    assert watch.rests == {f"{TOKEN}.0": Rest(f"{TOKEN}.0", 0, 90.0, NOW)}
    assert watch.since_for(a_member()) == NOW
    assert rests(watch, NOW + 50, a_job("RUNNING", suspended=92.0)) == watch
    assert rests(watch, NOW + 50, None) == watch, "a scheduler that did not answer"
    assert rests(watch, NOW + 50, a_job("RUNNING", suspended=120.0)).since_for(a_member()) == NOW + 50
    assert watch.at(NOW + 60, 100, "", 0).rests == watch.rests
    assert watch.with_rests([], NOW).rests == {}


def test_the_next_execution_of_a_job_has_rests_of_its_own():
    watch = rests(Watch(), NOW, a_job("SUSPENDED"))
    assert watch.rests == {f"{TOKEN}.0": Rest(f"{TOKEN}.0", 0, None, NOW)}
    again = rests(watch, NOW + 9, a_job("RUNNING", restart_count=1))
    assert again.rests == {}
    assert rests(watch, NOW + 9, a_job("PENDING")).rests == {}
    assert rests(watch, NOW + 9, a_job("RUNNING")).rests == {f"{TOKEN}.0": Rest(f"{TOKEN}.0", 0, 0.0, NOW + 9)}
