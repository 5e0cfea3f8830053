"""The budget's statement, which `lvjobs budget` shows, in its JSON form. Pure; integers of FLOPs."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from lvjobs.control.budget.accounts import KINDS, Books
from lvjobs.flops.conventions import BINDING


def statement(books: Books) -> dict[str, Any]:
    """Return limit, spent, reserved and free; the FLOPs by kind and by stage; and the total spent by each convention.

    `spent` is exactly the sum of the kinds that count, and exactly the sum of `by_stage`.
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
    """Return the FLOPs spent by a convention; None if a run was declared before lvjobs knew it."""
    if any(account.run.rates and convention not in account.run.rates for account in books.all):
        return None
    return replace(books, terms=replace(books.terms, convention=convention)).spent
