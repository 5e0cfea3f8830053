"""The work to count, and the counts that a convention gives for it."""

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
