"""Runs, attempts, jobs and views for the tests of the loop's pure parts."""

from dataclasses import dataclass, replace

from lvjobs.cluster.protocol import Job
from lvjobs.control.budget import efficiency
from lvjobs.control.budget.intervals import advise, measure
from lvjobs.control.reconcile.views import MemberView, RunView
from lvjobs.ledger.records import AttemptRecord, Member, RunRecord, SubmissionRecord
from lvjobs.records.run_files import Done
from lvjobs.study.words import RunState

TOKEN = "a" * 12
NOW = 10_000.0


def a_run(**changes):
    base = RunRecord(
        id="r1",
        name="one",
        stage="train",
        fingerprint="f",
        config={"steps": 1000},
        profile="lab",
        resources={},
        code="c0de",
        created=1.0,
        state=RunState.RUNNING,
        rates={"official": {"training": 100, "validation": 10, "generation": 1}},
    )
    return replace(base, **changes)


def an_attempt(number=1, **changes):
    base = AttemptRecord(number, "r1", TOKEN, "17", 0, NOW - 100, generation=number, grown=NOW - 1, journal_offset=1)
    return replace(base, **changes)


@dataclass
class Efficiency:
    """A study's use of the machines that it held."""

    by_stage: dict
    advice: list

    @property
    def total(self):
        return sum(self.by_stage.values(), efficiency.Share())

    def to_dict(self):
        return efficiency.efficiency_of(self.by_stage, self.advice)


def efficiency_of(runs, attempts, now, profile_gpus=None):
    """Return what a study made of the machines that it held, as a pass that sees all of its runs works it out."""
    return Efficiency(efficiency.shares_of(runs, attempts, now, profile_gpus or {}), advise(measure(runs, attempts)))


def a_job(state, **changes):
    return replace(Job("17", TOKEN, 0, state, restart_count=0), **changes)


def a_done(step=1000):
    return Done(generation=1, step=step, checkpoint="000001-00001000", time=NOW)


def a_member(job=None, history=(), *, member=None, submission=None, queue_known=True, history_known=True):
    return MemberView(
        member or Member(TOKEN, 0, "r1"),
        submission or SubmissionRecord(TOKEN, "lab", "slurm", NOW - 200, job_id="17"),
        job,
        tuple(history),
        queue_known=queue_known,
        history_known=history_known,
    )


def a_view(run=None, attempts=(), live=None, others=(), done=None, changed=()):
    return RunView(run or a_run(), tuple(attempts), frozenset(changed), live, tuple(others), done)
