"""A run's story: what happened to it, moment by moment, from the ledger's events and attempts. Pure."""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.ledger.records import Attempt, Event, Run


@dataclass(frozen=True)
class Moment:
    """Something that happened (`time` in seconds since the epoch). `cause` is that of an attempt that ended."""

    time: float
    kind: str
    text: str
    cause: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"time": self.time, "kind": self.kind, "text": self.text, "cause": self.cause or None}


def story(run: Run, attempts: Sequence[Attempt], events: Sequence[Event]) -> list[Moment]:
    """From its declaration on. What a pass noted of a death is told where the attempt ends.

    `attempts` and `events` are the run's, oldest first.
    """
    then: dict[str, deque[str]] = defaultdict(deque)
    ends = {_end(attempt) for attempt in attempts if attempt.cause}
    first = min([run.created, *(event.time for event in events[:1])])  # of whichever host's clock was behind
    moments = [Moment(first, "declared", f"declared, {run.steps} steps, in stage {run.stage}")]
    for event in events:
        end = next((end for end in ends if event.text.startswith(end)), None)
        if end is None:
            moments.append(Moment(event.time, event.kind, event.text))
        else:
            then[end].append(event.text.removeprefix(end).lstrip("; "))
    begun = [attempt.started for attempt in attempts if attempt.generation is not None]
    for number, attempt in enumerate(attempts, 1):
        later = min((start for start in begun if start > attempt.started), default=None)
        moments += _of_attempt(number, attempt, then, later)
    order = {"ended": 0, "began": 2}
    return sorted(moments, key=lambda moment: (moment.time, order.get(moment.kind, 1)))


def _end(attempt: Attempt) -> str:
    """What a pass notes of an attempt's end before it says what follows."""
    return f"{attempt.cause.value if attempt.cause else ''}: {attempt.evidence}"


def _of_attempt(number: int, attempt: Attempt, then: Mapping[str, deque[str]], later: float | None) -> Iterator[Moment]:
    """Its beginning and its end; that is noted by a pass, which may come after the next one has begun (`later`)."""
    where = f" on {attempt.host}" if attempt.host else ""
    if attempt.generation is not None:
        since = f", from the checkpoint of step {attempt.resumed_from}" if attempt.resumed_from else ""
        yield Moment(attempt.started, "began", f"attempt {number} begins{where} (job {attempt.job_id}){since}")
    if attempt.cause is not None:
        words = [f"attempt {number} ends, {_end(attempt)}"]
        if attempt.generation is not None:
            words.append(_did(attempt))
        if noted := then.get(_end(attempt)):
            words.append(noted.popleft())
        ended = attempt.ended or attempt.started
        ended = ended if later is None else min(ended, later)
        yield Moment(ended, "ended", "; ".join(filter(None, words)), attempt.cause.value)


def _did(attempt: Attempt) -> str:
    if not attempt.executed:
        return "it executed no step"
    first = attempt.step - attempt.executed + 1
    steps = f"steps {first} to {attempt.step}" if attempt.executed > 1 else f"step {first}"
    lost = max(0, attempt.step - attempt.checkpoint_step)
    last = "the last of them" if lost == 1 else f"the last {lost} of them"
    return steps + (f", {last} after its newest checkpoint" if lost else "")
