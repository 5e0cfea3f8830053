"""Synchronous halving: a stage's runs stop at a rung, wait there for one another, and the best few continue."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lvjobs import remedies
from lvjobs.control.budget.cost import newest_checkpoints
from lvjobs.control.session import Session
from lvjobs.control.stages.outcomes import curve_of, outcome_of, standing_of
from lvjobs.control.stages.pruning import PruningRecord, write_pruning
from lvjobs.ledger.records import Event, RunRecord, StageRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.stages import Prune, Stage
from lvjobs.study.words import HeldFor, RunState, StageState
from lvjobs.sweep.pruning import best, rungs, value_at
from lvjobs.sweep.selection import Outcome, grouped


def halve(session: Session, stage: Stage, runs: Sequence[RunRecord]) -> list[str]:
    """Compare the stage's runs at their rung once all have come to it: the best continue, the others are paused.

    A run that the cluster ends continues to the rung first. One that is held is waited for, unless the stage skips held
    runs and `quorum` candidates have come. A run that comes late is compared with those that went on. Return what was
    done, one line each.
    """
    rule = stage.prune
    assert rule is not None
    with session.ledger.transaction() as transaction:
        kept = transaction.row("prunings", PruningRecord, stage=stage.name) or PruningRecord(stage.name)
    paused = [run for run in runs if run.held_for is HeldFor.PRUNED]  # also by another stage that has the run
    alive = [
        run for run in runs if run.state is not RunState.CANCELLED and run.id not in kept.pruned and run not in paused
    ]
    for level, keep in enumerate(rule.keep):
        at = [run for run in alive if run.stage == stage.name and run.stop_at == rungs(rule, run.steps)[level]]
        came = [run for run in at if run.held_for is HeldFor.RUNG or run.state is RunState.COMPLETED]
        if not came:
            continue
        values = {
            run.id: _value(session, stage, run, level) for run in alive if run in came or _has_passed(stage, run, level)
        }
        late = [run for run in at if run not in came]
        # A run that the study had before the stage does not stop at the rung: it is waited for, too.
        late += [
            run
            for run in alive
            if run.id in values and run not in came and not run.state.is_final and values[run.id] is None
        ]
        compared = [
            replace(outcome_of(run, session.terms), value=values[run.id])
            for run in alive
            if run.id in values and run not in late
        ]
        lacking = {outcome_of(run, session.terms).candidate for run in late}
        enough = len({each.candidate for each in compared} - lacking) >= (stage.quorum or 1)
        skipped = stage.on_hold == "skip" and enough and all(standing_of(run) == "held" for run in late)
        if late and not skipped:
            return []
        # A candidate cannot win while one of its seeds is pruned: a seed that was added later does not continue alone.
        out = {outcome_of(run, session.terms).candidate for run in paused}
        on = best([each for each in compared if each.candidate not in out], keep, stage.select.mode)
        return _Rung(stage, rule, level, compared).decide(session, kept, came, on)
    return []


def align(session: Session, stage: Stage, runs: Sequence[RunRecord], records: Mapping[str, StageRecord]) -> list[str]:
    """Let each run stop where its stage wants it now, which may differ from when the run was declared.

    A stage that is requested again may have other rungs, or none. A run of a stage that was stopped or decided stops at
    none: `stage` has the run, too, and waits for it. Return what was done, one line each.
    """
    stopping = [run for run in runs if run.stop_at and not run.state.is_final]
    if not stopping:
        return []
    told: list[str] = []
    with session.ledger.transaction() as transaction:
        kept = transaction.row("prunings", PruningRecord, stage=stage.name) or PruningRecord(stage.name)
        newest = newest_checkpoints(transaction.attempts([run.id for run in stopping]))
        for run in stopping:
            step = _stop_at(stage, run, kept, records)
            if step == run.stop_at:
                continue
            changes: dict[str, Any] = {"stop_at": step}
            if run.held_for is HeldFor.RUNG and not 0 < step <= newest[run.id]:
                why = f"continues from step {run.stop_at}, because no stage compares it any more"
                changes |= {"state": RunState.INTERRUPTED, "reason": why, "held_for": HeldFor.NOTHING}
                transaction.add_event(Event(session.clock(), "resumed", why, run.id))
                told.append(f"{run.name}: {why}")
            transaction.update_run(run.id, **changes)
    return told


def _stop_at(stage: Stage, run: RunRecord, kept: PruningRecord, records: Mapping[str, StageRecord]) -> int:
    """Return the step at which the run is to stop: the first rung after those at which it was compared; 0 for none."""
    if run.stage != stage.name:
        own = records.get(run.stage)
        is_over = own is None or own.state in (StageState.DECLARED, StageState.COMPLETED)
        return 0 if is_over else run.stop_at
    if stage.prune is None or stage.prune.rule != "halving":
        return 0
    compared = max((step for run_id, step, _ in kept.reports if run_id == run.id), default=0)
    return next((step for step in rungs(stage.prune, run.steps) if step > compared), 0)


def end_waiting(transaction: Transaction, name: str) -> None:
    """Let no run of a decided stage stop at a rung or wait there: whoever resumes it trains it to its end.

    A run that another requested stage has, too, continues for that stage (`align`).
    """
    open_runs, cells = transaction.runs(only_open=True), transaction.cells()
    requested = {
        record.name for record in transaction.stages() if record.state in (StageState.ASKED, StageState.RUNNING)
    } - {name}
    shared = {run_id for stage in requested for run_id in cells.get(stage, ())}
    for run in open_runs:
        if run.stage != name or not run.stop_at or run.id in shared:
            continue
        if run.held_for is not HeldFor.RUNG:
            transaction.update_run(run.id, stop_at=0)
            continue
        stopped = f"stopped at step {run.stop_at} of {run.steps}, and {name} is decided"
        _rest(transaction, run, stopped)


def _rest(transaction: Transaction, run: RunRecord, stopped: str) -> str:
    """Pause a run, and the evaluations that follow it, until the user resumes them; return why, in words."""
    followers = [other for other in transaction.runs(only_open=True) if other.after == run.id]
    names = [run.name, *(other.name for other in followers)]
    why = f"{stopped}; to train it anyway: {remedies.RESUME_RUN(run=names)}"
    for each in (run, *followers):
        transaction.update_run(
            each.id, state=RunState.PAUSED, reason=why, held_for=HeldFor.PRUNED, not_before=0.0, stop_at=0
        )
    return why


def _value(session: Session, stage: Stage, run: RunRecord, level: int) -> float | None:
    """Return what the stage's rule compares, at the run's rung; of a run that was done before it, its last value."""
    assert stage.prune is not None
    curve = curve_of(run, stage.select, session.study.layout)
    value = value_at(rungs(stage.prune, run.steps)[level], curve)
    return curve[max(curve)] if value is None and curve and run.state is RunState.COMPLETED else value


def _has_passed(stage: Stage, run: RunRecord, level: int) -> bool:
    """Return whether the run does not stop at this rung: it went on from it, or another stage declared it."""
    assert stage.prune is not None
    return run.stage != stage.name or not run.stop_at or run.stop_at > rungs(stage.prune, run.steps)[level]


class _Rung:
    """One comparison: the stage, its rule, the rung's number, and the cells with their values there."""

    def __init__(self, stage: Stage, rule: Prune, level: int, compared: Sequence[Outcome]) -> None:
        self._stage, self._rule, self._level = stage, rule, level
        self._values: Mapping[str, float | None] = {each.run_id: each.value for each in compared}
        count, keep = len(grouped(compared)), rule.keep[level]
        self._best = f"the best {keep} of {count}" if keep < count else f"the {count}"

    def decide(self, session: Session, kept: PruningRecord, came: Sequence[RunRecord], on: set[str]) -> list[str]:
        """Let the runs `on` continue, pause the others that came, and keep why; all of it in one transaction."""
        told: list[str] = []
        reports = [*kept.reports]
        pruned = [*kept.pruned]
        with session.ledger.transaction() as transaction:
            for run in came:
                step, value = rungs(self._rule, run.steps)[self._level], self._values[run.id]
                if value is not None:
                    reports.append((run.id, step, value))
                if run.id not in on:
                    pruned.append(run.id)
                if run.state.is_final:  # it ended before its last step
                    transaction.update_run(run.id, stop_at=0)
                elif run.id in on:
                    told.append(self._go_on(transaction, session, run))
                else:
                    told.append(self._pause(transaction, session, run, step, value))
            write_pruning(transaction, self._stage.name, reports, pruned)
        return told

    def _go_on(self, transaction: Transaction, session: Session, run: RunRecord) -> str:
        later = rungs(self._rule, run.steps)[self._level + 1 :]
        why = f"continues from step {run.stop_at}: among {self._best} of {self._stage.name} there"
        changes = {"state": RunState.INTERRUPTED, "reason": why, "held_for": HeldFor.NOTHING, "not_before": 0.0}
        transaction.update_run(run.id, stop_at=later[0] if later else 0, **changes)
        transaction.add_event(Event(session.clock(), "resumed", why, run.id))
        return f"{run.name}: {why}"

    def _pause(self, transaction: Transaction, session: Session, run: RunRecord, step: int, value: float | None) -> str:
        metric = self._stage.select.metric
        found = f"it has no {metric} there"
        if value is not None:
            average = f"its {metric}, averaged from step {-(-step // 2)} on, is"
            found = f"{average} {f'{value:.6g}, not among {self._best}' if math.isfinite(value) else 'no number'}"
        why = _rest(transaction, run, f"pruned at step {step} of {run.steps}: {found}")
        transaction.add_event(Event(session.clock(), RunState.PAUSED.value, f"paused: {why}", run.id))
        return f"{run.name}: paused: {why}"
