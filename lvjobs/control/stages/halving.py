"""Synchronous halving: a stage's runs stop at a rung, wait there for one another, and the best few go on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lvjobs import remedies
from lvjobs.control.session import Session
from lvjobs.control.stages.outcomes import curve_of, outcome_of, standing_of
from lvjobs.control.stages.pruning import PruningRecord, write_pruning
from lvjobs.ledger.records import Event, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.stages import Prune, Stage
from lvjobs.study.words import HeldFor, RunState
from lvjobs.sweep.pruning import best, rungs, value_at
from lvjobs.sweep.selection import Outcome, grouped


def halve(session: Session, stage: Stage, runs: Sequence[RunRecord]) -> list[str]:
    """Compare the stage's runs at their rung once all have come to it: the best go on, the others are paused.

    A run that the cluster ends goes on to the rung first. One that is held is waited for, unless the stage skips held
    runs and `quorum` candidates have come. A run that comes late is compared with those that went on. Return what was
    done, one line each.
    """
    rule = stage.prune
    assert rule is not None
    with session.ledger.transaction() as transaction:
        kept = transaction.row("prunings", PruningRecord, stage=stage.name) or PruningRecord(stage.name)
    alive = [run for run in runs if run.state is not RunState.CANCELLED and run.id not in kept.pruned]
    for level, keep in enumerate(rule.keep):
        at = [run for run in alive if run.stop_at and run.stop_at == rungs(rule, run.steps)[level]]
        came = [run for run in at if run.held_for is HeldFor.RUNG or run.state is RunState.COMPLETED]
        if not came:
            continue
        values = {
            run.id: _value(session, stage, run, level) for run in alive if run in came or _has_passed(run, rule, level)
        }
        late = [run for run in at if run not in came]
        # A run that the study had before the stage does not stop at the rung: it is waited for, too.
        late += [
            run
            for run in alive
            if run.id in values and run not in came and not run.state.is_final and values[run.id] is None
        ]
        enough = len(grouped(outcome_of(run, session.terms) for run in came)) >= (stage.quorum or 1)
        skipped = stage.on_hold == "skip" and enough and all(standing_of(run) == "held" for run in late)
        if late and not skipped:
            return []
        compared = [
            replace(outcome_of(run, session.terms), value=values[run.id])
            for run in alive
            if run.id in values and run not in late
        ]
        on = best(compared, keep, stage.select.mode)
        return _Rung(stage, rule, level, compared).decide(session, kept, came, on)
    return []


def end_waiting(transaction: Transaction, name: str) -> None:
    """Let no run of a decided stage stop at a rung or wait there: whoever resumes it trains it to its end."""
    cells = set(transaction.cells().get(name, ()))
    for run in transaction.runs(only_open=True):
        if run.id not in cells or not run.stop_at:
            continue
        changes: dict[str, Any] = {"stop_at": 0}
        if run.held_for is HeldFor.RUNG:
            command = remedies.RESUME_RUN(run=run.name)
            stopped = f"stopped at step {run.stop_at} of {run.steps}, and {name} is decided"
            reason = f"{stopped}; to train it all the same: {command}"
            changes |= {"reason": reason, "held_for": HeldFor.PRUNED}
        transaction.update_run(run.id, **changes)


def _value(session: Session, stage: Stage, run: RunRecord, level: int) -> float | None:
    """Return what the stage's rule compares, at the run's rung; of a run that was done before it, its last value."""
    assert stage.prune is not None
    curve = curve_of(run, stage.select, session.study.layout)
    value = value_at(rungs(stage.prune, run.steps)[level], curve)
    return curve[max(curve)] if value is None and curve and run.state is RunState.COMPLETED else value


def _has_passed(run: RunRecord, rule: Prune, level: int) -> bool:
    return not run.stop_at or run.stop_at > rungs(rule, run.steps)[level]


class _Rung:
    """One comparison: the stage, its rule, the rung's number, and the cells with their values there."""

    def __init__(self, stage: Stage, rule: Prune, level: int, compared: Sequence[Outcome]) -> None:
        self._stage, self._rule, self._level = stage, rule, level
        self._values: Mapping[str, float | None] = {each.run_id: each.value for each in compared}
        count, keep = len(grouped(compared)), rule.keep[level]
        self._best = f"the best {keep} of {count}" if keep < count else f"the {count}"

    def decide(self, session: Session, kept: PruningRecord, came: Sequence[RunRecord], on: set[str]) -> list[str]:
        """Let the runs `on` go on, pause the others that came, and keep why; all of it in one transaction."""
        told: list[str] = []
        reports = [*kept.reports]
        pruned = [*kept.pruned]
        with session.ledger.transaction() as transaction:
            for run in came:
                step, value = rungs(self._rule, run.steps)[self._level], self._values[run.id]
                if value is not None:
                    reports.append((run.id, step, value))
                if run.id in on:
                    told.append(self._go_on(transaction, session, run))
                elif not run.state.is_final:
                    pruned.append(run.id)
                    told.append(self._pause(transaction, session, run, step, value))
            write_pruning(transaction, self._stage.name, reports, pruned)
        return told

    def _go_on(self, transaction: Transaction, session: Session, run: RunRecord) -> str:
        later = rungs(self._rule, run.steps)[self._level + 1 :]
        changes: dict[str, Any] = {"stop_at": later[0] if later else 0}
        why = f"goes on from step {run.stop_at}: among {self._best} of {self._stage.name} there"
        if not run.state.is_final:
            changes |= {"state": RunState.INTERRUPTED, "reason": why, "held_for": HeldFor.NOTHING, "not_before": 0.0}
        transaction.update_run(run.id, **changes)
        transaction.add_event(Event(session.clock(), "resumed", why, run.id))
        return f"{run.name}: {why}"

    def _pause(self, transaction: Transaction, session: Session, run: RunRecord, step: int, value: float | None) -> str:
        followers = [other for other in transaction.runs(only_open=True) if other.after == run.id]
        names = [run.name, *(other.name for other in followers)]
        metric = self._stage.select.metric
        is_number = value is not None and math.isfinite(value)
        found = (
            f"its {metric}, {value:.6g} on average from step {-(-step // 2)} on, is not among {self._best} there"
            if is_number
            else f"it has no {metric} there"
        )
        why = (
            f"pruned at step {step} of {run.steps}: {found}; to train it all the same: {remedies.RESUME_RUN(run=names)}"
        )
        for each in (run, *followers):
            transaction.update_run(
                each.id, state=RunState.PAUSED, reason=why, held_for=HeldFor.PRUNED, not_before=0.0, stop_at=0
            )
        transaction.add_event(Event(session.clock(), RunState.PAUSED.value, f"paused: {why}", run.id))
        return f"{run.name}: paused: {why}"
