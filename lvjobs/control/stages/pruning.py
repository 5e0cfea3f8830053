"""Pruning: runs that compare badly are paused before their last step, and resumed if they prove good after all."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from lvjobs import remedies
from lvjobs.control.reconcile.run_commands import pause
from lvjobs.control.session import Session
from lvjobs.control.stages.outcomes import curve_of, standing_of
from lvjobs.ledger.records import Event, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.stages import Prune, Stage
from lvjobs.study.words import HeldFor, RunState
from lvjobs.sweep.pruning import RungValue, bar, new_reports, pruned


@dataclass(frozen=True)
class PruningRecord:
    """The ledger's record of a stage's pruning: the reports, oldest first, and the ids of the pruned runs.

    A report is a run's id, a step, and the run's value there.
    """

    stage: str
    reports: Sequence[tuple[str, int, float]] = ()
    pruned: Sequence[str] = ()


def prune(session: Session, stage: Stage, runs: Sequence[RunRecord]) -> list[str]:
    """Record the values that the stage's runs have reached, and pause those that compare badly.

    A pruned run is resumed if it is among the best after all, once others have come as far. A pruned run that the user
    resumes continues to its end. Return what was done, one line each.
    """
    rule = stage.prune
    assert rule is not None
    compared = [run for run in runs if run.state is not RunState.CANCELLED]
    steps = {run.id: run.steps for run in compared}
    with session.ledger.transaction() as transaction:
        kept = transaction.row("prunings", PruningRecord, stage=stage.name) or PruningRecord(stage.name)
    known, before = [RungValue(*each) for each in kept.reports], list(kept.pruned)
    seen = {run.id: curve_of(run, stage.select, session.study.layout) for run in compared}
    reports = [*known, *new_reports(seen, steps, known, rule)]
    if len(reports) > len(known):  # recorded before anything follows from the reports
        session.ledger.call(write_pruning, stage.name, [astuple(each) for each in reports], before)
    found = pruned([report for report in reports if report.run_id in steps], steps, rule, stage.select.mode)
    told: list[str] = []
    fresh = [run for run in compared if run.id in found and run.id not in before]
    for run in fresh:
        if not run.state.is_final:
            others = session.ledger.call(Transaction.runs, only_open=True)
            names = [run.name, *(other.name for other in others if other.after == run.id)]
            told += pause(session, names, _why(stage, rule, run, found[run.id], names), held_for=HeldFor.PRUNED)
    before = [*before, *(run.id for run in fresh)]
    back = [run for run in compared if run.id in before and run.id not in found and standing_of(run) == "pruned"]
    if fresh or back:
        with session.ledger.transaction() as transaction:
            told += _resume(session, transaction, stage, rule, back)
            left = [each for each in before if each not in {run.id for run in back}]
            write_pruning(transaction, stage.name, [astuple(each) for each in reports], left)
    return told


def _resume(
    session: Session, transaction: Transaction, stage: Stage, rule: Prune, runs: Sequence[RunRecord]
) -> list[str]:
    """Resume the runs, and the pruned runs that come after them, at their checkpoints."""
    told = []
    why = f"continues: among {stage.name}'s runs at that step it is in {bar(rule)} after all"
    for run in runs:
        followers = [other for other in transaction.runs() if other.after == run.id and standing_of(other) == "pruned"]
        for each in (run, *followers):
            state = RunState.INTERRUPTED if transaction.attempts([each.id]) else RunState.PLANNED
            transaction.update_run(
                each.id, state=state, reason=why if each is run else "", held_for=HeldFor.NOTHING, not_before=0.0
            )
        transaction.add_event(Event(session.clock(), "resumed", why, run.id))
        told.append(f"{run.name}: {why}")
    return told


def _why(stage: Stage, rule: Prune, run: RunRecord, report: RungValue, names: Sequence[str]) -> str:
    return (
        f"pruned at step {report.step} of {run.steps}: its {stage.select.metric}, {report.value:.6g}, is worse than "
        f"{bar(rule)} of {stage.name}'s runs there; to train it anyway: {remedies.RESUME_RUN(run=names)}"
    )


def write_pruning(
    transaction: Transaction, stage: str, reports: Sequence[tuple[str, int, float]], pruned_: Sequence[str]
) -> None:
    """Keep the reports and the ids of the pruned runs of a stage."""
    transaction.set_rows("prunings", [PruningRecord(stage, reports, pruned_)], stage=stage)
