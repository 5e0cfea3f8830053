"""Suggestions for mistyped names: of keys, stages and metrics."""

import difflib
from collections.abc import Iterable

_ALIASES = {
    "alpha": "lora_alpha",
    "batch": "batch_size",
    "bs": "batch_size",
    "context": "context_length",
    "ctx": "context_length",
    "epochs": "steps",
    "gpu": "gpus",
    "lr": "learning_rate",
    "max_steps": "steps",
    "mem": "memory_mb",
    "memory": "memory_mb",
    "queue": "partition",
    "r": "lora_rank",
    "rank": "lora_rank",
    "time": "time_limit",
    "walltime": "time_limit",
}
"""Keys of study.toml by the names that other tools have for them."""


def nearest(typed: str, known: Iterable[str]) -> str | None:
    """Return the known name that `typed` most likely means, or None."""
    names = list(known)
    alias = _ALIASES.get(typed.replace("-", "_").lower())
    return alias if alias in names else next(iter(difflib.get_close_matches(typed, names, n=1)), None)
