"""The rules that conventions share: prices, linears, one forward pass by parts, a generation's sum.

The prices are the course handout's: an addition, subtraction, multiplication or division is 1 FLOP; an exponential or a
square root 10; a matmul (m, n)(n, p) is m p (2n - 1).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lvjobs.flops.architecture import Architecture, Linear
from lvjobs.flops.workload import Counts, Workload

EXP = SQRT = 10

SOFTMAX = 1 + EXP + 1 + 1
"""FLOPs per score: scaling, exponential, its addition to the row's sum, division."""

SIGMOID = EXP + 1 + 1
"""FLOPs per element: exponential, addition of 1, division. A sign is free."""

SWIGLU = SIGMOID + 1 + 1
"""FLOPs per element between the MLP's matmuls: sigmoid, times the gate (SiLU), times the other branch."""


def matmul(m: int, n: int, p: int) -> int:
    """Return the FLOPs of (m, n)(n, p): m p dot products of n multiplications and n - 1 additions."""
    return m * p * (2 * n - 1)


def projections(shape: Architecture, linears: Iterable[Linear], tokens: int) -> int:
    """Return the FLOPs of so many tokens through these linears."""
    return sum(matmul(tokens, *shape.widths(linear)) for linear in linears)


@dataclass(frozen=True)
class Forward:
    """The FLOPs of one forward pass by parts.

    `lora` is one layer's, `residual` its two additions', `head` lm_head's. `attention`, `mlp`, `norm` and `residual`
    are per layer too, with `norm` for one RMSNorm.
    """

    layers: int
    embedding: int
    attention: int
    mlp: int
    norm: int
    residual: int
    head: int
    lora: int = 0

    @property
    def layer(self) -> int:
        """Return the FLOPs of one layer without its adapters."""
        return self.attention + self.mlp + 2 * self.norm + self.residual

    @property
    def total(self) -> int:
        """Return the FLOPs of the whole pass."""
        return self.embedding + self.layers * (self.layer + self.lora) + self.norm + self.head


def counts(workload: Workload, forward: Forward, backward: int, generation: int) -> Counts:
    """Return a convention's counts of a workload; inference has no backward pass."""
    if workload.inference:
        backward = 0
    return Counts(
        embedding=forward.embedding,
        attention_per_layer=forward.attention,
        mlp_per_layer=forward.mlp,
        norm=forward.norm,
        layer=forward.layer,
        final=forward.norm + forward.head,
        lora_forward=forward.layers * forward.lora,
        forward=forward.total,
        backward=backward,
        step=forward.total + backward,
        generation=generation,
    )


def generation(workload: Workload, cost: Callable[[int, int], int]) -> int:
    """Return the FLOPs of the forecast of one series.

    Args:
        workload: The lengths of the prompt and of the forecast, the number of samples, and whether there is a cache.
        cost: FLOPs of one pass of one sequence over so many new tokens that attend to so many keys. It must be a
            polynomial of at most the second degree in either.

    The pass over the prompt gives the first new token; each further pass gives one more. With a cache a further pass
    reads only the newest token, without one it reads everything again. With a cache the prompt is read once for all
    samples.
    """
    prompt, new, samples = workload.prompt_tokens, workload.new_tokens, workload.samples
    if not workload.kv_cache:
        return samples * series_sum(lambda length: cost(length, length), prompt, new)
    return cost(prompt, prompt) + samples * series_sum(lambda keys: cost(1, keys), prompt + 1, new - 1)


def series_sum(polynomial: Callable[[int], int], start: int, terms: int) -> int:
    """Return the sum of polynomial(start), polynomial(start + 1), ... (`terms` terms), from its first three values.

    By Newton's series, exact up to the second degree. Only three values are used, because each may have to be measured.
    """
    if terms < 1:
        return 0
    value = [polynomial(start + step) for step in range(min(terms, 3))]
    first = value[1] - value[0] if terms > 1 else 0
    second = value[2] - 2 * value[1] + value[0] if terms > 2 else 0  # noqa: PLR2004 - the third value's difference
    return (
        terms * value[0]
        + terms * (terms - 1) // 2 * first
        + terms * (terms - 1) * (terms - 2) // 6 * second  # a product of three neighbours is divisible by 6
    )
