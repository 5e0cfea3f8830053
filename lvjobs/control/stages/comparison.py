"""The comparison of a stage's runs, as `lvjobs sweep show` prints it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lvjobs import remedies
from lvjobs.control.session import Session
from lvjobs.control.stages.outcomes import measured
from lvjobs.control.stages.search import trials_of
from lvjobs.errors import UsageError
from lvjobs.ledger.records import RunRecord
from lvjobs.study.run import FOLD
from lvjobs.sweep.request import settings_of
from lvjobs.sweep.selection import Candidate, rank


def standing(session: Session, name: str) -> dict[str, Any]:
    """Return the stage, its rule and its candidates, the best first, as the JSON that docs/json.md documents.

    Raises:
        UsageError: The stage has no runs, or is one of evaluations.
    """
    with session.ledger.transaction() as transaction:
        record = next((each for each in transaction.stages() if each.name == name), None)
        runs = {run.id: run for run in transaction.runs()}
        cells = [runs[run_id] for run_id in transaction.cells().get(name, ())]
        books = session.full_books(transaction)
        trials = trials_of(transaction, record) if record is not None else {}
    where = session.study.where
    if record is None or not cells:
        raise UsageError(f"stage {name!r} has no runs yet; see what is declared: {remedies.SWEEP_PLAN(*where)}")
    stage = record.stage
    if stage.evaluates:
        raise UsageError(f"{name} evaluates runs, so it has no winner; its table: {remedies.EVALUATIONS(*where)}")
    ranking = rank([measured(run, session.terms, stage.select, session.study.layout) for run in cells], stage.select)
    every = [settings_of(run.configuration) for run in cells]
    repeats = ("seed", FOLD)
    varied = [key for key in every[0] if key not in repeats and len({repr(each.get(key)) for each in every}) > 1]
    spent = {run.id: books.accounts[run.id].spent(session.terms) for run in cells}
    return {
        "stage": name,
        "state": record.state.value,
        "reason": record.reason,
        "rule": stage.select.words,
        "winner": runs[record.winner].name if record.winner in runs else None,
        "because": record.because,
        "by_hand": record.by_hand,
        **trials,
        "varied": varied,
        "candidates": [
            _row(candidate, runs, varied, spent, record.winner) for candidate in (*ranking.ranked, *ranking.others)
        ],
    }


def _row(
    candidate: Candidate, runs: Mapping[str, RunRecord], varied: Sequence[str], spent: Mapping[str, int], winner: str
) -> dict[str, Any]:
    first = runs[candidate.cells[0].run_id]
    settings = settings_of(first.configuration)
    return {
        "runs": [cell.name for cell in candidate.cells],
        "states": [runs[cell.run_id].state.value for cell in candidate.cells],
        "won": any(cell.run_id == winner for cell in candidate.cells),
        "settings": {key: settings.get(key) for key in varied},
        "steps": first.steps,
        "value": candidate.value,
        "standard_error": candidate.error,
        "values": [
            cell.value if cell.value is not None and math.isfinite(cell.value) else None for cell in candidate.cells
        ],
        "why_not": candidate.why,
        "flops": sum(spent[cell.run_id] for cell in candidate.cells),
    }
