"""The `official` convention: the course handout's rules. It is the budget's default convention.

Grouped-query attention counts as multi-head; lm_head gives logits for every token; the backward pass is exactly twice
the forward pass, regardless of which weights learn and what is kept or recomputed; tokenising and computing positions
are free, adding them is not. Rotary embedding, biases, loss and optimizer have no rule, and are not counted: the loss
would add 0.17 % to a step of Qwen2.5-0.5B. Precision changes nothing.
"""

from dataclasses import replace

from lvjobs.flops.workload import (
    SOFTMAX,
    SQRT,
    SWIGLU,
    Counts,
    Forward,
    Workload,
    counts,
    generation,
    matmul,
    projections,
)


def count(workload: Workload) -> Counts:
    """Return the counts of a step and of a forecast by these rules."""
    one = _pass(workload, workload.batch, workload.length, workload.length)
    return counts(
        workload,
        one,
        backward=2 * one.total,
        generation=generation(workload, lambda new, keys: _pass(workload, 1, new, keys).total),
    )


def _pass(workload: Workload, batch: int, new: int, keys: int) -> Forward:
    """Count a forward pass of `batch` sequences, each of `new` tokens that attend to `keys` keys."""
    shape = replace(workload.shape, kv_heads=workload.shape.heads)
    tokens, d = batch * new, shape.width
    one_head = matmul(new, shape.head_width, keys) + new * keys * SOFTMAX + matmul(new, keys, shape.head_width)
    return Forward(
        layers=shape.layers,
        embedding=tokens * d,  # adding the positions
        attention=projections(shape, shape.layout.attention, tokens) + batch * shape.heads * one_head,
        mlp=projections(shape, shape.layout.mlp, tokens) + tokens * shape.intermediate * SWIGLU,
        norm=tokens * (4 * d + 1 + SQRT),  # squares, their sum, mean and epsilon, root; scaling, weight
        residual=2 * tokens * d,
        head=matmul(tokens, d, workload.head),
        lora=sum(_adapter(tokens, *shape.widths(linear), workload.lora_rank) for linear in workload.adapted),
    )


def _adapter(tokens: int, inner: int, outer: int, rank: int) -> int:
    """Count an adapter: down, up, and the alpha / r scaling and the addition, 2 more FLOPs an output element."""
    return matmul(tokens, inner, rank) + matmul(tokens, rank, outer) + 2 * tokens * outer
