"""The cause of an attempt's end: the journal is the record, Slurm's states are hints."""

import pytest
from control_builders import NOW, a_job, an_attempt

from lvjobs.control.reconcile.classify import classify, classify_unclaimed, execution
from lvjobs.control.reconcile.journal_fold import fold
from lvjobs.records.journal import Entry
from lvjobs.study.words import Cause, LeaveCause


@pytest.mark.parametrize(
    ("attempt", "job", "cause"),
    [
        # the journal's own word comes first
        ({"finished": True}, "PREEMPTED", Cause.COMPLETED),
        ({"error": "ValueError: no"}, "FAILED", Cause.CODE_ERROR),
        ({"leave_cause": LeaveCause.PREEMPTED, "signal": "SIGTERM"}, "PREEMPTED", Cause.PREEMPTED),
        ({"leave_cause": LeaveCause.TIMEOUT, "signal": "SIGUSR2"}, "FAILED", Cause.TIMEOUT),
        ({"leave_cause": LeaveCause.CANCELLED}, "CANCELLED", Cause.CANCELLED),
        ({"leave_cause": LeaveCause.SUPERSEDED}, None, Cause.NODE_FAIL),
        # a worker that could not ask Slurm knows no reason: Slurm's word decides, then the signal
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGTERM"}, "CANCELLED", Cause.CANCELLED),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGUSR2"}, "CANCELLED", Cause.CANCELLED),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGTERM"}, "PREEMPTED", Cause.PREEMPTED),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGUSR2"}, "PREEMPTED", Cause.PREEMPTED),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGTERM"}, "REQUEUED", Cause.PREEMPTED),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGTERM"}, "NODE_FAIL", Cause.NODE_FAIL),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGTERM"}, "TIMEOUT", Cause.TIMEOUT),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGTERM"}, "FAILED", Cause.PREEMPTED),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGUSR2"}, "FAILED", Cause.TIMEOUT),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "deadline"}, "FAILED", Cause.TIMEOUT),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": "SIGTERM"}, None, Cause.PREEMPTED),
        ({"leave_cause": LeaveCause.UNKNOWN, "signal": ""}, None, Cause.PREEMPTED),
        # then Slurm's
        ({}, "CANCELLED", Cause.CANCELLED),
        ({}, "OUT_OF_MEMORY", Cause.OUT_OF_MEMORY),
        ({}, "NODE_FAIL", Cause.NODE_FAIL),
        ({}, "BOOT_FAIL", Cause.NODE_FAIL),
        ({"signal": "SIGUSR2"}, "TIMEOUT", Cause.TIMEOUT),
        ({}, "FAILED", Cause.KILLED),
        ({}, "COMPLETED", Cause.KILLED),
        ({"signal": "SIGTERM"}, "PREEMPTED", Cause.PREEMPTED),
        ({}, "PREEMPTED", Cause.PREEMPTED),
        # back in the queue, and accounting says nothing
        ({"signal": "SIGTERM"}, None, Cause.PREEMPTED),
        ({}, None, Cause.NODE_FAIL),
    ],
)
def test_cause(attempt, job, cause):
    assert classify(an_attempt(**attempt), a_job(job) if job else None).cause is cause


@pytest.mark.parametrize(
    ("fields", "job", "cause"),
    [
        ({"detail": "SIGTERM; Slurm says RUNNING, restart 0 (mine 0), preempted"}, "CANCELLED", Cause.PREEMPTED),
        (
            {
                "detail": "SIGTERM; the scheduler did not answer, so the cause is read off the signal and nothing requeued"
            },
            "CANCELLED",
            Cause.CANCELLED,
        ),
        ({}, "CANCELLED", Cause.PREEMPTED),
    ],
    ids=["asked", "guessed", "without detail"],
)
def test_a_cause_that_an_older_worker_guessed_is_not_believed(fields, job, cause):
    lines = [Entry("leave", NOW, {"cause": "preempted", "step": 5, "action": "none", **fields})]
    assert classify(fold(an_attempt(signal="SIGTERM"), lines, 1, NOW), a_job(job)).cause is cause


def test_a_stale_flag_proves_nothing():
    """After a kill at the end of grace the next run reads PREEMPTED however it ended."""
    assert classify(an_attempt(), a_job("PREEMPTED"), flag_is_stale=True).cause is Cause.KILLED
    assert classify(an_attempt(signal="SIGTERM"), a_job("PREEMPTED"), flag_is_stale=True).cause is Cause.PREEMPTED


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("FAILED", Cause.LAUNCH_FAILED),
        ("COMPLETED", Cause.LAUNCH_FAILED),
        ("CANCELLED", Cause.CANCELLED),
        ("NODE_FAIL", Cause.NODE_FAIL),
        ("PREEMPTED", Cause.PREEMPTED),
        ("TIMEOUT", Cause.TIMEOUT),
    ],
)
def test_an_execution_that_never_began(state, cause):
    death = classify_unclaimed(a_job(state, exit_code=1, exit_signal=0, nodes="n1"))
    assert death.cause is cause
    assert "exit 1:0" in death.evidence
    assert "n1" in death.evidence


def test_earlier_runs_of_a_requeued_job_are_found_by_their_number():
    rows = [a_job("PREEMPTED"), a_job("NODE_FAIL"), a_job("RUNNING")]
    assert execution(rows, 1).state == "NODE_FAIL"
    assert execution(rows, 3) is None
