"""The shapes of a decoder-only transformer of the Qwen2 / Llama kind, as FLOP counting needs them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs.errors import UsageError


@dataclass(frozen=True)
class Architecture:
    """Widths and counts of one model; `head_width` is one attention head's."""

    layers: int
    width: int
    intermediate: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int


CARDS = {
    "qwen/qwen2.5-0.5b-instruct": Architecture(24, 896, 4864, 14, 2, 64, 151_936),
    "qwen/qwen2.5-1.5b-instruct": Architecture(28, 1536, 8960, 12, 2, 128, 151_936),
}
"""Models known by their hub id (lower case), from their published config.json."""

TINY_CONFIG = Path(__file__).parent.parent / "forecasting" / "tiny" / "config.json"


def architecture_of(model: str) -> Architecture:
    """The architecture of `tiny`, of a directory with a config.json, or of a known hub id.

    Raises:
        UsageError: none of these; the message names what would do.
    """
    path = TINY_CONFIG if model == "tiny" else Path(model).expanduser() / "config.json"
    if path.is_file():
        return parse_config(json.loads(path.read_text()), str(path))
    card = CARDS.get(model.lower())
    if card is None:
        raise UsageError(
            f"model {model!r} is neither 'tiny', nor a directory with a config.json, nor one of {', '.join(CARDS)}"
        )
    return card


def parse_config(config: Mapping[str, Any], source: str) -> Architecture:
    """The architecture in a transformers config.json of the Qwen2 / Llama kind."""
    try:
        heads = int(config["num_attention_heads"])
        width = int(config["hidden_size"])
        return Architecture(
            layers=int(config["num_hidden_layers"]),
            width=width,
            intermediate=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_width=int(config.get("head_dim") or width // heads),
            vocabulary=int(config["vocab_size"]),
        )
    except KeyError as error:
        raise UsageError(f"{source} has no {error.args[0]!r}: only Qwen2 and Llama shapes can be counted") from None
