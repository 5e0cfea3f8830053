"""The `published-formula` convention: the published study's formula, to the last digit of its Table 1.

It counts grouped-query attention as the model has it, lm_head on the *last* token of each sequence only, one square
root a tensor in RMSNorm, and no adapter in the forward pass. Its cost of a LoRA step is the forward pass scaled by the
adapters' share of weights, with no backward pass through the frozen layers; a step without adapters is three forward
passes.
"""

from lvjobs.flops.rules import ATTENTION, EXP, MLP, SQRT, SWIGLU, Forward, adapted, counts, generation, linears, matmul
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
    widths = linears(shape, shape.kv_width)

    def project(names: tuple[str, ...]) -> int:
        return sum(matmul(tokens, *widths[name]) for name in names)

    softmax = new * ((1 + EXP + 1) * keys + keys - 1)  # scale, exponential, division; keys - 1 additions a row
    one_head = matmul(new, shape.head_width, keys) + softmax + matmul(new, keys, shape.head_width)
    return Forward(
        layers=shape.layers,
        embedding=tokens * d,
        attention=project(ATTENTION) + batch * shape.heads * one_head,
        mlp=project(MLP) + tokens * shape.intermediate * SWIGLU,
        norm=4 * tokens * d + SQRT,
        residual=2 * tokens * d,
        head=matmul(batch, d, workload.head),
    )


def _lora_step(workload: Workload, forward: int) -> int:
    """Return forward pass x (1 + 2 lora / adapted), rounded down once.

    The ratio is the adapters' weights over those that they adapt. The study adapted q and v, both taken as d x d;
    `all-linear` is the same ratio over all seven linears.
    """
    widths = linears(workload.shape, kv_width=workload.shape.query_width)
    names = adapted(workload.lora_targets)
    lora = sum(workload.lora_rank * (inner + outer) for inner, outer in (widths[name] for name in names))
    frozen = sum(inner * outer for inner, outer in (widths[name] for name in names))
    return forward * (frozen + 2 * lora) // frozen
