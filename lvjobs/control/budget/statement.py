"""The budget's statement: what `lvjobs budget` shows, as JSON has it. Pure; integers of FLOPs."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from lvjobs.control.budget.accounts import KINDS, Books
from lvjobs.flops.conventions import BINDING


def statement(books: Books) -> dict[str, Any]:
    """Limit, spent, reserved and free; spent by kind and by stage; and the same by the other conventions.

    `spent` is the sum of the kinds that count, and of `by_stage`, exactly.
    """
    terms, accounts = books.terms, books.all
    by_kind = dict.fromkeys(KINDS, 0)
    by_stage: dict[str, int] = defaultdict(int)
    by_stage_and_kind: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(KINDS, 0))
    for account in accounts:
        by_stage[account.run.stage] += account.spent(terms)
        for kind in KINDS:
            flops = account.flops(terms, kind)
            by_kind[kind] += flops
            by_stage_and_kind[account.run.stage][kind] += flops
    spent, reserved = books.spent, books.reserved
    return {
        "convention": terms.convention,
        "counts_inference": terms.counts_inference,
        "limit": terms.limit,
        "spent": spent,
        "reserved": reserved,
        "free": terms.limit - spent - reserved,
        **by_kind,
        "estimated": sum(account.estimated * terms.rate(account.run, "replayed") for account in accounts),
        "by_stage": dict(by_stage),
        "by_stage_and_kind": dict(by_stage_and_kind),
        "by_convention": {name: _spent_by(books, name) for name in BINDING},
    }


def _spent_by(books: Books, convention: str) -> int | None:
    """What was spent by another convention; None where a run was declared before lvjobs knew it."""
    if any(account.run.rates and convention not in account.run.rates for account in books.all):
        return None
    return replace(books, terms=replace(books.terms, convention=convention)).spent
