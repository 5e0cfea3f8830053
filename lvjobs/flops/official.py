"""The `official` convention: the course handout's rules, complete.

Additions, subtractions, multiplications and divisions count 1, exponentials and square roots 10; a matmul
(m, n)(n, p) counts m p (2n - 1); grouped-query attention counts as multi-head; the backward pass is exactly twice the
forward pass; tokenising and computing positions are free, adding them is not. No rotary embedding, biases or loss.
"""

from lvjobs.flops.architecture import Architecture

_EXP = _SQRT = 10


def matmul(m: int, n: int, p: int) -> int:
    """(m, n)(n, p): m p dot products of n multiplications and n - 1 additions."""
    return m * p * (2 * n - 1)


def forward(shape: Architecture, batch: int, length: int, lora_rank: int = 0, lora_targets: str = "qv") -> int:
    """One forward pass over `batch` sequences of `length` tokens, lm_head on every token.

    LoRA of `lora_rank` (0: none) sits on each layer's `lora_targets`: `qv`, or `all-linear`.
    """
    tokens, d = batch * length, shape.width
    layer = (
        2 * _rms_norm(tokens, d)
        + _attention(shape, batch, length)
        + _swiglu(tokens, shape)
        + 2 * tokens * d  # residual additions
    )
    if lora_rank:
        layer += sum(_lora(tokens, inner, outer, lora_rank) for inner, outer in _targets(shape, lora_targets))
    positions = tokens * d
    head = _rms_norm(tokens, d) + matmul(tokens, d, shape.vocabulary)
    return positions + shape.layers * layer + head


def training_step(shape: Architecture, batch: int, length: int, lora_rank: int, lora_targets: str = "qv") -> int:
    """Forward and backward: exactly three forward passes."""
    return 3 * forward(shape, batch, length, lora_rank, lora_targets)


def _rms_norm(tokens: int, d: int) -> int:
    """Squares, their sum, division and epsilon, root, reciprocal scaling, weight: 4d + 11 a token."""
    return tokens * (4 * d + 1 + _SQRT)


def _attention(shape: Architecture, batch: int, length: int) -> int:
    tokens, d, h = batch * length, shape.width, shape.head_width
    projections = 4 * matmul(tokens, d, d)
    heads = batch * shape.heads
    scores = heads * matmul(length, h, length)
    softmax = heads * length * length * (1 + _EXP + 1 + 1)  # scale, exponential, sum, division
    values = heads * matmul(length, length, h)
    return projections + scores + softmax + values


def _swiglu(tokens: int, shape: Architecture) -> int:
    d, f = shape.width, shape.intermediate
    silu = _EXP + 1 + 1 + 1  # exponential, 1 +, division, times x
    return 2 * matmul(tokens, d, f) + matmul(tokens, f, d) + tokens * f * (silu + 1)


def _targets(shape: Architecture, targets: str) -> list[tuple[int, int]]:
    """The (input, output) widths of the projections in one layer that carry an adapter; attention's are d x d."""
    d, f = shape.width, shape.intermediate
    return [(d, d)] * 2 if targets == "qv" else [(d, d)] * 4 + [(d, f)] * 2 + [(f, d)]


def _lora(tokens: int, inner: int, outer: int, rank: int) -> int:
    """Down, up, the alpha / r scaling and the addition: 2 more an output element."""
    return matmul(tokens, inner, rank) + matmul(tokens, rank, outer) + 2 * tokens * outer
