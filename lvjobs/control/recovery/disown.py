"""The disowning of jobs: the copy of a study gives up the original's jobs, and whatever would start by itself.

Nothing is revoked or cancelled: the tokens belong to the original, and its jobs continue to train. Work that the copied
journals show stays charged.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from lvjobs import remedies
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.driver.driver import Standing
from lvjobs.control.driver.notify import BUSY, count_as_sent
from lvjobs.control.reconcile.classify import Failure, classify
from lvjobs.control.reconcile.observe import read_attempts, read_done
from lvjobs.control.stages.requests import UNDECIDED
from lvjobs.ledger.records import AttemptRecord, Event, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import RunLayout
from lvjobs.study.words import Cause, HeldFor, MemberState, RunState, StageState


class Stake(NamedTuple):
    """The counts of what a study would follow or start by itself: submissions that are not settled, runs and stages."""

    jobs: int
    runs: int
    stages: int

    def __str__(self) -> str:
        named = zip(self, ("job", "open run", "open stage"), strict=True)
        return ", ".join(f"{count} {what}" if count == 1 else f"{count} {what}s" for count, what in named)


def stake_of(transaction: Transaction) -> Stake:
    """Count what the study would follow or start by itself."""
    jobs = {member.token for member in transaction.members()}
    runs = [run for run in transaction.unclosed() if _starts_by_itself(run)]
    stages = [stage for stage in transaction.stages() if stage.state in BUSY]
    return Stake(len(jobs), len(runs), len(stages))


def _starts_by_itself(run: RunRecord) -> bool:
    return not run.state.is_at_rest or run.held_for is HeldFor.BUDGET


def disown(transaction: Transaction, study: StudyContext, original: str, now: float) -> Stake:
    """Settle all submissions, pause open runs, stop stages and the driver. Return the counts of what was given up.

    `original` is the path of the study that was copied. `now` is in seconds since the epoch.
    """
    stake = stake_of(transaction)
    members = transaction.members()
    settled = {"state": MemberState.SETTLED}
    transaction.update_members({(member.token, member.run_id): settled for member in members})
    followed = {member.run_id for member in members}
    for run in transaction.unclosed():
        if run.id in followed or not run.state.is_final:
            _disown_run(transaction, run, study.layout.run(run.name), original, now)
    for stage in transaction.stages():
        if stage.state in BUSY:
            transaction.update_stage(stage.name, state=StageState.DECLARED, **UNDECIDED)
            transaction.add_event(Event(now, "stage", f"{stage.name}: stopped in this copy of {original}"))
    transaction.set_rows("driver", [Standing(stopped=True)])
    count_as_sent(transaction)
    return stake


def _disown_run(transaction: Transaction, run: RunRecord, files: RunLayout, original: str, now: float) -> None:
    known = transaction.attempts([run.id])
    try:
        if read_done(files) is not None:
            return  # the next pass completes the run: its job has nothing left to do
        attempts: Sequence[AttemptRecord] = read_attempts(run.id, known, files, (now, now))[0]
    except (OSError, ValueError, TypeError):  # the next pass reports what cannot be read
        attempts = known
    ended = [_ended(attempt, original, now) for attempt in attempts]
    if ended != known:
        transaction.replace_charges({run.id: charges_of(run, transaction.save_attempts(ended))})
    if not _starts_by_itself(run):
        return
    command = remedies.RESUME_RUN(run=run.name)
    reason = f"belongs to the original in {original}; to also train it here, type: {command}"
    has_ended = any(attempt.cause is None for attempt in attempts)
    cause = Cause.CANCELLED if has_ended else run.cause
    transaction.update_run(
        run.id, state=RunState.PAUSED, reason=reason, cause=cause, held_for=HeldFor.STOPPED, not_before=0.0
    )
    transaction.add_event(Event(now, RunState.PAUSED.value, f"paused: {reason}", run.id))


def _ended(attempt: AttemptRecord, original: str, now: float) -> AttemptRecord:
    """Return the attempt with its end for the copy. It causes no charge for steps that its journal does not show."""
    if attempt.cause is not None:
        return attempt
    failure = Failure(Cause.CANCELLED, f"continues in {original}; this study is a copy")
    if attempt.has_last_word:
        failure = classify(attempt, None)
    return replace(attempt, cause=failure.cause, evidence=failure.evidence, ended=now)
