"""What a run's attempts spent, from what their journals show was executed. Pure; exact integers."""

from collections.abc import Sequence

from lvjobs.ledger.records import AttemptRecord, Charge, RunRecord
from lvjobs.study.words import Cause

VANISHED = (Cause.NODE_FAIL, Cause.LOST)
"""Ends that nobody saw. The last lines of the journal may be gone with the machine's memory; or the process lives on,
an orphan, and writes more.
"""


def charges_of(run: RunRecord, attempts: Sequence[AttemptRecord]) -> list[Charge]:
    """Useful, replayed, validation and generation charges of each attempt.

    Useful is what the newest generation stands on: its own steps, those that led to the checkpoint it began from, and
    so on back. Whatever else was executed (lost with a death, done beside the run by an orphan) is replayed. So useful
    + replayed = executed, in every history; beyond that only what a dead node may have executed unseen is charged, as
    replayed and marked estimated. A generation without a line in its journal took nothing over yet: the newest that
    has one counts.
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
    """The most steps that an attempt may have executed and its journal does not show.

    A journal is durable at each checkpoint, and no step after the next one is executed before that: so it is the steps
    up to there, where the node went without a last word.
    """
    if attempt.generation is None or attempt.has_last_word or attempt.cause not in VANISHED:
        return 0
    # Which interval a silent attempt kept is not known where the run has had two: the longer is the upper bound.
    longest = max(run.checkpoint_every, int(run.declared.get("checkpoint_every", 0)))
    every = attempt.checkpoint_every or longest
    due = min(run.steps, (attempt.step // every + 1) * every)
    return due - attempt.step


def _useful_steps(claimed: Sequence[AttemptRecord]) -> dict[int, int]:
    """Generation -> how many of its steps the newest generation stands on."""
    by_generation = {attempt.generation or 0: attempt for attempt in claimed}
    useful: dict[int, int] = {}
    generation = max((attempt.generation or 0 for attempt in claimed if attempt.has_started), default=0)
    reached = by_generation[generation].step if generation else 0
    while generation in by_generation and generation not in useful:
        attempt = by_generation[generation]
        useful[generation] = max(0, min(attempt.executed, reached - attempt.resumed_from))
        generation, reached = attempt.resumed_generation, attempt.resumed_from
    return useful
