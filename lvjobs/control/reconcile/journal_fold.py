"""The update of an attempt from its journal's new lines. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lvjobs.ledger.records import AttemptRecord
from lvjobs.records.curves import LOSSES
from lvjobs.records.failure import read_error
from lvjobs.records.journal import Entry
from lvjobs.records.run_files import CheckpointName, Claim, parse_checkpoint_name
from lvjobs.records.sketch import Sketch
from lvjobs.study.words import Breakdown, LeaveCause


def begin(claim: Claim, run_id: str, grown: float) -> AttemptRecord:
    """Return the attempt that a claim declares, before its journal is read; its id is 0 until the ledger assigns one.

    `grown` is when the journal last grew, in seconds since the epoch.
    """
    return AttemptRecord(
        id=0,
        run_id=run_id,
        token=claim.token,
        job_id=claim.job_id,
        restart_count=claim.restart_count,
        started=claim.time,
        generation=claim.generation,
        host=claim.host,
        grown=grown,
    )


def fold(attempt: AttemptRecord, entries: Iterable[Entry], consumed: int, grown: float) -> AttemptRecord:
    """Return the attempt after `entries`, which took `consumed` bytes of its journal and were written at `grown`."""
    if not consumed:
        return attempt
    losses = []
    for entry in entries:
        attempt = _fold_one(attempt, entry)
        if entry.kind == "step" and (loss := _loss(entry)) is not None:
            losses.append((int(entry.fields["step"]), loss))
    curve = Sketch.from_json(attempt.curve).with_points(losses).to_json() if losses else attempt.curve
    return replace(attempt, curve=curve, journal_offset=attempt.journal_offset + consumed, grown=grown)


def _fold_one(attempt: AttemptRecord, entry: Entry) -> AttemptRecord:
    fields = entry.fields
    step = int(fields.get("step") or 0)
    if entry.kind == "start":
        name = parse_checkpoint_name(str(fields.get("resumed_from") or "")) or CheckpointName(0, 0)
        return replace(
            attempt,
            host=str(fields.get("node") or attempt.host),
            resumed_from=name.step,
            resumed_generation=name.generation,
            checkpoint_step=name.step,
            step=max(attempt.step, name.step),
            checkpoint_every=fields.get("checkpoint_every"),
        )
    if entry.kind == "step":
        return replace(
            attempt,
            step=max(attempt.step, step),
            executed=attempt.executed + 1,
            loss=_loss(entry, attempt.loss),
            train_seconds=attempt.train_seconds + _seconds(entry),
        )
    if entry.kind == "validation":
        return replace(
            attempt,
            validation_loss=_loss(entry, attempt.validation_loss),
            untrained_loss=attempt.untrained_loss if step else _loss(entry),
            validation_step=step,
            validation_windows=attempt.validation_windows + int(fields.get("windows", fields.get("batches", 0))),
            validation_seconds=attempt.validation_seconds + _seconds(entry),
        )
    if entry.kind == "generation":
        return replace(attempt, generated=attempt.generated + int(fields.get("series") or 0))
    if entry.kind == "checkpoint":
        return replace(
            attempt,
            checkpoint_step=max(attempt.checkpoint_step, step),
            checkpoint_seconds=attempt.checkpoint_seconds + _seconds(entry),
            checkpoints=attempt.checkpoints + 1,
            checkpoint_bytes=int(fields.get("bytes") or 0),
        )
    if entry.kind == "signal":
        return replace(attempt, signal=str(fields.get("signal", "")))
    if entry.kind == "leave":
        return replace(attempt, leave_cause=_leave_cause(fields), leave_action=str(fields.get("action", "none")))
    if entry.kind == "died" and not attempt.error:
        return replace(attempt, died=Breakdown.PROCESS, exit_status=fields.get("status"))
    if entry.kind == "error":
        error = read_error(fields)
        return replace(
            attempt, error=str(error), traceback=error.traceback, died=error.breakdown, failed_node=error.node
        )
    if entry.kind == "done":
        return replace(attempt, finished=True)
    return attempt


_GUESSED = "the scheduler did not answer, so the cause is read off the signal"
"""Part of the detail that older workers wrote with a guessed cause. They still run: runs keep their code snapshot."""


def _leave_cause(fields: Mapping[str, Any]) -> LeaveCause:
    return LeaveCause.UNKNOWN if _GUESSED in str(fields.get("detail", "")) else LeaveCause(str(fields.get("cause", "")))


def _loss(entry: Entry, before: float | None = None) -> float | None:
    """Return the entry's loss, under either name (a run writes only that of its configuration); else `before`."""
    return next((entry.fields[name] for name in LOSSES if name in entry.fields), before)


def _seconds(entry: Entry) -> float:
    """Return the seconds that the reported work took."""
    return float(entry.fields.get("seconds") or 0)
