"""The update of an attempt from its journal's new lines. Pure."""

import math
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from lvjobs.ledger.records import AttemptRecord
from lvjobs.records.curves import LOSSES
from lvjobs.records.failure import read_error
from lvjobs.records.journal import Entry, steps_of
from lvjobs.records.run_files import CheckpointName, Claim, parse_checkpoint_name
from lvjobs.records.sketch import Sketch
from lvjobs.records.summary import read_row
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
        started=float(claim.time),
        generation=claim.generation,
        host=claim.host,
        grown=grown,
    )


def fold(attempt: AttemptRecord, entries: Iterable[Entry], consumed: int, grown: float) -> AttemptRecord:
    """Return the attempt after `entries`, which took `consumed` bytes of its journal and were written at `grown`."""
    if not consumed:
        return attempt
    seen, losses = SimpleNamespace(**vars(attempt)), []
    for entry in entries:
        _fold_one(seen, entry)
        if entry.kind == "step" and (loss := _loss(entry)) is not None:
            losses.append((int(entry.fields["step"]), loss))
    if losses:
        seen.curve = Sketch.from_json(attempt.curve).with_points(losses).to_json()
    seen.journal_offset, seen.grown = attempt.journal_offset + consumed, grown
    return read_row(AttemptRecord, vars(seen))


def _fold_one(seen: SimpleNamespace, entry: Entry) -> None:
    """Add an entry to what was `seen` of an attempt: its fields, which may change."""
    fields = entry.fields
    step = int(fields.get("step") or 0)
    if entry.kind == "start":
        name = parse_checkpoint_name(str(fields.get("resumed_from") or "")) or CheckpointName(0, 0)
        seen.host = str(fields.get("node") or seen.host)
        seen.resumed_from = seen.checkpoint_step = name.step
        seen.resumed_generation = name.generation
        seen.step = max(seen.step, name.step)
        seen.checkpoint_every = fields.get("checkpoint_every")
        seen.started = min(seen.started, float(fields.get("job_start") or seen.started))
    elif entry.kind == "step":
        seen.step = max(seen.step, step)
        seen.executed += steps_of(entry)
        seen.loss = _loss(entry, seen.loss)
        seen.train_seconds += _seconds(entry)
    elif entry.kind == "validation":
        seen.validation_loss = _loss(entry, seen.validation_loss)
        seen.untrained_loss = seen.untrained_loss if step else _loss(entry)
        seen.validation_step = step
        seen.validation_windows += int(fields.get("windows", fields.get("batches", 0)))
        seen.validation_seconds += _seconds(entry)
    elif entry.kind == "generation":
        seen.generated += int(fields.get("series") or 0)
    elif entry.kind == "checkpoint":
        seen.checkpoint_step = max(seen.checkpoint_step, step)
        seen.checkpoint_seconds += _seconds(entry)
        seen.checkpoints += 1
        seen.checkpoint_bytes = int(fields.get("bytes") or 0)
    elif entry.kind == "signal":
        seen.signal = str(fields.get("signal", ""))
    elif entry.kind == "leave":
        seen.leave_cause, seen.leave_action = _leave_cause(fields), str(fields.get("action", "none"))
    elif entry.kind == "died" and not seen.error:
        seen.died, seen.exit_status = Breakdown.PROCESS, fields.get("status")
    elif entry.kind == "error":
        error = read_error(fields)
        seen.error, seen.traceback = str(error), error.traceback
        seen.died, seen.failed_node = error.breakdown, error.node
    elif entry.kind == "done":
        seen.finished = True


_GUESSED = "the scheduler did not answer, so the cause is read off the signal"
"""Part of the detail that older workers wrote with a guessed cause. They still run: runs keep their code snapshot."""


def _leave_cause(fields: Mapping[str, Any]) -> LeaveCause:
    return LeaveCause.UNKNOWN if _GUESSED in str(fields.get("detail", "")) else LeaveCause(str(fields.get("cause", "")))


def _loss(entry: Entry, before: float | None = None) -> float | None:
    """Return the entry's loss, under either name (a run writes only that of its configuration); else `before`.

    A loss that is not a number is None, as in the ledger, because SQLite stores NaN as NULL.
    """
    for name in LOSSES:
        if name in entry.fields:
            value = float("nan" if entry.fields[name] is None else entry.fields[name])
            return None if math.isnan(value) else value
    return before


def _seconds(entry: Entry) -> float:
    """Return the seconds that the reported work took."""
    return float(entry.fields.get("seconds") or 0)
