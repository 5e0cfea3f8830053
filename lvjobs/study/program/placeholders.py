"""Placeholders in a program's arguments: `{steps}`, `{out}`, `{learning_rate}`. Pure.

A placeholder is a name in braces. `{{name}}` stands for the text `{name}`. All other braces are text, as in JSON. No
shell reads an argument, so a value needs no quotes and cannot become a command.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BUILT_IN = frozenset({
    *("steps", "seed", "checkpoint_every", "out", "run", "work", "checkpoint", "step"),
    *("gpus", "nodes", "node_rank", "head", "port", "processes"),
})  # fmt: skip
"""The names that lvjobs fills in. All others are the user's own keys of [train]."""

OF_A_CHECKPOINT = frozenset({"checkpoint", "step"})
"""The names that have a value only in a run that resumes."""

_PLACEHOLDER = re.compile(r"\{\{(?P<text>\w+)\}\}|\{(?P<name>[A-Za-z_]\w*)\}")


def names_in(texts: Iterable[str]) -> list[str]:
    """Return the names of the placeholders in `texts`, each once, in their order."""
    found = (match["name"] for text in texts for match in _PLACEHOLDER.finditer(text))
    return list(dict.fromkeys(name for name in found if name))


def value_text(value: Any) -> str:
    """Return a value as an argument: a float stays one (`1e-05`, `1.0`), and a boolean is `True` or `False`."""
    return repr(value) if isinstance(value, float) else str(value)


def fill(text: str, values: Mapping[str, Any]) -> str:
    """Return `text` with its placeholders filled in. Raises KeyError if `values` lacks a name."""
    return _PLACEHOLDER.sub(
        lambda match: f"{{{match['text']}}}" if match["text"] else value_text(values[match["name"]]), text
    )


def arguments(texts: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return a program's arguments, filled in.

    An argument that is nothing but the placeholder of a list becomes one argument for each value. Raises KeyError if
    `values` lacks a name.
    """
    found: list[str] = []
    for text in texts:
        match = _PLACEHOLDER.fullmatch(text)
        value = values[match["name"]] if match and match["name"] else None
        found += map(value_text, value) if isinstance(value, list) else [fill(text, values)]
    return found
