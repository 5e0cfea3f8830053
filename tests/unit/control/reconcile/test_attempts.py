"""The resources that an attempt held, by accounting: written when the attempt ends, or when the row comes."""

import pytest
from control_builders import NOW, TOKEN, a_done, a_job, a_member, a_run, a_view, an_attempt
from control_scenes import Scene, begun, make_haste
from simulator.engine import Manners

from lvjobs.control.reconcile.actions import SaveAttempt
from lvjobs.control.reconcile.decide import decide
from lvjobs.ledger.records import Member
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, MemberState, RunState


def a_row(state="FAILED", elapsed=60.0, gpus=2, **changes):
    return a_job(state, elapsed=elapsed, gpus=gpus, **changes)


def saved(*args, **kwargs):
    actions = decide(a_view(*args, **kwargs), Policy(), NOW)
    return [action.attempt for action in actions if isinstance(action, SaveAttempt)]


def held(*args, **kwargs):
    return [(attempt.allocated_seconds, attempt.gpus) for attempt in saved(*args, **kwargs)]


def dead(**changes):
    return an_attempt(cause=Cause.KILLED, ended=NOW - 10, **changes)


def test_an_attempt_that_ends_gets_what_it_held():
    live = a_member(a_job("FAILED"), [a_row()])
    assert held(attempts=[an_attempt()], live=live) == [(60.0, 2)]


def test_an_execution_that_claimed_nothing_held_something_all_the_same():
    assert held(live=a_member(a_job("FAILED"), [a_row(elapsed=3.0)])) == [(3.0, 2)]


def test_each_attempt_has_the_row_of_its_own_execution():
    rows = [a_row("PREEMPTED", elapsed=60.0, restart_count=0), a_row("FAILED", elapsed=7.0, gpus=1, restart_count=1)]
    live = a_member(a_job("FAILED", restart_count=1), rows)
    first, second = an_attempt(1), an_attempt(2, restart_count=1)
    assert held(attempts=[first, second], live=live) == [(60.0, 2), (7.0, 1)]


def test_a_run_that_is_done_has_its_row_too():
    live = a_member(a_job("COMPLETED"), [a_row("COMPLETED", elapsed=99.0)])
    assert held(attempts=[an_attempt()], live=live, done=a_done()) == [(99.0, 2)]


@pytest.mark.parametrize(
    "rows",
    [
        [],  # no accounting, or none yet
        [a_row("RUNNING", elapsed=40.0)],  # accounting is late
        [a_job("FAILED")],  # a row that does not say
    ],
)
def test_what_is_not_known_stays_unknown(rows):
    assert held(attempts=[an_attempt()], live=a_member(a_job("FAILED"), rows)) == [(None, None)]


def test_an_attempt_that_goes_on_has_no_row_yet():
    """Accounting may call a run of the job ended that the queue still shows."""
    live = a_member(a_job("RUNNING"), [a_row()])
    assert held(attempts=[an_attempt()], live=live, changed=[1]) == [(None, None)]


@pytest.mark.parametrize("state", [RunState.INTERRUPTED, RunState.HELD, RunState.PAUSED, RunState.COMPLETED])
def test_a_late_row_comes_with_a_later_pass(state):
    run = a_run(state=state, not_before=NOW + 100)
    other = a_member(a_job("FAILED"), [a_row()], member=Member(TOKEN, 0, "r1", state=MemberState.REVOKED))
    [attempt] = saved(run, [dead()], others=[other])
    assert attempt == dead(allocated_seconds=60.0, gpus=2)
    assert saved(run, [attempt], others=[other]) == []


def test_a_job_that_went_on_in_the_queue_has_its_earlier_row_late_too():
    live = a_member(a_job("RUNNING", restart_count=1), [a_row("PREEMPTED"), a_row("RUNNING", restart_count=1)])
    [attempt] = saved(attempts=[dead(), an_attempt(2, restart_count=1)], live=live)
    assert attempt == dead(allocated_seconds=60.0, gpus=2)


def test_nothing_is_written_for_ever():
    """Rows that do not say how long, rows of jobs that held nothing, and rows that are no longer there."""
    other = a_member(None, [a_job("FAILED")], member=Member(TOKEN, 0, "r1", state=MemberState.REVOKED))
    run = a_run(state=RunState.HELD)
    assert saved(run, [dead()], others=[other]) == []
    none = a_member(None, [a_row("CANCELLED", elapsed=0.0, gpus=None)], member=other.member)
    [attempt] = saved(run, [dead()], others=[none])
    assert (attempt.allocated_seconds, attempt.gpus) == (0.0, None)
    assert saved(run, [attempt], others=[none]) == []
    assert saved(run, [dead()]) == []


def test_another_submissions_row_is_not_its_own():
    live = a_member(a_job("PENDING", token="b" * 12), [a_row()], member=Member("b" * 12, 0, "r1"))
    assert saved(attempts=[dead()], live=live) == []


def test_a_launch_that_failed_does_not_hold_what_came_of_it():
    """Released, the job goes on under the same count of restarts, and has one row."""
    failed = an_attempt(1, generation=None, restart_count=1, cause=Cause.LAUNCH_FAILED, ended=NOW - 50)
    rows = [a_row("NODE_FAIL", elapsed=1.0), a_row("FAILED", elapsed=60.0)]
    live = a_member(a_job("FAILED", restart_count=1), rows)
    assert held(attempts=[failed, an_attempt(2, restart_count=1)], live=live) == [(60.0, 2)]
    [attempt] = saved(attempts=[failed], live=live)
    assert (attempt.id, attempt.allocated_seconds) == (0, 60.0)
    assert saved(attempts=[failed], live=a_member(a_job("PENDING", restart_count=1), rows[:1])) == []


def test_through_a_whole_study_whose_accounting_is_late(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    scene = begun(Scene(tmp_path, manners=Manners(accounting_lag=8)))
    start = scene.job().start
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(3)
    scene.one_pass()
    assert [row["allocated_seconds"] for row in scene.rows("attempts")] == [None]
    scene.go(60, every=3)
    assert scene.causes() == ["preempted", "completed"]
    left = next(job for _, job in scene.cluster.rows if job.state == "PREEMPTED")
    assert scene.rows("attempts")[0]["allocated_seconds"] == left.end - start > 0


def test_what_a_job_held_that_a_pass_cancelled_comes_with_the_next(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    scene = begun(Scene(tmp_path, hung_seconds=60))
    job = scene.job()
    monkeypatch.setattr(scene.cluster, "_on_step", lambda _job: None)
    scene.cluster.advance(100)
    scene.make_pass()
    assert scene.causes()[0] == "hung"
    assert scene.rows("attempts")[0]["allocated_seconds"] == job.end - job.start > 100
