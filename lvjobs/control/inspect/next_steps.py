"""The last two parts of `lvjobs why`: what happens to a run without its user, and commands for them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lvjobs import remedies
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.remedies.remedy import Remedy
from lvjobs.study.words import Cause, HeldFor, RunState
from lvjobs.tasks.registry import task_of


def next_steps(
    run: RunRecord, row: Mapping[str, Any], attempts: Sequence[AttemptRecord], where: Sequence[str]
) -> Iterator[str]:
    """Yield what lvjobs or Slurm does next. `where`: see `StudyContext.where`."""
    checkpoint, parent = row["checkpoint_step"], run.configuration.parent
    start = f"from the checkpoint of step {checkpoint}" if checkpoint else "from the beginning"
    if not checkpoint and parent is not None:
        start = f"from step {parent.step} of {parent.run}"
    if run.state is RunState.INTERRUPTED and row.get("queue_reason") is not None:
        yield f"Slurm restarts its job, and the run continues {start}{_expected(row)}"
    elif run.state in (RunState.INTERRUPTED, RunState.PLANNED):
        when = "when its back-off is over" if run.not_before else "when it can"
        yield f"lvjobs submits it {when}; it then {'continues' if attempts else 'starts'} {start}"
    elif run.state is RunState.QUEUED:
        yield f"it starts {start} when the job starts{_expected(row)}"
    elif run.state is RunState.RUNNING:
        yield f"it saves a checkpoint every {run.checkpoint_every} steps; if interrupted, it continues from the last"
    elif run.state is RunState.SUBMITTING:
        yield "the next update looks for its token in the queue, and adopts the job or submits it again"
    elif run.held_for is HeldFor.RUNG:
        yield f"once all runs of {run.stage} have reached that step, the best continue"
    elif run.state is RunState.HELD:
        yield (
            f"held until you run: {remedies.RESUME_RUN(*where, run=run.name)}"
            if run.held_for is not HeldFor.BUDGET
            else f"it resumes automatically once enough {limit_of(run)[0]} are free"
        )
    if run.state in (RunState.HELD, RunState.PAUSED, RunState.CANCELLED) and checkpoint:
        yield f"its checkpoints are kept; the newest is of step {checkpoint}"


def _expected(row: Mapping[str, Any]) -> str:
    """Return the end of a sentence on a waiting job: when Slurm expects to have started it, if it says so."""
    start = row.get("start_estimate")
    return time.strftime("; Slurm expects that by %a %d %b %H:%M", time.localtime(start)) if start else ""


def limit_of(run: RunRecord) -> tuple[str, Remedy]:
    """Return what a run lacks that is held for the budget, and the command that raises the limit of it."""
    if "GPU-hours" in run.reason and "FLOPs" not in run.reason:
        return "GPU-hours", remedies.BUDGET_SET_HOURS
    return "FLOPs", remedies.BUDGET_SET


def commands(
    run: RunRecord,
    row: Mapping[str, Any],
    failed: AttemptRecord | None,
    evaluations: Sequence[RunRecord],
    where: Sequence[str],
    *,
    has_log: bool,
) -> Iterator[tuple[str, str]]:
    """Yield commands and their purposes. `evaluations` are the run's own. `where`: see `StudyContext.where`."""
    name = run.name
    if run.state in (RunState.HELD, RunState.PAUSED):
        after = "resume with the current code"
        if run.held_for in (HeldFor.RUNG, HeldFor.PRUNED):
            after = "train it to its last step, regardless of its place in the ranking"
        elif run.held_for is not HeldFor.STOPPED:
            after = f"{after}, after the fix"
        if run.held_for is HeldFor.BUDGET:
            yield limit_of(run)[1](*where), "raise the limit"
            after = "resume it"
        if failed is not None and failed.cause is Cause.OUT_OF_MEMORY:
            yield remedies.RESUME_MEMORY(*where, run=name), "resume with more memory"
        yield remedies.RESUME_RUN(*where, run=name), after
    if has_log:
        yield remedies.LOGS(*where, run=name), "the log of its last job"
    if row.get("queue_reason") is not None:
        yield remedies.QUEUE(*where, run=name), "see what would start sooner"
    if run.state is RunState.COMPLETED and task_of(run.config).can_be_evaluated:
        if any(each.state is RunState.COMPLETED for each in evaluations):
            yield remedies.SCORES(*where, run=name), "the scores of its forecasts"
        elif not evaluations:
            yield remedies.EVALUATE(*where, runs=name), "forecast and score held-out series"
    if not run.state.is_final and run.state is not RunState.HELD:
        yield remedies.WATCH(*where), "follow the study and print each change"
    yield remedies.STATUS_RUN(*where, run=name), "full history"
    if run.state is RunState.CANCELLED:
        yield remedies.RETRY(*where, run=name), "submit it again"
    if not run.state.is_final:
        yield remedies.CANCEL(*where, run=name), "cancel the run"
