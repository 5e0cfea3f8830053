"""The FLOP conventions by name. A new one needs a module with `count` and an entry in `CONVENTIONS` here.

One that a budget may use is also a name of `BudgetConvention` in `lvjobs.study.words`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from lvjobs.errors import UsageError
from lvjobs.flops import exact, measured, official, published
from lvjobs.flops.workload import Counts, Workload
from lvjobs.study.words import FORMER_CONVENTIONS, BudgetConvention


@dataclass(frozen=True)
class Convention:
    """A way to count the FLOPs of a step."""

    count: Callable[[Workload], Counts]
    meaning: str


PUBLISHED = "published-formula"

CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        PUBLISHED: Convention(
            published.count,
            "the published study's formula: lm_head on the last token, no backward pass for LoRA",
        ),
        "official": Convention(
            official.count,
            "backward = 2 x forward; no rule for the loss, which is left out; the budget's default",
        ),
        "exact": Convention(exact.count, "the true architecture and backward pass: frozen weights have no gradient"),
        "measured": Convention(measured.count, "torch's FlopCounterMode on meta tensors: matmuls alone"),
    }
)

BINDING = tuple(name for name in CONVENTIONS if name in get_args(BudgetConvention))
"""The conventions that a budget may use, and that a table shows where none is named; none of them needs torch."""


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the requested conventions, each once; `all` means every one, and no name means those of `BINDING`.

    Raises:
        UsageError: there is no such convention.
    """
    wanted = {FORMER_CONVENTIONS.get(name, name) for name in names}
    if unknown := [name for name in names if FORMER_CONVENTIONS.get(name, name) not in (*CONVENTIONS, "all")]:
        raise UsageError(f"convention {unknown[0]!r}: choose from {', '.join(CONVENTIONS)}, all")
    return tuple(name for name in CONVENTIONS if name in wanted or "all" in wanted) or BINDING


def caveats(workload: Workload, names: tuple[str, ...]) -> list[str]:
    """Return what a reader has to know about these counts, one sentence each."""
    blind = ", ".join(name for name in (PUBLISHED, "official") if name in names)
    packed, trains = workload.precision == "nf4", not workload.inference
    notes = {
        "measured: torch does not see 4-bit layers; this is the same model without quantization": packed
        and "measured" in names,
        f"{blind}: unpacking nf4 weights is not counted": packed and blind,
        f"{blind}: recomputation by gradient checkpointing is not counted": (
            workload.gradient_checkpointing and trains and blind
        ),
        f"{PUBLISHED}: a LoRA step is the forward pass scaled up; the backward pass is not in it": (
            workload.lora_rank and trains and PUBLISHED in names
        ),
    }
    return [note for note, applies in notes.items() if applies]
