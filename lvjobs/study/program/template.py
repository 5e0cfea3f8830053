"""The [train] of a program as text: its keys, and commented lines for those that are to be filled in. Pure."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvjobs.study.template import toml_value

_WIDTH = 110
_HEAD = """\
[train]
# The program: no shell reads its arguments. {steps}, {out}, {seed} and the keys below stand for their values
# (docs/programs.md).
"""
_STAGES = """\
# Stages: sets of runs that are compared (docs/sweeps.md), such as the same program with other values of a key:
# [[stage]]
# name = "first"
# grid = { %s = %s }
"""


@dataclass(frozen=True)
class Open:
    """A key that is to be filled in: an example of its value, and what it is."""

    example: Any
    why: str
    is_needed: bool = True


def train_text(values: Mapping[str, Any], missing: Mapping[str, Open], varied: Sequence[str]) -> str:
    """Return [train] with these values, a commented line for each missing key, and a commented stage."""
    lines = [_HEAD, *_lines(values, missing)]
    if environment := values.get("environment"):
        lines += ["\n[train.environment]\n", *(f"{toml_key(k)} = {toml_text(v)}\n" for k, v in environment.items())]
    key = next(iter(varied), "seed")
    value = values.get(key, 0)
    examples = [value, value + 1] if key == "seed" else [value, value * 2]
    return "".join([*lines, "\n", _STAGES % (key, toml_text(examples))])


def _lines(values: Mapping[str, Any], missing: Mapping[str, Open]) -> Iterator[str]:
    for key, value in values.items():
        if key != "environment" and key not in missing:
            yield f"{key} = {toml_text(value)}\n"
    for key, each in missing.items():
        mark = "To fill in" if each.is_needed else "To check"
        yield "".join(f"# {line}\n" for line in textwrap.wrap(f"{mark}: {each.why}", _WIDTH))
        yield f"# {key} = {toml_text(values.get(key, each.example))}\n".replace("\n    ", "\n#    ").replace(
            "\n]", "\n# ]"
        )


def toml_key(name: str) -> str:
    """Return a key of TOML, in quotes where it needs them."""
    return name if name.isascii() and name.replace("_", "a").replace("-", "a").isalnum() else toml_value(name)


def toml_text(value: Any) -> str:
    """Return a value as TOML: backslashes are not escaped where that is possible, and a long list has several lines."""
    if isinstance(value, str) and "\\" in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_text(item)}" for key, item in value.items()) + " }"
    if isinstance(value, float):
        return _float(value)
    if not isinstance(value, list):
        return str(value) if type(value) is int else toml_value(value)
    items = [toml_text(item) for item in value]
    line = f"[{', '.join(items)}]"
    if len(line) <= _WIDTH:
        return line
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > _WIDTH - 6:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{item},"
    return "[\n" + "".join(f"    {line}\n" for line in lines) + "]"


def _float(value: float) -> str:
    """Return a float without loss, as people write it: 1.24e8, 2e-5, 1.0."""
    short = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    short = re.sub(r"e\+?(-?)0*", r"e\1", short)
    return short if "." in short or "e" in short else f"{short}.0"
