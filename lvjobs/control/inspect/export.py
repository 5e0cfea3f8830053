"""The ledger's rows for other programs: runs, attempts, charges and stages as plain tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lvjobs.control.budget.accounts import Terms
from lvjobs.ledger.transaction import Transaction

Rows = Sequence[Mapping[str, Any]]


def tables(transaction: Transaction, terms: Terms) -> dict[str, Rows]:
    """Return each table's rows, oldest first. All rows of a table have the same keys.

    A charge has its run's name, and its `flops` by the budget's convention, whether or not it `counts` against the
    limit.
    """
    runs = transaction.runs()
    by_id = {run.id: run for run in runs}
    cells = transaction.cells()
    charges = []
    for charge in transaction.charges():
        run = by_id[charge.run_id]
        counts = terms.counts_inference or charge.kind in ("useful", "replayed")
        flops = charge.units * terms.rate(run, charge.kind)
        charges.append({**asdict(charge), "run": run.name, "flops": flops, "counts": counts})
    attempts = [{**asdict(attempt), "run": by_id[attempt.run_id].name} for attempt in transaction.attempts()]
    stages = [
        {**asdict(stage), "cells": [by_id[run_id].name for run_id in cells.get(stage.name, ())]}
        for stage in transaction.stages()
    ]
    found = {"runs": [asdict(run) for run in runs], "attempts": attempts, "charges": charges, "stages": stages}
    plain: dict[str, Rows] = json.loads(json.dumps(found))  # states and causes become strings
    return plain
