"""Exit early: the table in `lvjobs/worker/early_exit.py`, row by row, and what must never happen in any row."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.cluster.inside import JobView
from lvjobs.worker.early_exit import DEADLINE, REVOKED, Evidence, decide_early_exit

JOB = JobView("5", ("RUNNING",), 1)
SEEN = Evidence("SIGTERM", restart_count=1, job=JOB)


def job(*state, restarts=1, preempted=False):
    return replace(JOB, state=state, restart_count=restarts, preempt_time=1.8e9 if preempted else None)


@pytest.mark.parametrize(
    ("signal", "view", "mode", "cause", "requeue"),
    [
        # preempted, in grace: Slurm requeues; under send_user_signal it comes as USR2
        ("SIGTERM", job("RUNNING", preempted=True), "requeue", "preempted", False),
        ("SIGTERM", job("RUNNING", preempted=True), None, "preempted", False),
        ("SIGUSR2", job("RUNNING", preempted=True), "requeue", "preempted", False),
        ("SIGUSR1", job("RUNNING", preempted=True), "requeue", "preempted", False),
        (DEADLINE, job("RUNNING", preempted=True), "requeue", "preempted", False),
        # ... where the site cancels instead
        ("SIGTERM", job("RUNNING", preempted=True), "cancel", "preempted", True),
        ("SIGTERM", job("PREEMPTED", "COMPLETING", preempted=True), "cancel", "preempted", True),
        ("SIGTERM", job("RUNNING", preempted=True), "gang,suspend", "preempted", False),
        # preempted, GraceTime 0
        ("SIGTERM", job("PENDING", "COMPLETING", restarts=2, preempted=True), "requeue", "preempted", False),
        ("SIGTERM", job("PENDING", "COMPLETING", restarts=2, preempted=True), "cancel", "preempted", False),
        # time limit
        ("SIGUSR2", job("RUNNING"), "requeue", "timeout", True),
        (DEADLINE, job("RUNNING"), "cancel", "timeout", True),
        ("SIGTERM", job("TIMEOUT", "COMPLETING"), "requeue", "timeout", True),
        # scancel
        ("SIGTERM", job("CANCELLED", "COMPLETING"), "requeue", "cancelled", False),
        ("SIGUSR2", job("CANCELLED", "COMPLETING"), "cancel", "cancelled", False),
        ("SIGUSR2", job("CANCELLED", preempted=True), "cancel", "cancelled", False),
        # orphan after a node failure
        ("SIGTERM", job("PENDING", restarts=2), "requeue", "superseded", False),
        ("SIGUSR2", job("RUNNING", restarts=2), "requeue", "superseded", False),
        ("SIGUSR2", job("RUNNING", restarts=2, preempted=True), "cancel", "superseded", False),
        # a TERM that nothing explains, and states that explain nothing
        ("SIGTERM", job("RUNNING"), "cancel", "preempted", False),
        ("SIGUSR2", job("NODE_FAIL"), "cancel", "timeout", False),
        # the scheduler does not answer
        ("SIGTERM", None, None, "unknown", False),
        ("SIGUSR1", None, "cancel", "unknown", False),
        ("SIGUSR2", None, "cancel", "unknown", False),
        (DEADLINE, None, None, "unknown", False),
    ],
)
def test_the_table(signal, view, mode, cause, requeue):
    decision = decide_early_exit(replace(SEEN, signal=signal, job=view, preempt_mode=mode))
    assert (decision.cause, decision.requeue) == (cause, requeue)
    assert signal in decision.detail
    if view is None:
        assert "did not answer" in decision.detail


states = st.lists(
    st.sampled_from(["RUNNING", "COMPLETING", "PENDING", "CANCELLED", "TIMEOUT", "PREEMPTED", "FAILED"]), max_size=2
).map(tuple)
evidences = st.builds(
    Evidence,
    signal=st.sampled_from(["SIGTERM", "SIGUSR1", "SIGUSR2", DEADLINE, REVOKED, "superseded"]),
    on_slurm=st.booleans(),
    restart_count=st.integers(0, 2),
    job=st.none()
    | st.builds(JobView, st.just("5"), states, st.integers(0, 2), preempt_time=st.none() | st.just(1.8e9)),
    preempt_mode=st.sampled_from([None, "cancel", "requeue"]),
    superseded=st.booleans(),
    cancel_requested=st.booleans(),
)


@given(evidences)
def test_never_requeued(evidence):
    """Not what somebody cancelled, not what runs elsewhere, not what was revoked, not blindly, not without Slurm."""
    decision = decide_early_exit(evidence)
    view = evidence.job
    if (
        view is None
        or "CANCELLED" in view.state
        or view.restart_count != evidence.restart_count
        or evidence.superseded
        or evidence.cancel_requested
        or evidence.signal == REVOKED
        or not evidence.on_slurm
        or (view.preempt_time and evidence.preempt_mode != "cancel")
    ):
        assert not decision.requeue
    if decision.requeue:
        assert decision.cause in ("preempted", "timeout")


def test_local():
    local = Evidence("SIGTERM", on_slurm=False)
    assert decide_early_exit(local).cause == "preempted"
    assert decide_early_exit(replace(local, signal="SIGUSR2")).cause == "timeout"
    assert decide_early_exit(replace(local, cancel_requested=True)).cause == "cancelled"
    assert decide_early_exit(replace(local, signal=REVOKED)).cause == "stopped"
    assert decide_early_exit(replace(local, superseded=True)).cause == "superseded"
