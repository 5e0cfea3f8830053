"""The `exact` convention: the true architecture, and the true backward pass through frozen weights.

Forward: as `official`, but keys and values have the width of grouped-query attention, and only the last token of a
prompt goes through lm_head. Backward, by the chain rule, each line at the prices of `workload`: the gradient of every
linear's input; gradients of weights only in the adapters (in all weights where there are none); attention's core twice.
Gradient checkpointing adds what torch runs again; nf4 adds unpacking the weights at each use. docs/flops.md has every
line with its source.
"""

from collections.abc import Iterable

from lvjobs.flops.architecture import Linear
from lvjobs.flops.workload import (
    SIGMOID,
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

_SWIGLU_BACKWARD = 2 + SIGMOID + 5
"""FLOPs per element: two for the product; the sigmoid again (torch keeps its input, not its output); five for dy
sigmoid(x) (1 + x (1 - sigmoid(x))).
"""


def count(workload: Workload, *, elementwise: bool = True, input_gradients: bool = True) -> Counts:
    """Return the FLOPs of the workload.

    Args:
        workload: The step and the forecast to count.
        elementwise: False: count matmuls only, for comparison with torch's measurement.
        input_gradients: Whether gradients reach the embeddings' output, as with PEFT under gradient checkpointing and
            with packed weights. False: where only adapters learn, torch omits the gradients in the first layer that no
            adapter needs. The convention counts them: it is an upper bound (docs/flops.md has the difference).
    """
    price = int(elementwise)
    one = _pass(workload, workload.batch, workload.length, workload.length, workload.tokens, price)
    backward = one.layers * _layer_backward(workload, price) + _final_backward(workload, price)
    if workload.gradient_checkpointing:
        backward += one.layers * _again(workload, one, price)
    elif workload.lora_rank and not input_gradients:
        backward -= _spared(workload)
    return counts(
        workload,
        one,
        backward,
        generation(workload, lambda new, keys: _pass(workload, 1, new, keys, 1, price).total),
    )


def _pass(workload: Workload, batch: int, new: int, keys: int, logits: int, price: int) -> Forward:
    """Count a pass of `batch` sequences, each of `new` tokens that attend to `keys` keys.

    `logits` tokens go through lm_head.
    """
    shape = workload.shape
    tokens, d, h = batch * new, shape.width, shape.head_width
    core = matmul(new, h, keys) + matmul(new, keys, h) + price * new * keys * SOFTMAX
    return Forward(
        layers=shape.layers,
        embedding=price * tokens * d,  # adding the positions
        attention=_frozen(workload, tokens, shape.layout.attention, price) + batch * shape.heads * core,
        mlp=_frozen(workload, tokens, shape.layout.mlp, price) + price * tokens * shape.intermediate * SWIGLU,
        norm=price * tokens * (4 * d + 1 + SQRT),
        residual=price * 2 * tokens * d,
        head=matmul(logits, d, workload.head),
        lora=sum(
            matmul(tokens, shape.widths(linear)[0], workload.lora_rank) + _up(workload, tokens, linear, price)
            for linear in workload.adapted
        ),
    )


def _layer_backward(workload: Workload, price: int) -> int:
    shape, tokens = workload.shape, workload.tokens
    d, h, length = shape.width, shape.head_width, workload.length
    flops = _unpacking(workload, shape.layout.linears, price)
    for linear in shape.layout.linears:
        inner, outer = shape.widths(linear)
        flops += matmul(tokens, outer, inner)  # gradient of the input
        if workload.full_fine_tuning:
            flops += matmul(inner, tokens, outer)  # gradient of the weights
        if linear in workload.adapted:
            flops += _adapter_backward(workload, inner, outer, price)
    # Twice the core: gradients of probabilities, values, queries and keys, and the softmax's gradient at twice its
    # price.
    core = matmul(length, h, length) + 3 * matmul(length, length, h) + price * 2 * length**2 * SOFTMAX
    flops += workload.batch * shape.heads * core
    regrouping = 2 * tokens * (shape.query_width - shape.kv_width)  # key and value heads sum over their query heads
    swiglu = tokens * shape.intermediate * _SWIGLU_BACKWARD
    # Where a value was read more than once, its gradients are added: at both residuals, and at the inputs of attention
    # and MLP, which q, k and v read, and gate and up. A fused linear reads its input once.
    readers = sum(linear.reads == "hidden" for linear in shape.layout.linears)
    sums = (2 + readers - 2) * tokens * d
    return flops + price * (regrouping + swiglu + sums) + 2 * _norm_backward(workload, price)


def _final_backward(workload: Workload, price: int) -> int:
    """Count lm_head and the last RMSNorm; in full fine-tuning also the embeddings, at one addition an element."""
    tokens, d = workload.tokens, workload.shape.width
    flops = matmul(tokens, workload.head, d) + _norm_backward(workload, price)
    if workload.full_fine_tuning:
        flops += matmul(d, tokens, workload.head) + price * tokens * d
    return flops


def _norm_backward(workload: Workload, price: int) -> int:
    """Count one RMSNorm's backward pass.

    g = weight dy costs d a token; its product with x, 2 d - 1; times r cubed / d, 4; r g minus that times x, 3 d. The
    weight's gradient costs 3 d.
    """
    d = workload.shape.width
    return price * workload.tokens * (6 * d + 3 + (3 * d if workload.full_fine_tuning else 0))


def _up(workload: Workload, tokens: int, linear: Linear, price: int) -> int:
    """Count the upper half of an adapter, with the alpha / r scaling and the addition: 2 FLOPs an output element."""
    _, outer = workload.shape.widths(linear)
    return matmul(tokens, workload.lora_rank, outer) + price * 2 * tokens * outer


def _adapter_backward(workload: Workload, inner: int, outer: int, price: int) -> int:
    """Count gradients of both weights and both inputs, the scaling, and the sum with the frozen linear's gradient."""
    tokens, rank = workload.tokens, workload.lora_rank
    up = matmul(tokens, outer, rank) + matmul(rank, tokens, outer)
    down = matmul(tokens, rank, inner) + matmul(inner, tokens, rank)
    return up + down + price * tokens * (outer + inner)


def _frozen(workload: Workload, tokens: int, linears: Iterable[Linear], price: int) -> int:
    """Count the forward pass of a layer's own linears."""
    return projections(workload.shape, linears, tokens) + _unpacking(workload, linears, price)


def _unpacking(workload: Workload, linears: Iterable[Linear], price: int) -> int:
    """Count unpacking: one multiplication a packed weight, its code's value times its block's scale."""
    weights = sum(inner * outer for inner, outer in map(workload.shape.widths, linears))
    return price * weights if workload.precision == "nf4" else 0


def _again(workload: Workload, one: Forward, price: int) -> int:
    """Count what one layer runs again before its backward pass.

    torch's checkpoint stops as soon as it has everything that the backward pass reads. That is the input of the layer's
    last matmul, not its output: the MLP's last linear, or the upper half of its adapter, and the residual after it are
    not run again.
    """
    tokens, shape = workload.tokens, workload.shape
    last = shape.layout.mlp[-1]
    after = price * tokens * shape.width
    if last in workload.adapted:
        after += _up(workload, tokens, last, price)
    else:
        after += _frozen(workload, tokens, [last], price)
    return one.layer + one.lora - after


def _spared(workload: Workload) -> int:
    """Count the matmuls that torch omits below the first layer's adapters.

    Nothing learns there and no gradient is needed: the input gradients of the linears that read the embeddings, and the
    gradients of keys or values without an adapter.
    """
    shape, tokens, flops = workload.shape, workload.tokens, 0
    for linear in shape.layout.attention[:-1]:
        inner, outer = shape.widths(linear)
        flops += matmul(tokens, outer, inner)
        if linear in workload.adapted:
            flops += matmul(tokens, workload.lora_rank, inner)
        else:
            flops += workload.batch * shape.heads * matmul(workload.length, workload.length, shape.head_width)
    return flops
