"""The `published-formula` convention, to the last digit of the published study's Table 1; and the printed figures.

The formula counts grouped-query attention as the model has it, lm_head on the *last* token of each sequence only, one
square root a tensor in RMSNorm, and no adapter in the forward pass. Its cost of a LoRA step is the forward pass scaled
by the adapters' share of weights, with no backward pass through the frozen layers; a step without adapters is three
forward passes.

Printed digits are quoted where they are on record; no digit here was filled in. A row that the formula does not
reproduce has the reason, and so has a row for which the official rules give another figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lvjobs.flops import official
from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.workload import EXP, SQRT, SWIGLU, Counts, Forward, Workload, counts, generation, matmul, projections


def count(workload: Workload) -> Counts:
    """Return the counts of a step by the published formula.

    The study gave no formula for a forecast, so its forward pass is used.
    """
    one = _pass(workload, workload.batch, workload.length, workload.length)
    return counts(
        workload,
        one,
        backward=_lora_step(workload, one.total) - one.total if workload.lora_rank else 2 * one.total,
        generation=generation(workload, lambda new, keys: _pass(workload, 1, new, keys).total),
    )


def _pass(workload: Workload, batch: int, new: int, keys: int) -> Forward:
    """Count a forward pass of `batch` sequences, each of `new` tokens that attend to `keys` keys."""
    shape = workload.shape
    tokens, d = batch * new, shape.width
    softmax = new * ((1 + EXP + 1) * keys + keys - 1)  # scale, exponential, division; keys - 1 additions a row
    one_head = matmul(new, shape.head_width, keys) + softmax + matmul(new, keys, shape.head_width)
    return Forward(
        layers=shape.layers,
        embedding=tokens * d,
        attention=projections(shape, shape.layout.attention, tokens) + batch * shape.heads * one_head,
        mlp=projections(shape, shape.layout.mlp, tokens) + tokens * shape.intermediate * SWIGLU,
        norm=4 * tokens * d + SQRT,
        residual=2 * tokens * d,
        head=matmul(batch, d, workload.head),
    )


def _lora_step(workload: Workload, forward: int) -> int:
    """Return forward pass x (1 + 2 lora / adapted), rounded down once.

    The ratio is the adapters' weights over those that they adapt. The study adapted q and v, both taken as d x d;
    `all-linear` is the same ratio over all linears of a layer.
    """
    shape = replace(workload.shape, kv_heads=workload.shape.heads)
    widths = [shape.widths(linear) for linear in workload.adapted]
    lora = sum(workload.lora_rank * (inner + outer) for inner, outer in widths)
    frozen = sum(inner * outer for inner, outer in widths)
    return forward * (frozen + 2 * lora) // frozen


MODEL = "qwen2.5-0.5b"
BATCH = 4


@dataclass(frozen=True)
class PublishedRow:
    """One printed figure, beside what its own formula and the official rules give for it.

    Attributes:
        name: What it counts.
        printed: The printed digits; empty where they are not on record.
        formula: The figure by the published formula; None where no formula gives it.
        official: The figure by the `official` convention; None where that has none.
        why: The reason why the formula does not give what was printed; empty where it does.
        difference: The reason why the rules give another figure than the formula; empty where they agree.
    """

    name: str
    printed: str
    formula: int | None
    official: int | None
    why: str = ""
    difference: str = ""


@dataclass(frozen=True)
class PublishedTables:
    """The study's Table 1 (one pass at 4 x 512, r 4), its Table 4 (training, FLOPs) and its other printed figures."""

    table_1: tuple[PublishedRow, ...]
    table_4: tuple[PublishedRow, ...]
    elsewhere: tuple[PublishedRow, ...]


def published() -> PublishedTables:
    """Return every figure; those of the formula and of the rules are computed now."""
    return PublishedTables(_table_1(), _table_4(), _elsewhere())


def _table_1() -> tuple[PublishedRow, ...]:
    shape = architecture_of(MODEL)
    own, rules = (module(Workload(shape, BATCH, 512, 4)) for module in (count, official.count))
    regular, by_rules = (module(Workload(shape, BATCH, 512)).step for module in (count, official.count))
    kv, tokens = shape.kv_heads * shape.head_width, BATCH * 512
    narrow = (
        f"keys and values are {shape.width} wide, as queries are, in the formula {kv}; an addition more a row of the "
        "softmax"
    )
    roots = f"a square root for each of {tokens:,} tokens; in the formula one for the whole tensor"
    head = f"lm_head for all {tokens:,} tokens; in the formula for the last token of each of {BATCH} sequences"
    inner = "the sum of the parts, and the adapters' forward pass, which is not in the formula"
    backward = "3 forward passes; in the formula 1, plus twice the adapters' share of the weights: no backward pass"
    return (
        PublishedRow("embedding", "1,835,008", own.embedding, rules.embedding),
        PublishedRow(
            "attention, a layer",
            "11,444,391,936",
            own.attention_per_layer,
            rules.attention_per_layer,
            difference=narrow,
        ),
        PublishedRow("MLP, a layer", "53,670,576,128", own.mlp_per_layer, rules.mlp_per_layer),
        PublishedRow("norm", "7,340,042", own.norm, rules.norm, difference=roots),
        PublishedRow(
            "layer", "65,133,318,164", own.layer, rules.layer, difference="its attention and its norms, as above"
        ),
        PublishedRow("final", "1,095,809,546", own.final, rules.final, difference=head),
        PublishedRow("forward", "1,564,297,280,490", own.forward, rules.forward, difference=inner),
        PublishedRow("LoRA step", "1,592,231,160,498", own.step, rules.step, difference=backward),
        PublishedRow(
            "regular step",
            "4,692,891,841,470",
            regular,
            by_rules,
            difference="3 forward passes, as in the formula, but of the pass above without adapters",
        ),
    )


_STAGES = {
    "base: 5,000 steps, 512, r 4": {(512, 4): 5000},
    "stage 1: 9 x 500 steps, 512, r 2 4 8": {(512, rank): 3 * 500 for rank in (2, 4, 8)},
    "stage 2: 3 x 500 steps, 128 512 768, r 8": {(length, 8): 500 for length in (128, 512, 768)},
    "final: 10,000 steps, 768, r 8": {(768, 8): 10_000},
}
"""The study's trainings, and the steps of each context length and rank."""


def _table_4() -> tuple[PublishedRow, ...]:
    base, stage_1, stage_2, final = (_trained(steps) for steps in _STAGES.values())
    own, rules = (sum(figures) for figures in zip(base, stage_1, stage_2, final, strict=True))
    long, _ = _trained({(512, 8): 5000})
    names = list(_STAGES)
    because = "the LoRA step, as above"
    return (
        PublishedRow(names[0], "", *base, difference=because),
        PublishedRow(
            names[1],
            "8.1e15",
            *stage_1,
            why=f"one r 8 run of 5,000 steps ({long:.3e}), not nine of 500",
            difference=because,
        ),
        PublishedRow(names[2], "", *stage_2, difference=because),
        PublishedRow(names[3], "", *final, difference=because),
        PublishedRow(
            "total",
            "4.5e16",
            own,
            rules,
            why=f"its own rows sum to 4.32e16; by the formula they are {own:.3e}",
            difference=because,
        ),
    )


def _elsewhere() -> tuple[PublishedRow, ...]:
    shape = architecture_of(MODEL)
    adapters = shape.layers * 2 * 4 * (2 * shape.width)
    workload = Workload(shape, BATCH, 512, 4)
    return (
        PublishedRow(
            "backward",
            "3.4e5",
            None,
            official.count(workload).backward,
            f"no FLOPs: it counts parameters ({adapters:,}: r 4 on q and v, both d x d)",
            "2 forward passes; the formula has no backward pass",
        ),
        PublishedRow("parameters", "215,040", None, None, "cannot be derived from the model and the study's ranks"),
    )


def _trained(steps: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """Return the FLOPs of steps by context length and rank: by the formula, and by the official rules."""
    shape = architecture_of(MODEL)
    by_formula, by_rules = (
        sum(each * convention(Workload(shape, BATCH, *kind)).step for kind, each in steps.items())
        for convention in (count, official.count)
    )
    return by_formula, by_rules
