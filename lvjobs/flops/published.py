"""The `published-formula` convention, to the last digit of the published study's Table 1; and the printed figures.

The formula counts grouped-query attention as the model has it, lm_head on the *last* token of each sequence only, one
square root a tensor in RMSNorm, and no adapter in the forward pass. Its cost of a LoRA step is the forward pass scaled
by the adapters' share of weights, with no backward pass through the frozen layers; a step without adapters is three
forward passes.

Printed digits are quoted where they are on record; no digit here was filled in. A row that the formula does not
reproduce has the reason.
"""

from dataclasses import dataclass, replace

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
    """One printed row: `printed` is empty where its digits are not on record, `formula` None where none gives it."""

    name: str
    printed: str
    formula: int | None
    why: str = ""


@dataclass(frozen=True)
class PublishedTables:
    """The study's Table 1 (one pass at 4 x 512, r 4), its Table 4 (training, FLOPs) and its other printed figures."""

    table_1: tuple[PublishedRow, ...]
    table_4: tuple[PublishedRow, ...]
    elsewhere: tuple[PublishedRow, ...]


def published() -> PublishedTables:
    """Return every figure; the formula's are computed now."""
    shape = architecture_of(MODEL)
    lora = count(Workload(shape, BATCH, 512, 4))
    table_1 = (
        PublishedRow("embedding", "1,835,008", lora.embedding),
        PublishedRow("attention, a layer", "11,444,391,936", lora.attention_per_layer),
        PublishedRow("MLP, a layer", "53,670,576,128", lora.mlp_per_layer),
        PublishedRow("norm", "7,340,042", lora.norm),
        PublishedRow("layer", "65,133,318,164", lora.layer),
        PublishedRow("final", "1,095,809,546", lora.final),
        PublishedRow("forward", "1,564,297,280,490", lora.forward),
        PublishedRow("LoRA step", "1,592,231,160,498", lora.step),
        PublishedRow("regular step", "4,692,891,841,470", count(Workload(shape, BATCH, 512)).step),
    )
    base = 5000 * _step(512, 4)
    stage_1 = sum(3 * 500 * _step(512, rank) for rank in (2, 4, 8))
    stage_2 = sum(500 * _step(length, 8) for length in (128, 512, 768))
    final = 10_000 * _step(768, 8)
    long = 5000 * _step(512, 8)
    total = base + stage_1 + stage_2 + final
    table_4 = (
        PublishedRow("base: 5,000 steps, 512, r 4", "", base),
        PublishedRow(
            "stage 1: 9 x 500 steps, 512, r 2 4 8",
            "8.1e15",
            stage_1,
            f"what was printed is one r 8 run of 5,000 steps ({long:.3e}), not nine of 500",
        ),
        PublishedRow("stage 2: 3 x 500 steps, 128 512 768, r 8", "", stage_2),
        PublishedRow("final: 10,000 steps, 768, r 8", "", final),
        PublishedRow("total", "4.5e16", total, f"its own rows sum to 4.32e16; by the formula they are {total:.3e}"),
    )
    adapters = shape.layers * 2 * 4 * (2 * shape.width)
    elsewhere = (
        PublishedRow(
            "backward", "3.4e5", None, f"no FLOPs: it counts parameters ({adapters:,}: r 4 on q and v, both d x d)"
        ),
        PublishedRow("parameters", "215,040", None, "cannot be derived from the model and the study's ranks"),
    )
    return PublishedTables(table_1, table_4, elsewhere)


def _step(length: int, rank: int) -> int:
    return count(Workload(architecture_of(MODEL), BATCH, length, rank)).step
