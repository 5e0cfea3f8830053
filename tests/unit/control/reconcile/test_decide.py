"""The decisions of a pass about one run: a table of situations."""

from dataclasses import replace

import pytest
from control_builders import NOW, TOKEN, a_done, a_job, a_member, a_run, a_view, an_attempt

from lvjobs.cluster.protocol import Job
from lvjobs.control.reconcile.actions import (
    Adopt,
    AvoidNode,
    CancelJob,
    LiftHold,
    MarkMissing,
    Release,
    Revoke,
    SaveAttempt,
    SetRun,
    Settle,
    Submit,
)
from lvjobs.control.reconcile.decide import decide, due
from lvjobs.ledger.records import Member, SubmissionRecord
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, LeaveCause, MemberState, RunState


def decided(*args, policy=None, **kwargs):
    return decide(a_view(*args, **kwargs), policy or Policy(), NOW)


def of(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def state(actions):
    """The state that the last SetRun leaves the run in."""
    return of(actions, SetRun)[-1].state


RUNNING = a_member(a_job("RUNNING", start=NOW - 500))


@pytest.mark.parametrize(
    ("view", "when"),
    [
        (a_view(live=RUNNING, attempts=[an_attempt(grown=NOW - 40)]), 60),
        (a_view(live=RUNNING, attempts=[an_attempt(grown=NOW - 140)]), 0),
        (a_view(live=RUNNING, attempts=[an_attempt(grown=NOW - 40)], changed=[1]), None),
        (a_view(live=RUNNING, attempts=[an_attempt(grown=NOW - 140, cause=Cause.PREEMPTED)]), 0),
        (a_view(live=a_member(a_job("RUNNING", start=NOW - 30))), 70),
        (a_view(live=a_member(a_job("PENDING"))), None),
        (a_view(live=a_member()), None),
        (a_view(a_run(state=RunState.INTERRUPTED, not_before=NOW + 33)), 33),
        (a_view(a_run(state=RunState.INTERRUPTED, not_before=NOW - 33)), None),
        (a_view(a_run(state=RunState.INTERRUPTED, not_before=NOW + 99_999)), None),  # a clock that was ahead set it
        (a_view(a_run(state=RunState.HELD, not_before=NOW + 33)), None),
        (a_view(a_run(state=RunState.CANCELLED, not_before=NOW + 33)), None),
        (a_view(live=RUNNING, attempts=[an_attempt()], done=a_done()), None),
    ],
)
def test_what_is_due_though_nothing_happens(view, when):
    """The end of a silence, or of a back-off."""
    assert due(view, Policy(hung_seconds=100), NOW) == (None if when is None else NOW + when)


def test_a_silence_is_due_only_as_far_as_it_was_watched():
    view = a_view(live=RUNNING, attempts=[an_attempt(grown=NOW - 140)])
    assert due(view, Policy(hung_seconds=100), NOW, NOW - 10) == NOW + 90


UNSENT = SubmissionRecord(TOKEN, "lab", "slurm", NOW - 200, job_id=None)


# -- entering ------------------------------------------------------------------------------------------------------


def test_a_planned_run_is_submitted():
    assert decided(a_run(state=RunState.PLANNED)) == [Submit("r1")]


def test_a_run_that_backs_off_waits():
    assert decided(a_run(state=RunState.INTERRUPTED, not_before=NOW + 1)) == []
    assert decided(a_run(state=RunState.INTERRUPTED, not_before=NOW)) == [Submit("r1")]


@pytest.mark.parametrize("resting", [RunState.HELD, RunState.PAUSED])
def test_a_resting_run_rests(resting):
    assert decided(a_run(state=resting)) == []


def test_a_queued_job_makes_a_queued_run():
    actions = decided(live=a_member(a_job("PENDING", reason="Priority")))
    assert actions == [SetRun("r1", RunState.QUEUED, reason="other jobs have a higher priority (Priority)")]


def test_a_job_without_a_claim_is_starting():
    actions = decided(live=a_member(a_job("RUNNING", start=NOW - 3)))
    assert actions == [SetRun("r1", RunState.RUNNING, reason="starting")]


# -- submissions whose answer is missing ---------------------------------------------------------------------------


def test_a_job_that_is_found_by_its_token_is_adopted():
    actions = decided(live=a_member(Job("99_3", TOKEN, 3, "PENDING"), submission=UNSENT))
    assert of(actions, Adopt) == [Adopt(TOKEN, "99")]
    assert not of(actions, Submit)


def test_a_job_that_only_accounting_knows_is_adopted():
    done = a_job("FAILED", id="99", exit_code=1, exit_signal=0)
    actions = decided(live=a_member(None, [done], submission=UNSENT))
    assert of(actions, Adopt) == [Adopt(TOKEN, "99")]


def test_nothing_follows_from_a_silent_scheduler():
    assert decided(live=a_member(submission=UNSENT, queue_known=False)) == []
    assert decided(attempts=[an_attempt()], live=a_member(queue_known=False)) == []


def test_an_unknown_token_is_looked_for_twice_before_it_is_given_up():
    actions = decided(live=a_member(submission=UNSENT))
    assert actions == [MarkMissing(TOKEN, "r1", NOW)]
    early = Member(TOKEN, 0, "r1", missing_since=NOW - 29)
    assert decided(live=a_member(member=early, submission=UNSENT)) == []
    late = Member(TOKEN, 0, "r1", missing_since=NOW - 30)
    actions = decided(live=a_member(member=late, submission=UNSENT))
    assert of(actions, Revoke) == [Revoke(TOKEN, "r1")]
    assert state(actions) is RunState.PLANNED
    assert not of(actions, Submit), "the next pass submits it: by then the revocation is durable"


def test_an_accounting_outage_is_not_a_death():
    late = Member(TOKEN, 0, "r1", missing_since=NOW - 1000)
    assert decided(attempts=[an_attempt()], live=a_member(member=late, history_known=False)) == []


def test_a_worker_that_claimed_the_run_proves_the_submission():
    actions = decided(attempts=[an_attempt(job_id="99")], live=a_member(submission=UNSENT))
    assert of(actions, Adopt) == [Adopt(TOKEN, "99")]


# -- running -------------------------------------------------------------------------------------------------------


def test_a_running_attempt_runs():
    actions = decided(attempts=[an_attempt()], live=a_member(a_job("RUNNING")), changed=[1])
    assert actions == [SaveAttempt(an_attempt()), SetRun("r1", RunState.RUNNING)]


def test_a_quiet_attempt_is_hung_cancelled_and_resubmitted():
    attempt = an_attempt(grown=NOW - 1801, checkpoint_step=250)
    actions = decided(attempts=[attempt], live=a_member(a_job("RUNNING")))
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.HUNG
    assert of(actions, CancelJob) == [CancelJob("17", "r1", "slurm")]
    assert of(actions, Revoke)
    assert of(actions, Submit)


def test_a_job_that_never_claims_is_hung_too():
    actions = decided(live=a_member(a_job("RUNNING", start=NOW - 1801)))
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.HUNG
    assert of(actions, CancelJob)


# -- requeued in place ---------------------------------------------------------------------------------------------


def requeued(**changes):
    return a_job("PENDING", restart_count=1, reason="BeginTime", start=NOW + 110, **changes)


def test_a_preempted_job_waits_under_its_id_and_its_hold_is_lifted_once():
    attempt = an_attempt(leave_cause=LeaveCause.PREEMPTED, signal="SIGTERM", checkpoint_step=300)
    actions = decided(attempts=[attempt], live=a_member(requeued()))
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.PREEMPTED
    assert state(actions) is RunState.INTERRUPTED
    assert of(actions, LiftHold) == [LiftHold("17", "r1", "slurm", TOKEN, 1)]
    assert not of(actions, Submit)
    assert not of(actions, Revoke)
    lifted = a_member(requeued(), member=Member(TOKEN, 0, "r1", hold_lifted=1))
    assert not of(decided(attempts=[replace(attempt, cause=Cause.PREEMPTED)], live=lifted), LiftHold)


def test_a_hold_that_ends_soon_is_left_alone():
    ended = an_attempt(cause=Cause.PREEMPTED, checkpoint_step=300)
    assert not of(decided(attempts=[ended], live=a_member(replace(requeued(), start=NOW + 9))), LiftHold)


def test_a_first_start_that_waits_for_its_begin_time_is_left_alone():
    assert not of(decided(live=a_member(requeued())), LiftHold)


def test_a_queue_that_was_asked_before_the_worker_began_does_not_end_the_attempt():
    fresh = an_attempt(0, generation=2, restart_count=1)
    actions = decided(attempts=[an_attempt(cause=Cause.PREEMPTED), fresh], live=a_member(requeued()), changed=[2])
    assert [action.attempt.cause for action in of(actions, SaveAttempt)] == [None]


def test_an_attempt_that_a_newer_one_follows_has_ended():
    first = an_attempt(1, signal="SIGTERM")
    second = an_attempt(0, generation=2, restart_count=1)
    history = [a_job("PREEMPTED"), a_job("RUNNING", restart_count=1)]
    actions = decided(attempts=[first, second], live=a_member(a_job("RUNNING", restart_count=1), history), changed=[2])
    assert [action.attempt.cause for action in of(actions, SaveAttempt)] == [Cause.PREEMPTED, None]
    assert state(actions) is RunState.RUNNING


def test_a_launch_that_slurm_holds_is_released():
    held = a_job("PENDING", restart_count=1, reason="launch failed requeued held")
    actions = decided(live=a_member(held))
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.LAUNCH_FAILED
    assert of(actions, Release) == [Release("17", "r1", "slurm")]


@pytest.mark.parametrize("reason", ["launch failure limit exceeded requeued held", "JobHoldMaxRequeue"])
@pytest.mark.parametrize("ended", [True, False], ids=["seen off before", "seen now"])
def test_a_job_that_slurm_requeued_too_often_is_replaced(reason, ended):
    held = a_job("PENDING", restart_count=6, reason=reason)
    last = an_attempt(restart_count=5, leave_cause=LeaveCause.PREEMPTED, cause=Cause.PREEMPTED if ended else None)
    actions = decided(attempts=[last], live=a_member(held))
    assert actions.index(Revoke(TOKEN, "r1")) < actions.index(Submit("r1"))
    assert of(actions, CancelJob) == [CancelJob("17", "r1", "slurm")]
    assert state(actions) is RunState.INTERRUPTED
    assert of(actions, SetRun)[-1].cause in (Cause.PREEMPTED, a_run().cause)


# -- ended ---------------------------------------------------------------------------------------------------------


def test_a_done_marker_completes_whatever_slurm_says():
    actions = decided(attempts=[an_attempt()], live=a_member(a_job("PREEMPTED")), done=a_done())
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.COMPLETED
    assert of(actions, Settle) == [Settle(TOKEN, "r1")]
    assert state(actions) is RunState.COMPLETED


def test_a_killed_worker_is_submitted_anew_and_its_token_revoked():
    killed = an_attempt(checkpoint_step=250)
    actions = decided(attempts=[killed], live=a_member(a_job("FAILED", exit_code=9, exit_signal=0)))
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.KILLED
    assert actions.index(Revoke(TOKEN, "r1")) < actions.index(Submit("r1"))
    assert state(actions) is RunState.INTERRUPTED


def test_a_second_kill_waits():
    first = an_attempt(1, cause=Cause.KILLED, checkpoint_step=250)
    second = an_attempt(2, resumed_from=250, checkpoint_step=500)
    actions = decided(attempts=[first, second], live=a_member(a_job("FAILED")))
    assert not of(actions, Submit)
    assert of(actions, SetRun)[0].not_before == NOW + 30


def test_three_kills_without_progress_hold_it_and_say_why():
    deaths = [an_attempt(n, cause=Cause.KILLED) for n in (1, 2)]
    actions = decided(attempts=[*deaths, an_attempt(3)], live=a_member(a_job("FAILED")))
    assert state(actions) is RunState.HELD
    assert "3 times in a row" in of(actions, SetRun)[-1].reason
    assert not of(actions, Submit)


def test_a_code_error_holds_it_even_before_slurm_says_that_it_ended():
    actions = decided(attempts=[an_attempt(error="ValueError: no")], live=a_member(a_job("RUNNING")), changed=[1])
    assert state(actions) is RunState.HELD
    assert "ValueError: no" in of(actions, SetRun)[-1].reason
    assert of(actions, Revoke)


def test_scancel_is_final():
    actions = decided(attempts=[an_attempt()], live=a_member(a_job("CANCELLED")))
    assert state(actions) is RunState.CANCELLED
    assert not of(actions, Submit)


def test_an_execution_that_claimed_nothing_is_an_attempt_that_failed_to_launch():
    actions = decided(live=a_member(a_job("FAILED", exit_code=1, exit_signal=0)))
    saved = of(actions, SaveAttempt)[0].attempt
    assert (saved.cause, saved.generation, saved.id) == (Cause.LAUNCH_FAILED, None, 0)
    assert of(actions, Submit)


def test_an_out_of_memory_step_is_seen_behind_a_failed_job():
    live = a_member(a_job("FAILED", exit_code=1), [a_job("OUT_OF_MEMORY")])
    run = a_run(resources={"memory_mb": 1000})
    actions = decided(run, attempts=[an_attempt()], live=live)
    assert of(actions, SetRun)[0].resources == {"memory_mb": 1500}


def test_a_lost_job_is_looked_for_twice_before_it_is_submitted_anew():
    assert of(decided(attempts=[an_attempt()], live=a_member()), MarkMissing) == [MarkMissing(TOKEN, "r1", NOW)]
    late = Member(TOKEN, 0, "r1", missing_since=NOW - 120)
    actions = decided(attempts=[an_attempt(checkpoint_step=250)], live=a_member(member=late))
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.LOST
    assert of(actions, Submit)


def test_a_job_that_was_found_again_is_not_missing():
    back = Member(TOKEN, 0, "r1", missing_since=NOW - 5)
    actions = decided(attempts=[an_attempt()], live=a_member(a_job("RUNNING"), member=back))
    assert of(actions, MarkMissing) == [MarkMissing(TOKEN, "r1", None)]


def test_a_job_that_left_and_is_gone_needs_no_second_look():
    left = an_attempt(leave_cause=LeaveCause.PREEMPTED, checkpoint_step=300)
    assert of(decided(attempts=[left], live=a_member()), Submit)


# -- nodes that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "job", "history", "node"),
    [
        ({}, a_job("NODE_FAIL", nodes="n3"), [], "n3"),
        ({"host": "h"}, requeued(), [a_job("NODE_FAIL", nodes="n3")], "n3"),
        ({"host": "n3"}, requeued(), [], "n3"),
        ({"host": "n3"}, requeued(), [a_job("RUNNING")], "n3"),
        ({"host": "n3"}, requeued(), [a_job("REQUEUED", nodes="n3")], None),
        ({"host": "n3", "signal": "SIGTERM"}, requeued(), [], None),
        ({"host": "n3"}, a_job("FAILED", nodes="n3"), [], None),
        ({}, a_job("NODE_FAIL", nodes="n[3-4]"), [], None),
    ],
)
def test_the_node_that_is_to_blame(attempt, job, history, node):
    actions = decided(attempts=[an_attempt(checkpoint_step=250, **attempt)], live=a_member(job, history))
    assert [action.node for action in of(actions, AvoidNode)] == ([node] if node else [])


# -- a worker that could not ask Slurm for the reason it was signalled ----------------------------------------------------------


UNASKED = an_attempt(leave_cause=LeaveCause.UNKNOWN, signal="SIGTERM", checkpoint_step=300)


@pytest.mark.parametrize("queue", [True, False], ids=["in the queue", "in accounting"])
def test_scancel_is_final_when_the_worker_could_not_ask(queue):
    job = a_job("CANCELLED", exit_code=75)
    actions = decided(attempts=[UNASKED], live=a_member(job) if queue else a_member(None, [job]))
    assert state(actions) is RunState.CANCELLED
    assert not of(actions, Submit)


def test_a_preempted_job_resumes_when_the_worker_could_not_ask():
    actions = decided(attempts=[UNASKED], live=a_member(a_job("PREEMPTED")))
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.PREEMPTED
    assert of(actions, Submit)
    actions = decided(attempts=[UNASKED], live=a_member(requeued()))
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.PREEMPTED
    assert state(actions) is RunState.INTERRUPTED
    assert not of(actions, Revoke)


def test_without_any_word_of_slurm_the_job_counts_as_lost():
    assert of(decided(attempts=[UNASKED], live=a_member()), MarkMissing) == [MarkMissing(TOKEN, "r1", NOW)]
    late = Member(TOKEN, 0, "r1", missing_since=NOW - 120)
    assert not of(decided(attempts=[UNASKED], live=a_member(member=late, history_known=False)), Submit)
    actions = decided(attempts=[UNASKED], live=a_member(member=late))
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.LOST
    assert of(actions, Submit)


def test_a_run_that_lvjobs_cancelled_ends_as_cancelled_when_the_worker_could_not_ask():
    actions = decided(a_run(state=RunState.CANCELLED), attempts=[UNASKED], others=[revoked(a_job("COMPLETED"))])
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.CANCELLED


# -- jobs that may train no more -----------------------------------------------------------------------------------


def revoked(job=None, **changes):
    return a_member(job, member=Member(TOKEN, 0, "r1", state=MemberState.REVOKED, **changes))


def test_a_revoked_job_that_turns_up_is_cancelled():
    actions = decided(a_run(state=RunState.HELD), others=[revoked(a_job("PENDING"))])
    assert of(actions, CancelJob) == [CancelJob("17", "r1", "slurm")]


def test_a_revoked_job_that_ended_is_settled():
    actions = decided(a_run(state=RunState.HELD), others=[revoked(a_job("CANCELLED"))])
    assert of(actions, Settle) == [Settle(TOKEN, "r1")]


def test_a_revoked_job_that_is_nowhere_is_settled_after_a_second_look():
    actions = decided(a_run(state=RunState.HELD), others=[revoked()])
    assert of(actions, MarkMissing)
    actions = decided(a_run(state=RunState.HELD), others=[revoked(missing_since=NOW - 120)])
    assert of(actions, Settle)


def test_a_cancelled_runs_attempt_ends_as_cancelled():
    cancelled = a_run(state=RunState.CANCELLED)
    actions = decided(cancelled, attempts=[an_attempt()], others=[revoked(a_job("CANCELLED"))])
    assert of(actions, SaveAttempt)[0].attempt.cause is Cause.CANCELLED
    assert not of(actions, Submit)
