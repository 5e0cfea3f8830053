"""The `published-formula` convention: the published study's formula, to the last digit of its Table 1.

It counts grouped-query attention as the model has it, lm_head on the *last* token of each sequence only, one square
root a tensor in RMSNorm, and no adapter in the forward pass. Its cost of a LoRA step is the forward pass scaled by the
adapters' share of weights, with no backward pass through the frozen layers; a step without adapters is three forward
passes.
"""

from dataclasses import replace

from lvjobs.flops.rules import EXP, SQRT, SWIGLU, Forward, counts, generation, matmul, projections
from lvjobs.flops.workload import Counts, Workload


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
