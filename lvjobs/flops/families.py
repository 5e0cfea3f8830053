"""The families of base models: the linear layers of a transformer's block, as transformers names them.

A new family is an entry of `FAMILIES`, and no other module spells the name of a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

LoraTargets: TypeAlias = Literal["qv", "all-linear"]
Width: TypeAlias = Literal["hidden", "query", "kv", "intermediate"]


@dataclass(frozen=True)
class Linear:
    """A linear layer: its name, the width that it reads, and those that it writes (several if it is a fused one)."""

    name: str
    reads: Width
    writes: tuple[Width, ...]


@dataclass(frozen=True)
class Family:
    """What the models of one `model_type` have in common.

    Attributes:
        title: Its name in messages.
        attention: The linears of a block's attention; the last one writes the block's output.
        mlp: The linears of a block's MLP; the last one writes the block's output.
        query_value: The names of those that make queries and values, for the LoRA targets `qv`.
    """

    title: str
    attention: tuple[Linear, ...]
    mlp: tuple[Linear, ...]
    query_value: tuple[str, ...]

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Return all linears of a block."""
        return (*self.attention, *self.mlp)

    def adapted(self, targets: LoraTargets) -> tuple[Linear, ...]:
        """Return the linears that carry an adapter."""
        return tuple(linear for linear in self.linears if targets == "all-linear" or linear.name in self.query_value)


def _separate(title: str) -> Family:
    """Return a family with a linear for each of queries, keys, values, gate and up."""
    return Family(
        title,
        attention=(
            Linear("q_proj", "hidden", ("query",)),
            Linear("k_proj", "hidden", ("kv",)),
            Linear("v_proj", "hidden", ("kv",)),
            Linear("o_proj", "query", ("hidden",)),
        ),
        mlp=(
            Linear("gate_proj", "hidden", ("intermediate",)),
            Linear("up_proj", "hidden", ("intermediate",)),
            Linear("down_proj", "intermediate", ("hidden",)),
        ),
        query_value=("q_proj", "v_proj"),
    )


FAMILIES: Mapping[str, Family] = MappingProxyType({"qwen2": _separate("Qwen2"), "llama": _separate("Llama")})
"""The families that lvjobs knows, by the `model_type` of their config.json."""

DEFAULT_FAMILY = "qwen2"
"""The family of a config.json without a `model_type`."""
