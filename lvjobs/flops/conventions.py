"""The conventions by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from lvjobs.errors import UsageError
from lvjobs.flops import exact, measured, official, report
from lvjobs.flops.workload import Counts, Workload

CONVENTIONS: Mapping[str, Callable[[Workload], Counts]] = MappingProxyType(
    {"report": report.count, "official": official.count, "exact": exact.count, "measured": measured.count}
)

BINDING = ("official", "exact", "report")
"""Those that may bind a budget: they need no torch. `official` does unless a study says otherwise."""

DEFAULT = ("report", "official", "exact")
"""Those that a table shows where none is named."""

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "report": "the published study's formula: lm_head on the last token, no backward pass for LoRA",
        "official": "the handout's rules, backward = 2 x forward; it binds unless told",
        "exact": "the true architecture and backward pass: frozen weights have no gradient",
        "measured": "torch's FlopCounterMode on meta tensors: matmuls alone",
    }
)


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """The conventions that were asked for, each once; `all` is every one, none is the usual three.

    Raises:
        UsageError: there is no such convention.
    """
    if not names:
        return DEFAULT
    for name in names:
        if name not in (*CONVENTIONS, "all"):
            raise UsageError(f"convention {name!r}: choose from {', '.join(CONVENTIONS)}, all")
    return tuple(name for name in CONVENTIONS if name in names or "all" in names)


def caveats(workload: Workload, names: tuple[str, ...]) -> list[str]:
    """What a reader has to know of these counts, a sentence each."""
    notes = []
    blind = ", ".join(name for name in ("report", "official") if name in names)
    if workload.precision == "nf4" and "measured" in names:
        notes.append("measured: torch does not see 4-bit layers; this is the same model, unquantised")
    if workload.precision == "nf4" and blind:
        notes.append(f"{blind}: unpacking nf4 weights is not counted")
    if workload.gradient_checkpointing and not workload.inference and blind:
        notes.append(f"{blind}: what gradient checkpointing runs again is not counted")
    if workload.lora_rank and "report" in names and not workload.inference:
        notes.append("report: a LoRA step is the forward pass scaled up; the backward pass is not in it")
    return notes
