"""The families of decoder-only transformers and the shapes of their models, as FLOP counting needs them.

A new family is an entry of `FAMILIES`, and no other module spells the name of a layer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from lvjobs import remedies
from lvjobs.errors import UsageError

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
    """The common properties of the models of one `model_type`.

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

_REPAIR = "fix it there, or copy the model again"


@dataclass(frozen=True)
class Architecture:
    """The widths and counts of one model; `head_width` is the width of one attention head.

    `family` is the `model_type` of its config.json. `tied` (lm_head shares the weights of the embeddings) changes no
    count, but the built model has it.
    """

    layers: int
    width: int
    intermediate: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    family: str = DEFAULT_FAMILY
    tied: bool = True

    @property
    def query_width(self) -> int:
        """Return the width of all heads together."""
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        """Return the width of keys, and of values, with grouped-query attention as the model has it."""
        return self.kv_heads * self.head_width

    @property
    def layout(self) -> Family:
        """Return the layers of a block."""
        return FAMILIES[self.family]

    def widths(self, linear: Linear) -> tuple[int, int]:
        """Return the (input, output) widths of a linear of this model."""
        sizes = {
            "hidden": self.width,
            "query": self.query_width,
            "kv": self.kv_width,
            "intermediate": self.intermediate,
        }
        return sizes[linear.reads], sum(sizes[width] for width in linear.writes)


_SHAPES = {
    "Qwen/Qwen2.5-0.5B": Architecture(24, 896, 4864, 14, 2, 64, 151_936),
    "Qwen/Qwen2.5-1.5B": Architecture(28, 1536, 8960, 12, 2, 128, 151_936),
    "Qwen/Qwen2.5-3B": Architecture(36, 2048, 11_008, 16, 2, 128, 151_936),
    "Qwen/Qwen2.5-7B": Architecture(28, 3584, 18_944, 28, 4, 128, 152_064, tied=False),
    "HuggingFaceTB/SmolLM2-135M": Architecture(30, 576, 1536, 9, 3, 64, 49_152, family="llama"),
}

SHORT_NAMES = tuple(hub_id.partition("/")[2].lower() for hub_id in _SHAPES)

CARDS = {
    name + suffix: shape
    for hub_id, shape in _SHAPES.items()
    for name in (hub_id.lower(), hub_id.partition("/")[2].lower())
    for suffix in ("", "-instruct")
}
"""Models known by their hub id or by its last part (lower case), with the shapes of their published config.json."""

_HUB_IDS = {
    hub_id.partition("/")[2].lower() + suffix.lower(): hub_id + suffix
    for hub_id in _SHAPES
    for suffix in ("", "-Instruct")
}

TINY_CONFIG = Path(__file__).parent.parent / "forecasting" / "tiny" / "config.json"


def hub_id_of(model: str) -> str:
    """Return transformers' name for a model: a card's hub id for its short name, any other name as it is."""
    return _HUB_IDS.get(model.lower(), model)


def card_of(model: str) -> str | None:
    """Return the name of the card that `architecture_of` uses for a model; None where it reads a config.json."""
    if model == "tiny" or _config_file(model) is not None or model.lower() not in CARDS:
        return None
    return model.lower().rpartition("/")[2].removesuffix("-instruct")


def architecture_of(model: str) -> Architecture:
    """Return the architecture of a model.

    `model` is `tiny`, a config.json or a directory with one, a known model, or a hub id in the cache.

    Raises:
        UsageError: it is none of these, or its config.json cannot be used; the message names the remedy.
    """
    path = TINY_CONFIG if model == "tiny" else _config_file(model)
    if path is not None:
        return parse_config(_read(path), str(path))
    card = CARDS.get(model.lower())
    if card is None and (cached := cached_config(model)) is not None:
        return parse_config(_read(cached), str(cached))
    if card is None:
        raise UsageError(
            f"model {model!r} is neither 'tiny', nor a config.json or a directory with one, "
            f"nor one of {', '.join(SHORT_NAMES)} (with or without -instruct, or by hub id), nor a hub id in the "
            f"cache; name one of these, or fetch yours: {remedies.MODEL_PULL(model='HUB-ID')}"
        )
    return card


def parse_config(config: Mapping[str, Any], source: str) -> Architecture:
    """Return the architecture in a transformers config.json of a known family.

    Raises:
        UsageError: another kind of model, or an invalid shape; the message names `source` and the key.
    """
    titles = " and ".join(family.title for family in FAMILIES.values())

    def size(key: str, default: int | None = None) -> int:
        value = default if config.get(key) is None else config[key]
        if value is None:
            raise UsageError(f"{source} has no {key!r}, and only {titles} shapes can be counted; choose such a model")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{source}: {key} = {value!r} is not a positive whole number; {_REPAIR}")
        return value

    heads, width = size("num_attention_heads"), size("hidden_size")
    shape = Architecture(
        layers=size("num_hidden_layers"),
        width=width,
        intermediate=size("intermediate_size"),
        heads=heads,
        kv_heads=size("num_key_value_heads", heads),
        head_width=size("head_dim", width // heads),
        vocabulary=size("vocab_size"),
        family=config.get("model_type", DEFAULT_FAMILY),
        tied=bool(config.get("tie_word_embeddings", False)),  # transformers' default where the key is missing
    )
    if heads % shape.kv_heads:
        raise UsageError(
            f"{source}: num_key_value_heads = {shape.kv_heads} does not divide {heads} attention heads; {_REPAIR}"
        )
    # A mixture of experts has all of these keys too, but other costs.
    for key, known in (("model_type", tuple(FAMILIES)), ("hidden_act", ("silu",))):
        if config.get(key, known[0]) not in known:
            raise UsageError(
                f"{source}: {key} = {config[key]!r} cannot be counted, only {' and '.join(known)} can; choose such a "
                "model"
            )
    return shape


def _config_file(model: str) -> Path | None:
    try:
        path = Path(model).expanduser()
    except RuntimeError:  # ~somebody, where no user has that name
        return None
    return next((file for file in (path, path / "config.json") if file.is_file()), None)


def cached_config(model: str) -> Path | None:
    """Return the config.json of a hub id in the cache of models, which `lvjobs model pull` fills; else None."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a model's config.json ({error}); {_REPAIR}") from None
    if not isinstance(config, dict):
        raise UsageError(f"{path} is no model's config.json, for it holds no JSON object; {_REPAIR}")
    return config
