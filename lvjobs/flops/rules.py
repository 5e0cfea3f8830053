"""What the conventions share: the handout's prices, a model's linears, one forward pass by parts, a generation's sum.

Prices: an addition, subtraction, multiplication or division is 1 FLOP; an exponential or a square root 10; a matmul
(m, n)(n, p) is m p (2n - 1).
"""

from collections.abc import Callable
from dataclasses import dataclass

from lvjobs.flops.architecture import Architecture
from lvjobs.flops.workload import Counts, LoraTargets, Workload

EXP = SQRT = 10

SOFTMAX = 1 + EXP + 1 + 1
"""A score: scaling, exponential, its place in the row's sum, division."""

SIGMOID = EXP + 1 + 1
"""An element: exponential, 1 + it, division. A sign is free."""

SWIGLU = SIGMOID + 1 + 1
"""An element between the MLP's matmuls: sigmoid, times the gate (SiLU), times the other branch."""


def matmul(m: int, n: int, p: int) -> int:
    """(m, n)(n, p): m p dot products of n multiplications and n - 1 additions."""
    return m * p * (2 * n - 1)


def linears(shape: Architecture, kv_width: int) -> dict[str, tuple[int, int]]:
    """The (input, output) widths of one layer's linears, with keys and values as wide as a convention has them."""
    d, q, f = shape.width, shape.query_width, shape.intermediate
    return {
        "q": (d, q),
        "k": (d, kv_width),
        "v": (d, kv_width),
        "o": (q, d),
        "gate": (d, f),
        "up": (d, f),
        "down": (f, d),
    }


ATTENTION = ("q", "k", "v", "o")
MLP = ("gate", "up", "down")


def adapted(targets: LoraTargets) -> tuple[str, ...]:
    """The linears of a layer that carry an adapter."""
    return ("q", "v") if targets == "qv" else (*ATTENTION, *MLP)


@dataclass(frozen=True)
class Forward:
    """One forward pass by parts; `lora` is one layer's, `residual` its two additions', `head` lm_head's."""

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
        """One layer without its adapters."""
        return self.attention + self.mlp + 2 * self.norm + self.residual

    @property
    def total(self) -> int:
        """The whole pass."""
        return self.embedding + self.layers * (self.layer + self.lora) + self.norm + self.head


def counts(workload: Workload, forward: Forward, backward: int, generation: int) -> Counts:
    """What a convention says of a workload; inference has no backward pass."""
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
    """The forecast of one series.

    Args:
        workload: How long the prompt and the forecast are, how many samples it has, and whether there is a cache.
        cost: FLOPs of one pass of one sequence over so many new tokens that look at so many keys. A polynomial of at
            most the second degree in either.

    The pass over the prompt gives the first new token; each further pass gives one more: with a cache over the newest
    token alone, without one over everything again. With a cache the prompt goes through once, however many samples.
    """
    prompt, new, samples = workload.prompt_tokens, workload.new_tokens, workload.samples
    if not workload.kv_cache:
        return samples * series_sum(lambda length: cost(length, length), prompt, new)
    return cost(prompt, prompt) + samples * series_sum(lambda keys: cost(1, keys), prompt + 1, new - 1)


def series_sum(polynomial: Callable[[int], int], start: int, terms: int) -> int:
    """polynomial(start) + polynomial(start + 1) + ..., from its first three values alone (Newton's series).

    Exact up to the second degree. Three values, because each may have to be measured.
    """
    if terms < 1:
        return 0
    value = [polynomial(start + step) for step in range(min(terms, 3))]
    first = value[1] - value[0] if terms > 1 else 0
    second = value[2] - 2 * value[1] + value[0] if terms > 2 else 0  # noqa: PLR2004 - the third value's difference
    return (
        terms * value[0]
        + terms * (terms - 1) // 2 * first
        + terms * (terms - 1) * (terms - 2) // 6 * second  # a product of three neighbours: 6 divides it
    )
