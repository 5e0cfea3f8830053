"""What a pass leaves for whoever asks: one JSON object that `status` and `budget` show without making a pass."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lvjobs.cluster.protocol import Job
from lvjobs.control.accounts import Books
from lvjobs.control.clusters import gpus_by_default
from lvjobs.control.efficiency import efficiency_of
from lvjobs.control.pace import Stopwatch
from lvjobs.control.searching import kept_of
from lvjobs.control.statement import statement
from lvjobs.files import write_atomic
from lvjobs.ledger.records import Attempt, Run, StageRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.sketch import Sketch
from lvjobs.study.config import Study
from lvjobs.study.names import find_name
from lvjobs.study.training import TRAIN_TASK
from lvjobs.study.words import RunState

SCHEMA = 1

_WAITING = (RunState.PLANNED, RunState.INTERRUPTED)


def build_summary(
    transaction: Transaction,
    study: Study,
    books: Books,
    told: Sequence[str],
    problems: Sequence[str],
    now: float,
    waiting: Mapping[str, Job],
) -> dict[str, Any]:
    """Everything that the read commands show. Documented in docs/json.md.

    `waiting` are the jobs that the queue was seen to hold, by their run's id.
    """
    attempts = defaultdict(list)
    every = transaction.attempts()
    for attempt in every:
        attempts[attempt.run_id].append(attempt)
    runs = transaction.runs()
    stopwatch = Stopwatch(runs, every)
    jobs = {member.run_id: member for member in transaction.members() if member.state == "live"}
    submissions = {submission.token: submission for submission in transaction.submissions()}
    rows = []
    for run in runs:
        member = jobs.get(run.id)
        job_id = submissions[member.token].job_of(member.member) if member else None
        row = run_row(run, attempts[run.id], books, job_id)
        left = {"seconds_left": _seconds_left(run, attempts[run.id], stopwatch)}
        rows.append({**row, **left, **_queue_row(run, waiting.get(run.id))})
    gpus = {profile: gpus_by_default(profile) for profile in {run.profile for run in runs}}
    return {
        "schema": SCHEMA,
        "study": str(study.root),
        "time": now,
        "did": list(told),
        "problems": list(problems),
        "runs": rows,
        "stages": stage_rows(transaction, {run.id: run for run in runs}),
        "budget": {**statement(books), "efficiency": efficiency_of(runs, attempts, now, gpus).to_dict()},
    }


def stage_rows(transaction: Transaction, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """The stages as `status --json` shows them, as they are declared."""
    cells = transaction.cells()
    rows = []
    for record in transaction.stages():
        own = [runs[run_id] for run_id in cells.get(record.name, ())]
        rows.append(
            {
                "name": record.name,
                "state": record.state.value,
                "from": record.definition.get("from"),
                "runs": len(own),
                "done": sum(run.state is RunState.COMPLETED for run in own),
                "held": sum(run.state is RunState.HELD for run in own),
                **trials_of(transaction, record),
                "winner": runs[record.winner].name if record.winner in runs else None,
                "because": record.because,
                "by_hand": record.by_hand,
                "reason": record.reason,
            }
        )
    return rows


def trials_of(transaction: Transaction, record: StageRecord) -> dict[str, int | None]:
    """How many trials a search has, and of how many it is known what they are; nulls where the stage has no space."""
    search = record.definition.get("search")
    if not search:
        return {"trials": None, "proposed": None}
    return {"trials": search["trials"], "proposed": len(kept_of(transaction, record.name).history.trials)}


def run_row(run: Run, attempts: Sequence[Attempt], books: Books, job_id: str | None) -> dict[str, Any]:
    """One run as `status --json` shows it."""
    last = attempts[-1] if attempts else None
    claimed = [attempt for attempt in attempts if attempt.generation is not None]
    validated = [attempt for attempt in claimed if attempt.validation_step is not None]
    account = books.accounts[run.id]
    losses = {
        "loss": _finite([attempt.loss for attempt in reversed(claimed)]),
        "untrained_loss": _finite([attempt.untrained_loss for attempt in claimed]),
        "validation_loss": _finite([attempt.validation_loss for attempt in reversed(validated)]),
    }
    nothing: dict[str, float | None] = dict.fromkeys(losses)
    full, numeric = (nothing, losses) if _is_numeric(run) else (losses, nothing)
    return {
        "id": run.id,
        "name": run.name,
        "stage": run.stage,
        "state": run.state.value,
        "cause": run.cause.value if run.cause else None,
        "step": claimed[-1].step if claimed else 0,
        "steps": run.steps,
        "attempts": len(attempts),
        "job_id": job_id or (last.job_id if last else None),
        "reason": run.reason,
        "held_for": run.held_for,
        **full,
        **{f"{name}_numeric": value for name, value in numeric.items()},
        "checkpoint_step": max((attempt.checkpoint_step for attempt in attempts), default=0),
        "executed_steps": sum(attempt.executed for attempt in attempts),
        "replayed_steps": account.units["replayed"] - account.estimated,
        "estimated_steps": account.estimated,
        "flops": account.spent(books.terms),
        "reserved": account.set_aside(books.terms),
        "profile": run.profile,
        "error": last.error if last else "",
        "not_before": run.not_before if run.state in _WAITING and run.not_before else None,
        "curve": [float(f"{value:.4g}") for value in _curve(claimed).values],
    }


def _curve(claimed: Sequence[Attempt]) -> Sketch:
    """The training loss of the whole run: of what was lost with an attempt, what the next one made of it."""
    whole = Sketch()
    for attempt in claimed:
        whole = whole.until(attempt.resumed_from).joined(Sketch.from_json(attempt.curve))
    return whole


def _seconds_left(run: Run, attempts: Sequence[Attempt], stopwatch: Stopwatch) -> float | None:
    """What a run that trains has yet to do, if nothing interrupts; None where nothing of the kind was measured."""
    last = attempts[-1] if attempts else None
    if run.state is not RunState.RUNNING or last is None or last.cause is not None:
        return None
    pace = stopwatch.pace(run)
    if pace is not None:
        return round(pace.of_run(run.config, last.step), 1)
    if not last.executed or not last.train_seconds:
        return None
    return round((run.steps - last.step) * last.train_seconds / last.executed, 1)


def _is_numeric(run: Run) -> bool:
    """Whether its losses are a numeric head's: another objective, under keys of its own."""
    return run.config.get("task") == TRAIN_TASK and run.config["params"].get("head") == "numeric"


def _queue_row(run: Run, job: Job | None) -> dict[str, Any]:
    """What Slurm says of a job that waits: its reason, as a code, and when it expects to start it."""
    waits = job is not None and run.state in (RunState.QUEUED, RunState.INTERRUPTED)
    return {
        "queue_reason": job.reason if job is not None and waits else None,
        "start_estimate": job.start if job is not None and waits else None,
    }


def _finite(values: Sequence[float | None]) -> float | None:
    """The first that is known, if it is a number: JSON has no word for infinity."""
    value = next((value for value in values if value is not None), None)
    return value if value is not None and math.isfinite(value) else None


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Keep the summary where any command finds it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, json.dumps(summary))  # in one line: a study of many runs has a long one, and it is for programs


def read_summary(path: Path) -> dict[str, Any] | None:
    """The last pass's summary, or None when no pass was ever made."""
    try:
        summary: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return summary


def find_row(summary: Mapping[str, Any], typed: str) -> Mapping[str, Any]:
    """The run of a summary that is meant by its name, enough of it (see `study.names`), or its id.

    Raises:
        UsageError: none is, or several may be.
    """
    rows: dict[str, Mapping[str, Any]] = {row["name"]: row for row in summary["runs"]}
    by_id = {row["id"]: row for row in summary["runs"]}
    return by_id.get(typed) or rows[find_name(typed, rows)]
