"""What a run's attempts spent, from what their journals show was executed. Pure; exact integers."""

from collections.abc import Sequence

from lvjobs.ledger.records import Attempt, Charge, Run


def charges_of(run: Run, attempts: Sequence[Attempt]) -> list[Charge]:
    """Useful, replayed and validation charges of each attempt.

    Useful is what the newest generation stands on: its own steps, those that led to the checkpoint it began from, and
    so on back. Whatever else was executed (lost with a death, done beside the run by an orphan) is replayed. So useful
    + replayed = executed, in every history.
    """
    useful = _useful_steps([attempt for attempt in attempts if attempt.generation is not None])
    charges = []
    for attempt in attempts:
        kept = useful.get(attempt.generation or 0, 0)
        for kind, steps, rate in (
            ("useful", kept, run.step_flops),
            ("replayed", attempt.executed - kept, run.step_flops),
            ("validation", attempt.validation_windows, run.validation_flops),
        ):
            if steps:
                charges.append(Charge(run.id, attempt.id, kind, steps, rate))
    return charges


def _useful_steps(claimed: Sequence[Attempt]) -> dict[int, int]:
    """Generation -> how many of its steps the newest generation stands on."""
    by_generation = {attempt.generation or 0: attempt for attempt in claimed}
    useful: dict[int, int] = {}
    generation = max(by_generation, default=0)
    reached = by_generation[generation].step if generation else 0
    while generation in by_generation and generation not in useful:
        attempt = by_generation[generation]
        useful[generation] = max(0, min(attempt.executed, reached - attempt.resumed_from))
        generation, reached = attempt.resumed_generation, attempt.resumed_from
    return useful


def replayed_steps(run: Run, attempts: Sequence[Attempt]) -> int:
    """Steps that were executed and lost."""
    return sum(charge.steps for charge in charges_of(run, attempts) if charge.kind == "replayed")
