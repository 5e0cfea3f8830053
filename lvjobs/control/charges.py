"""What a run's attempts spent, from what their journals show was executed. Pure; exact integers."""

from collections.abc import Sequence

from lvjobs.ledger.records import Attempt, Charge, Run


def charges_of(run: Run, attempts: Sequence[Attempt]) -> list[Charge]:
    """Useful, replayed and validation charges of each attempt.

    A step is useful in the last generation that executed it: what a later generation redid (it resumed from an older
    checkpoint), or what an orphan did beside it, is replayed. So useful + replayed = executed, in every history.
    """
    claimed = sorted((a for a in attempts if a.generation is not None), key=lambda a: a.generation or 0)
    charges = []
    limit: int | None = None  # the lowest step that a later generation resumed from
    for attempt in reversed(claimed):
        kept = attempt.step if limit is None else min(attempt.step, limit)
        useful = max(0, min(attempt.executed, kept - attempt.resumed_from))
        replayed = attempt.executed - useful
        for kind, steps, rate in (
            ("useful", useful, run.step_flops),
            ("replayed", replayed, run.step_flops),
            ("validation", attempt.validation_batches, run.validation_flops),
        ):
            if steps:
                charges.append(Charge(run.id, attempt.id, kind, steps, rate))
        limit = attempt.resumed_from if limit is None else min(limit, attempt.resumed_from)
    return charges[::-1]


def replayed_steps(run: Run, attempts: Sequence[Attempt]) -> int:
    """Steps that were executed and lost."""
    return sum(charge.steps for charge in charges_of(run, attempts) if charge.kind == "replayed")
