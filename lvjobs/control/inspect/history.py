"""A run's history, moment by moment, from the ledger's events and attempts. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.ledger.records import AttemptRecord, Event, RunRecord
from lvjobs.ledger.transaction import Transaction

_MOST_EVENTS = 100_000


@dataclass(frozen=True)
class Moment:
    """One event of a run (`time` in seconds since the epoch). `cause` is that of an attempt that ended."""

    time: float
    kind: str
    text: str
    cause: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"time": self.time, "kind": self.kind, "text": self.text, "cause": self.cause or None}


def history_of(transaction: Transaction, run_id: str) -> list[Moment]:
    """Return a run's history, as the ledger has it."""
    (run,) = transaction.find_runs([run_id])
    return moments_of(run, transaction.attempts([run_id]), transaction.events(run_id, limit=_MOST_EVENTS))


def moments_of(run: RunRecord, attempts: Sequence[AttemptRecord], events: Sequence[Event]) -> list[Moment]:
    """Return the run's history from its declaration on. An event of an attempt is part of the moment of its end.

    `attempts` and `events` are the run's, oldest first.
    """
    then = {event.attempt_id: event.text for event in events if event.attempt_id}
    first = min([run.created, *(event.time for event in events[:1])])  # hosts' clocks may differ
    parent = run.configuration.parent
    since = f" from step {parent.step} of {parent.run} on" if parent is not None else ""
    moments = [Moment(first, "declared", f"declared, {run.steps} steps{since}, in stage {run.stage}")]
    moments += [Moment(event.time, event.kind, event.text) for event in events if not event.attempt_id]
    begun = [attempt.started for attempt in attempts if attempt.generation is not None]
    for number, attempt in enumerate(attempts, 1):
        later = min((start for start in begun if start > attempt.started), default=None)
        moments += _of_attempt(number, attempt, then.get(attempt.id, ""), later)
    order = {"ended": 0, "began": 2}
    return sorted(moments, key=lambda moment: (moment.time, order.get(moment.kind, 1)))


def _of_attempt(number: int, attempt: AttemptRecord, then: str, later: float | None) -> Iterator[Moment]:
    """Yield the attempt's beginning and its end, with the event that followed (`then`).

    A pass records the end, maybe after the next attempt has begun (`later`). Then that beginning counts as the end.
    """
    where = f" on {attempt.host}" if attempt.host else ""
    if attempt.generation is not None:
        since = f", from the checkpoint of step {attempt.resumed_from}" if attempt.resumed_from else ""
        yield Moment(attempt.started, "began", f"attempt {number} begins{where} (job {attempt.job_id}){since}")
    if attempt.cause is not None:
        did = _did(attempt) if attempt.generation is not None else ""
        words = [f"attempt {number} ends, {attempt.cause.value}: {attempt.evidence}", did, then]
        ended = attempt.ended or attempt.started
        ended = ended if later is None else min(ended, later)
        yield Moment(ended, "ended", "; ".join(filter(None, words)), attempt.cause.value)


def _did(attempt: AttemptRecord) -> str:
    if not attempt.executed:
        return "no step was executed"
    first = attempt.step - attempt.executed + 1
    steps = f"steps {first} to {attempt.step}" if attempt.executed > 1 else f"step {first}"
    lost = max(0, attempt.step - attempt.checkpoint_step)
    last = "the last is" if lost == 1 else f"the last {lost} are"
    return steps + (f" ({last} not in a checkpoint)" if lost else "")
