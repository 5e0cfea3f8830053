"""A controller that lost its state has accounting end every job, by nobody: no job of ours was cancelled by that."""

from dataclasses import replace

import pytest
from control_builders import NOW, TOKEN, a_job, a_member, a_run, a_view, an_attempt

from lvjobs.cluster.parse import parse_history
from lvjobs.control.reconcile.actions import MarkMissing, Revoke, SetRun, Submit
from lvjobs.control.reconcile.decide import decide
from lvjobs.ledger.records import Member
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, RunState

# as sacct 24.11 printed it after the controller's StateSaveLocation was emptied, and after a scancel
FLUSHED = f"1|CANCELLED|0:0|1795645835|1795645848|low|n1|13|cpu=1,gres/gpu=1,mem=2000M,node=1|run.{TOKEN}\n"
STEP = "1.0|CANCELLED|0:15|1795645835|1795645848||n1|13|cpu=1,mem=2000M,node=1|python3\n"
SCANCELLED = FLUSHED.replace("CANCELLED", "CANCELLED by 1000")


@pytest.mark.parametrize(("text", "flushed"), [(FLUSHED + STEP, True), (SCANCELLED + STEP, False)])
def test_who_cancelled_it_is_read(text, flushed):
    (job,) = parse_history(text, {TOKEN})
    assert (job.state, job.is_ended, job.flushed) == ("CANCELLED", True, flushed)


def decided(*, flushed=True, missing_since=None, job=None, run=None):
    row = replace(a_job("CANCELLED"), flushed=flushed)
    live = a_member(job, [row], member=Member(TOKEN, 0, "r1", missing_since=missing_since))
    return decide(a_view(run or a_run(), [an_attempt()], live), Policy(), NOW)


def states(actions):
    return [(action.state, action.cause) for action in actions if isinstance(action, SetRun)]


def test_the_run_is_looked_for_and_then_lost():
    assert decided() == [MarkMissing(TOKEN, "r1", NOW)]
    assert decided(missing_since=NOW - 60) == []
    actions = decided(missing_since=NOW - 121)
    assert states(actions) == [(RunState.INTERRUPTED, Cause.LOST)]
    assert actions.index(Revoke(TOKEN, "r1")) < actions.index(Submit("r1"))


def test_a_job_that_the_queue_still_has_goes_on():
    assert states(decided(job=a_job("RUNNING"))) == [(RunState.RUNNING, None)]


def test_what_somebody_cancelled_stays_cancelled():
    assert states(decided(flushed=False)) == [(RunState.CANCELLED, Cause.CANCELLED)]
