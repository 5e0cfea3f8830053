"""The charges of a run's attempts, from the work that their journals show. Pure; exact integers."""

from collections.abc import Sequence

from lvjobs.ledger.records import AttemptRecord, Charge, RunRecord
from lvjobs.study.words import Cause

VANISHED = (Cause.NODE_FAIL, Cause.LOST)
"""The causes of ends that were not observed. The journal's last lines may be lost with the machine's memory. Or the
process still runs as an orphan, and writes more.
"""


def charges_of(run: RunRecord, attempts: Sequence[AttemptRecord]) -> list[Charge]:
    """Return the useful, replayed, validation and generation charges of each attempt.

    Useful steps are those that the newest generation builds on: its own steps, those that led to the checkpoint it
    began from, and so on back. All other executed steps (lost in a failure, or executed by an orphan) are replayed. So
    useful + repeated = executed, in every history. In addition, steps that a failed node may have executed unseen are
    charged as replayed, and marked estimated. A generation whose journal has no line has not begun: the newest one
    with a line counts.
    """
    useful = _useful_steps([attempt for attempt in attempts if attempt.generation is not None])
    charges = []
    for attempt in attempts:
        kept = useful.get(attempt.generation or 0, 0)
        unseen = unseen_steps(run, attempt)
        for kind, units, estimated in (
            ("useful", kept, 0),
            ("replayed", attempt.executed - kept + unseen, unseen),
            ("validation", attempt.validation_windows, 0),
            ("generation", attempt.generated, 0),
        ):
            if units:
                charges.append(Charge(run.id, attempt.id, kind, units, estimated))
    return charges


def unseen_steps(run: RunRecord, attempt: AttemptRecord) -> int:
    """Return the most steps that an attempt may have executed without its journal showing them.

    The journal is made durable at each checkpoint, before the next step begins. So an attempt that vanished without a
    closing line executed at most the steps up to its next checkpoint. 0 for any other attempt.
    """
    if attempt.generation is None or attempt.has_last_word or attempt.cause not in VANISHED:
        return 0
    # If the journal names no interval and the run has had two, the longer one is the upper bound.
    longest = max(run.checkpoint_every, int(run.declared.get("checkpoint_every", 0)))
    every = attempt.checkpoint_every or longest
    due = min(run.steps, (attempt.step // every + 1) * every)
    return due - attempt.step


def _useful_steps(claimed: Sequence[AttemptRecord]) -> dict[int, int]:
    """Return, by generation, how many of its steps the newest generation builds on."""
    by_generation = {attempt.generation or 0: attempt for attempt in claimed}
    useful: dict[int, int] = {}
    generation = max((attempt.generation or 0 for attempt in claimed if attempt.has_started), default=0)
    reached = by_generation[generation].step if generation else 0
    while generation in by_generation and generation not in useful:
        attempt = by_generation[generation]
        useful[generation] = max(0, min(attempt.executed, reached - attempt.resumed_from))
        generation, reached = attempt.resumed_generation, attempt.resumed_from
    return useful
