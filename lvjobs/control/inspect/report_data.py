"""The data of a study's report: the ledger at one moment, as plain rows. No pass is made."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lvjobs.control.budget.accounts import Books
from lvjobs.control.budget.archive import check_basis
from lvjobs.control.budget.efficiency import end_of
from lvjobs.control.session import Session
from lvjobs.control.stages.comparison import standing
from lvjobs.control.summary import build_summary, read_unclosed
from lvjobs.control.summary_file import by_field, read_summary, whole
from lvjobs.errors import UsageError
from lvjobs.ledger.records import AttemptRecord, Charge, RunRecord
from lvjobs.records.summary import Summary
from lvjobs.tasks.registry import task_of


def report_data(session: Session) -> dict[str, Any]:
    """Return all data of the report.

    `summary` is like a pass's summary. It is computed now from the ledger's rows, which are as old as the last
    pass. `spans` are the attempts, oldest first, each with its cost. `standings` compare each stage's runs, with the
    `mode` of its rule. `step` has the parts of one step's cost (see `_step`). `runs` are the records themselves.
    """
    last = read_summary(session.study.layout.summary)
    with session.ledger.transaction() as transaction:
        check_basis(transaction, session.terms)  # study.toml may have changed since the last pass
        runs, attempts, charges = transaction.runs(), transaction.attempts(), transaction.charges()
        books = session.full_books(transaction)
        # A study without a pass's summary is as old as what last happened in it.
        happened = [run.created for run in runs] + [
            max(each.started, each.ended or 0.0, each.grown) for each in attempts
        ]
        now = last["time"] if last else max(happened, default=0.0)
        closed = by_field(transaction.closed_mark(), map(json.loads, transaction.closed_rows()))
        unclosed, short = read_unclosed(transaction, session.study.layout), session.books(transaction)
        open_ = build_summary(transaction, session.study, short, unclosed, (), (), now, {})
        summary = Summary.from_dict(whole(open_.to_dict(), closed))
        cells = transaction.cells()
        stages = [each.stage for each in transaction.stages() if cells.get(each.name)]
    return {
        "summary": summary,
        "runs": runs,
        "spans": spans(runs, attempts, charges, books, now),
        "standings": [
            {**standing(session, stage.name), "mode": stage.select.mode} for stage in stages if not stage.evaluates
        ],
        "step": _step(runs, books),
    }


def spans(
    runs: Sequence[RunRecord], attempts: Sequence[AttemptRecord], charges: Sequence[Charge], books: Books, now: float
) -> list[dict[str, Any]]:
    """Return each attempt's times, its end, and its FLOPs by kind. Their sums equal the budget's."""
    by_id = {run.id: run for run in runs}
    spent: dict[int, dict[str, int]] = defaultdict(dict)
    for charge in charges:
        rate = books.terms.rate(by_id[charge.run_id], charge.kind)
        spent[charge.attempt_id][charge.kind] = charge.units * rate
    return [
        {
            "run": by_id[attempt.run_id].name,
            "stage": by_id[attempt.run_id].stage,
            "generation": attempt.generation,
            "job": attempt.job_id,
            "host": attempt.host,
            "started": attempt.started,
            "ended": max(attempt.started, end_of(attempt, now)),
            "cause": attempt.cause.value if attempt.cause else None,
            "evidence": attempt.evidence,
            "resumed_from": attempt.resumed_from,
            "step": attempt.step,
            "flops": spent[attempt.id],
        }
        for attempt in attempts
    ]


def _step(runs: Sequence[RunRecord], books: Books) -> dict[str, Any]:
    """Return the FLOPs of one step of the run that cost most, by part and by convention.

    `problem` is the reason if there are none.
    """
    dearest_first = sorted(runs, key=lambda each: -books.accounts[each.id].spent(books.terms))
    try:
        for run in dearest_first:
            if parts := task_of(run.config).parts_of_a_step(run.params):
                return {"problem": "", "run": run.name, **parts}
    except UsageError as error:
        return {"problem": str(error)}
    return {"problem": "no run is a training of the bundled task, whose steps lvjobs can break down"}
