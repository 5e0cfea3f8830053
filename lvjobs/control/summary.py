"""The summary that a pass writes: one JSON object that `status` and `budget` show without making a pass."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.cluster.protocol import Job
from lvjobs.control.backends import gpus_by_default, used_profile
from lvjobs.control.budget.accounts import Books, statement
from lvjobs.control.budget.archive import Tally, closed_tally, tally_of, total
from lvjobs.control.budget.efficiency import Share, efficiency_of
from lvjobs.control.budget.intervals import advise
from lvjobs.control.budget.pace import Stopwatch
from lvjobs.control.stages.search import trials_of
from lvjobs.control.submission.avoided_nodes import avoided_rows
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.sketch import Sketch
from lvjobs.records.summary import RunStatus, StageStatus, Summary, read_row
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import StudyLayout
from lvjobs.study.parent import start_of
from lvjobs.study.run_names import find_name
from lvjobs.study.words import MemberState, RunState
from lvjobs.tasks.registry import task_of

_WAITING = (RunState.PLANNED, RunState.INTERRUPTED)


@dataclass(frozen=True)
class Unclosed:
    """The runs that are not closed, their attempts by run id, and the GPUs that a job gets by default.

    `gpus` are by `RunRecord.submitted_by`.
    """

    runs: Sequence[RunRecord]
    attempts: Mapping[str, Sequence[AttemptRecord]]
    gpus: Mapping[str, int]


def read_unclosed(transaction: Transaction, layout: StudyLayout) -> Unclosed:
    """Read the runs that are not closed, as the ledger has them now."""
    runs = transaction.unclosed()
    submitted = {run.submitted_by: (run.profile, run.profile_copy) for run in runs}
    gpus = {key: gpus_by_default(used_profile(layout, *each)) for key, each in submitted.items()}
    return Unclosed(runs, by_run(transaction.attempts([run.id for run in runs])), gpus)


def build_summary(
    transaction: Transaction,
    study: StudyContext,
    books: Books,
    unclosed: Unclosed,
    did: Sequence[str],
    problems: Sequence[str],
    now: float,
    waiting: Mapping[str, Job],
) -> Summary:
    """Return everything that the read commands show, except the rows of closed runs.

    `did` and `problems` are the lines that the pass reports. `waiting` are the jobs that the pass saw in the queue, by
    their run's id. `now` is in seconds since the epoch.
    """
    runs, attempts = unclosed.runs, unclosed.attempts
    tally = total([closed_tally(transaction), tally_of(runs, books, attempts, now, unclosed.gpus)])
    stopwatch = Stopwatch(tally.samples)
    jobs = {member.run_id: member for member in transaction.members() if member.state is MemberState.LIVE}
    submissions = {submission.token: submission for submission in transaction.submissions()}
    awaited = transaction.find_runs({run.after for run in runs} - {""})
    uncompleted = {run.id: run.name for run in awaited if run.state is not RunState.COMPLETED}
    rows = []
    for run in runs:
        member = jobs.get(run.id)
        job_id = submissions[member.token].job_of(member.member) if member else None
        own = attempts.get(run.id, ())
        more = _queue_row(run, waiting.get(run.id)) | {"seconds_left": _seconds_left(run, own, stopwatch)}
        rows.append(run_row(run, own, books, job_id, **more, after=uncompleted.get(run.after)))
    progress = _progress(runs, attempts, stopwatch)
    return Summary(
        study=str(study.root),
        time=now,
        did=list(did),
        problems=list(problems),
        runs=rows,
        stages=stage_rows(transaction),
        avoided_nodes=avoided_rows(transaction, study.config.policy, now),
        budget={
            **statement(books, tally.accounts),
            "efficiency": efficiency_of(_in_order(tally), advise(tally.groups)),
        },
        progress=progress,
    )


def _in_order(tally: Tally) -> dict[str, Share]:
    """Return the shares of stages, in the order of the stages' first runs."""
    first = sorted((work.first, stage) for (stage, _), work in tally.work.items())
    return {stage: tally.shares[stage] for stage in dict.fromkeys(stage for _, stage in first)}


def stage_rows(transaction: Transaction) -> list[StageStatus]:
    """Return the rows of the stages, in their declared order."""
    records, counted = transaction.stages(), transaction.cell_states()
    winners = {run.id: run.name for run in transaction.find_runs({record.winner for record in records} - {""})}
    rows = []
    for record in records:
        own = counted.get(record.name, {})
        row = StageStatus(
            name=record.name,
            state=record.state.value,
            origin=record.definition.get("from"),
            runs=sum(own.values()),
            done=own.get(RunState.COMPLETED, 0),
            held=own.get(RunState.HELD, 0),
            **trials_of(transaction, record),
            winner=winners.get(record.winner),
            because=record.because,
            by_hand=record.by_hand,
            reason=record.reason,
        )
        rows.append(row)
    return rows


def run_row(
    run: RunRecord, attempts: Sequence[AttemptRecord], books: Books, job_id: str | None, **more: Any
) -> RunStatus:
    """Return a run's row. `more` are the fields that come from the queue and from other runs."""
    last = attempts[-1] if attempts else None
    started = [attempt for attempt in attempts if attempt.has_started]
    validated = [attempt for attempt in started if attempt.validation_step is not None]
    account = books.accounts[run.id]
    losses = {
        "loss": _finite([attempt.loss for attempt in reversed(started)]),
        "untrained_loss": _finite([attempt.untrained_loss for attempt in started]),
        "validation_loss": _finite([attempt.validation_loss for attempt in reversed(validated)]),
    }
    own = task_of(run.config).loss_name(run.params)
    row = {
        "id": run.id,
        "ordinal": run.ordinal,
        "name": run.name,
        "stage": run.stage,
        "state": run.state.value,
        "cause": run.cause.value if run.cause else None,
        "step": started[-1].step if started else start_of(run.config),
        "steps": run.steps,
        "attempts": len(attempts),
        "job_id": job_id or (last.job_id if last else None),
        "reason": run.reason,
        "held_for": run.held_for.value,
        **{f"{key}{own.removeprefix('loss')}": value for key, value in losses.items()},
        "checkpoint_step": max((attempt.checkpoint_step for attempt in attempts), default=0),
        "executed_steps": sum(attempt.executed for attempt in attempts),
        "replayed_steps": account.units["replayed"] - account.estimated,
        "estimated_steps": account.estimated,
        "flops": account.spent(books.terms),
        "reserved": account.set_aside(books.terms),
        "profile": run.profile,
        "error": last.error if last else "",
        "not_before": run.not_before if run.state in _WAITING and run.not_before else None,
        "tags": run.tags,
        "created": run.created,
        "ended": last.ended if last and last.cause is not None else None,
        "curve": [float(f"{value:.4g}") for value in _curve(started).values],
        **more,
    }
    return read_row(RunStatus, row)  # the losses of other objectives are None


def _curve(started: Sequence[AttemptRecord]) -> Sketch:
    """Return the training loss of the whole run. Steps that were repeated count as the later attempt trained them."""
    whole = Sketch()
    for attempt in started:
        whole = whole.until(attempt.resumed_from).joined(Sketch.from_json(attempt.curve))
    return whole


def _seconds_left(run: RunRecord, attempts: Sequence[AttemptRecord], stopwatch: Stopwatch) -> float | None:
    """Return the seconds that a running run still needs without interruption; None where nothing was measured."""
    last = attempts[-1] if attempts else None
    if run.state is not RunState.RUNNING or last is None or last.cause is not None or not last.has_started:
        return None
    pace = stopwatch.pace(run)
    if pace is not None:
        return round(pace.of_run(run.config, last.step, run.stop_at), 1)
    if not last.executed or not last.train_seconds:
        return None
    return round(((run.stop_at or run.steps) - last.step) * last.train_seconds / last.executed, 1)


def _progress(
    runs: Sequence[RunRecord], attempts: Mapping[str, Sequence[AttemptRecord]], stopwatch: Stopwatch
) -> dict[str, Any]:
    """Return how long the open runs still need, one after another, the longest of them, and how many run at once."""
    open_runs = [run for run in runs if not run.state.is_at_rest]
    left = []
    for run in open_runs:
        pace, own = stopwatch.pace(run), attempts.get(run.id, ())
        step = next((attempt.step for attempt in reversed(own) if attempt.has_started), 0)
        left.append(None if pace is None else pace.of_run(run.config, step, run.stop_at))
    known = [seconds for seconds in left if seconds is not None]
    return {
        "seconds_left": round(sum(known), 1) if known and len(known) == len(left) else None,
        "longest": round(max(known), 1) if known else None,
        "at_once": sum(run.state is RunState.RUNNING for run in open_runs),
    }


def _queue_row(run: RunRecord, job: Job | None) -> dict[str, Any]:
    """Return Slurm's reason code and expected start of a job that waits; None for both where no job waits."""
    waits = job is not None and run.state in (RunState.QUEUED, RunState.INTERRUPTED)
    return {
        "queue_reason": job.reason if job is not None and waits else None,
        "start_estimate": job.start if job is not None and waits else None,
    }


def _finite(values: Sequence[float | None]) -> float | None:
    """Return the first known value if it is finite, else None: JSON cannot express infinity."""
    value = next((value for value in values if value is not None), None)
    return value if value is not None and math.isfinite(value) else None


def find_row(summary: Mapping[str, Any], typed: str, where: Sequence[str] = ()) -> Mapping[str, Any]:
    """Return a run's row of the summary, by its id, its name, or enough of its name (see `study.names`).

    `where`: see `StudyContext.where`.

    Raises:
        UsageError: no run matches, or several do.
    """
    rows: dict[str, Mapping[str, Any]] = {row["name"]: row for row in summary["runs"]}
    by_id = {row["id"]: row for row in summary["runs"]}
    return by_id.get(typed) or rows[find_name(typed, rows, where)]
