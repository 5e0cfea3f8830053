"""The work to count, the counts that a convention gives for it, and the rules that conventions share.

The rules are prices, linears, one forward pass by parts, and a generation's sum. The prices are the course handout's:
an addition, subtraction, multiplication or division is 1 FLOP; an exponential or a square root 10; a matmul
(m, n)(n, p) is m p (2n - 1).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

from lvjobs.errors import UsageError
from lvjobs.flops.architecture import Architecture, Linear, LoraTargets

Precision: TypeAlias = Literal["fp32", "bf16", "nf4"]

_MOST = 10**9
"""A bound on every size: a larger number can only be a typing error, and its counts would be unreadable."""


@dataclass(frozen=True)
class Workload:
    """One training step (or, with `inference`, one forward pass), and the forecast of one series.

    Attributes:
        shape: The model.
        batch: Sequences per step.
        length: Tokens per sequence.
        lora_rank: Rank of the adapters, the only weights that learn; 0: no adapters, and every weight learns.
        lora_targets: The linears of a layer that carry an adapter: those of queries and values, or all.
        precision: Of the frozen weights; `nf4` has to be unpacked at each use.
        gradient_checkpointing: Layers keep only their inputs and run again in the backward pass.
        numeric_head: The number of tokens that lm_head is restricted to; None: the whole vocabulary.
        prompt_tokens: Tokens of the series that `generation` forecasts from.
        new_tokens: Tokens that it generates.
        samples: How many forecasts it generates; they share the keys and values of one prompt.
        kv_cache: Whether it keeps the keys and values of the tokens that were read.
        inference: No weight learns, and there is no backward pass.

    Raises:
        UsageError: a size is out of range, an option is unknown, or nf4 weights would have to learn.
    """

    shape: Architecture
    batch: int
    length: int
    lora_rank: int = 0
    lora_targets: LoraTargets = "qv"
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    numeric_head: int | None = None
    prompt_tokens: int = 800
    new_tokens: int = 200
    samples: int = 1
    kv_cache: bool = True
    inference: bool = False

    def __post_init__(self) -> None:
        for words, value, least, most in (
            ("batch size", self.batch, 1, _MOST),
            ("context length", self.length, 1, _MOST),
            ("LoRA rank", self.lora_rank, 0, _MOST),
            ("numeric head", self.head, 1, self.shape.vocabulary),
            ("prompt tokens", self.prompt_tokens, 1, _MOST),
            ("new tokens", self.new_tokens, 1, _MOST),
            ("samples", self.samples, 1, _MOST),
        ):
            if not least <= value <= most:
                raise UsageError(f"{words} = {value}: give a number from {least} to {most:,}")
        for words, choice, choices in (
            ("LoRA targets", self.lora_targets, get_args(LoraTargets)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if choice not in choices:
                raise UsageError(f"{words} {choice!r}: choose from {', '.join(choices)}")
        if self.precision == "nf4" and not self.lora_rank and not self.inference:
            raise UsageError("nf4 weights cannot learn: give a LoRA rank above 0, or count inference")

    @property
    def tokens(self) -> int:
        """Return the tokens of one step."""
        return self.batch * self.length

    @property
    def head(self) -> int:
        """Return the logits per token."""
        return self.shape.vocabulary if self.numeric_head is None else self.numeric_head

    @property
    def adapted(self) -> tuple[Linear, ...]:
        """Return the linears of a layer that carry an adapter."""
        return self.shape.layout.adapted(self.lora_targets) if self.lora_rank else ()

    @property
    def full_fine_tuning(self) -> bool:
        """Return whether every weight learns."""
        return not self.lora_rank and not self.inference


@dataclass(frozen=True)
class Counts:
    """The FLOPs of a workload by one convention; all but `generation` are of one step over the whole batch.

    forward = embedding + layers x layer + final + lora_forward, and step = forward + backward. `norm` is one RMSNorm; a
    layer has two and `final` has one. `generation` is the forecast of one series, with all its samples.
    """

    embedding: int
    attention_per_layer: int
    mlp_per_layer: int
    norm: int
    layer: int
    final: int
    lora_forward: int
    forward: int
    backward: int
    step: int
    generation: int


PARTS = tuple(field.name for field in fields(Counts))

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
