"""Settings of [train] that belong together, under a name. Whoever wants others sets them over these."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

TINY_TRAINING: Mapping[str, Any] = MappingProxyType(
    {
        "steps": 1000,
        "checkpoint_every": 50,
        "context_length": 1000,
        "lora_rank": 16,
        "lora_targets": "all-linear",
        "lora_dropout": 0.0,
        "learning_rate": 4e-3,
        "warmup_steps": 20,
    }
)
"""What teaches `tiny`, whose rates are far above a real model's (docs/tiny.md has what came of it): a window is a whole
series."""
