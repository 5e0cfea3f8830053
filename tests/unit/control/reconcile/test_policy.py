"""The consequences of a failure."""

import pytest
from control_builders import NOW, a_run, an_attempt

from lvjobs.control.reconcile.classify import Failure
from lvjobs.control.reconcile.policy import Verdict, at_rung, verdict, waits_until
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, HeldFor, LeaveCause, RunState


def after(*causes, gained=True, run=None, policy=None):
    """The verdict after these deaths in a row, each with a new checkpoint (or none)."""
    ended = [
        an_attempt(number, cause=cause, resumed_from=0, checkpoint_step=250 if gained else 0)
        for number, cause in enumerate(causes, start=1)
    ]
    return verdict(run or a_run(), ended, Failure(causes[-1], "seen"), policy or Policy(), NOW)


def test_the_user_meant_it():
    assert after(Cause.CANCELLED) == Verdict(RunState.CANCELLED)


def test_a_code_error_is_never_retried():
    outcome = after(Cause.CODE_ERROR)
    assert outcome.state is RunState.HELD
    assert "lvjobs resume one" in outcome.reason


@pytest.mark.parametrize("cause", [Cause.PREEMPTED, Cause.NODE_FAIL, Cause.TIMEOUT])
def test_infrastructure_costs_no_retries(cause):
    assert after(*[cause] * 50).state is RunState.INTERRUPTED


def test_it_backs_off_for_an_hour_at_most_however_often_it_is_forgiven():
    patient = Policy(killed_retries=10**6, backoff_seconds=1)
    delays = [after(*[Cause.KILLED] * times, policy=patient).not_before - NOW for times in (2, 3, 14, 3000)]
    assert delays == [1, 2, 3600, 3600]
    assert waits_until(a_run(not_before=NOW + 3600), patient, NOW) == NOW + 3600
    slow = Policy(backoff_seconds=7200)
    assert after(Cause.KILLED, Cause.KILLED, policy=slow).not_before == NOW + 7200


def test_a_kill_is_forgiven_five_times_backing_off_from_the_second():
    delays = []
    for times in range(1, 6):
        outcome = after(*[Cause.KILLED] * times)
        assert outcome.state is RunState.INTERRUPTED
        delays.append(outcome.not_before and outcome.not_before - NOW)
    assert delays == [0, 30, 60, 120, 240]
    outcome = after(*[Cause.KILLED] * 6)
    assert outcome.state is RunState.HELD
    assert outcome.reason.startswith("killed 6 times in a row")


def test_a_long_run_on_a_bad_cluster_is_counted_anew_whenever_it_gets_on():
    spell = [Cause.KILLED] * 3 + [Cause.PREEMPTED]
    assert after(*spell * 9, Cause.KILLED).state is RunState.INTERRUPTED
    outcome = after(*spell * 9, *[Cause.KILLED] * 2)
    assert outcome.not_before - NOW == 30, "as after the second, not the 29th"
    stuck = [an_attempt(n, cause=Cause.PREEMPTED, checkpoint_step=0) for n in (4, 8)]
    ended = [an_attempt(n, cause=Cause.KILLED, checkpoint_step=250) for n in (1, 2, 3)] + stuck[:1]
    ended += [an_attempt(n, cause=Cause.KILLED, checkpoint_step=250) for n in (5, 6, 7)]
    assert verdict(a_run(), ended, Failure(Cause.KILLED, ""), Policy(), NOW).state is RunState.HELD, (
        "it did not get on between"
    )


def test_memory_that_was_too_small_is_counted_in_all():
    run = a_run(resources={"memory_mb": 1000})
    twice = [Cause.OUT_OF_MEMORY, Cause.PREEMPTED] * 2
    assert after(*twice[:3], run=run).state is RunState.INTERRUPTED
    assert after(*twice, Cause.OUT_OF_MEMORY, run=run).state is RunState.HELD


def test_causes_are_counted_apart():
    assert after(*[Cause.KILLED] * 5, *[Cause.LAUNCH_FAILED] * 5).state is RunState.INTERRUPTED


@pytest.mark.parametrize("cause", [Cause.KILLED, Cause.LAUNCH_FAILED, Cause.HUNG, Cause.TIMEOUT])
def test_three_deaths_without_a_new_checkpoint_hold_it(cause):
    assert after(cause, cause, gained=False).state is RunState.INTERRUPTED
    outcome = after(cause, cause, cause, gained=False)
    assert outcome.state is RunState.HELD
    assert "3 times in a row without a new checkpoint" in outcome.reason


def test_a_new_checkpoint_begins_the_count_anew():
    deaths = [an_attempt(n, cause=Cause.KILLED, checkpoint_step=250 * (n == 2)) for n in (1, 2, 3, 4)]
    assert verdict(a_run(), deaths, Failure(Cause.KILLED, ""), Policy(), NOW).state is RunState.INTERRUPTED


def test_the_cluster_is_forgiven_longer_but_not_for_ever():
    assert after(*[Cause.PREEMPTED] * 2, gained=False).reason == ""
    assert "3 times in a row" in after(*[Cause.PREEMPTED] * 3, gained=False).reason
    assert after(*[Cause.PREEMPTED] * 9, gained=False).state is RunState.INTERRUPTED
    assert after(*[Cause.PREEMPTED] * 10, gained=False).state is RunState.HELD


def test_out_of_memory_asks_for_half_as_much_again_twice():
    run = a_run(resources={"memory_mb": 1000})
    assert after(Cause.OUT_OF_MEMORY, run=run).resources == {"memory_mb": 1500}
    assert after(*[Cause.OUT_OF_MEMORY] * 2, run=run).state is RunState.INTERRUPTED
    assert after(*[Cause.OUT_OF_MEMORY] * 3, run=run).state is RunState.HELD


def test_out_of_memory_with_no_figure_to_raise_asks_the_user():
    assert "memory" in after(Cause.OUT_OF_MEMORY).reason


def test_what_the_user_forgave_no_longer_counts():
    assert after(*[Cause.KILLED] * 6, run=a_run(forgiven_until=5)).state is RunState.INTERRUPTED


@pytest.mark.parametrize(
    ("cause", "leave_cause", "saved", "waits"),
    [
        (Cause.COMPLETED, LeaveCause.RUNG, 250, True),
        (Cause.PREEMPTED, LeaveCause.PREEMPTED, 250, True),
        (Cause.CANCELLED, LeaveCause.EXHAUSTED, 250, True),
        (Cause.KILLED, LeaveCause.NONE, 200, False),
        (Cause.CANCELLED, LeaveCause.EXHAUSTED, 200, False),
        (Cause.CANCELLED, LeaveCause.CANCELLED, 250, False),
        (Cause.CODE_ERROR, LeaveCause.NONE, 250, False),
    ],
)
def test_a_run_with_the_checkpoint_of_its_rung_waits_there_unless_its_user_or_its_code_ended_it(
    cause, leave_cause, saved, waits
):
    ended = [an_attempt(1, cause=cause, leave_cause=leave_cause, checkpoint_step=saved)]
    found = at_rung(a_run(stop_at=250), ended, cause)
    assert (found is not None) is waits
    assert found is None or (found.state, found.held_for) == (RunState.PAUSED, HeldFor.RUNG)
