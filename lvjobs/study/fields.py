"""The types of keys of study.toml: numbers, lists and paths as people write them, and marks beyond a key's type.

Numbers and lists are read the same whether they come from TOML, YAML, a shell or `--set`, which can only carry text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from enum import Enum, auto
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ValidationInfo

from lvjobs.files import expand_home


class Mark(Enum):
    """A property of a key that others act on. It is declared beside the type: `Annotated[str | None, Mark.SECRET]`."""

    SECRET = auto()
    """No message quotes the value."""
    OF_A_SITE = auto()
    """The value names something of a site: it is refused where jobs are processes of this machine."""


def marked(model: type[BaseModel], mark: Mark) -> list[str]:
    """Return the keys of a table that are declared with this mark."""
    return [name for name, field in model.model_fields.items() if mark in field.metadata]


def _located(path: str, info: ValidationInfo) -> str:
    root: Path = info.context["root"] if isinstance(info.context, Mapping) else Path()
    return str((root / expand_home(path)).absolute())


StudyPath = Annotated[str, AfterValidator(_located)]
"""A path that becomes absolute: in study.toml it is relative to the study, else to the current directory."""


def leaves(annotation: Any) -> Iterator[Any]:
    """Yield the types of which an annotation is made, and the values of a Literal, from left to right."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from leaves(each)


NO_NUMBER, NO_WHOLE_NUMBER = "is not a number", "is not a whole number"


def as_float(value: Any) -> Any:
    """Return a string's number as a float; return any other value as it is, for pydantic. -0.0 becomes 0.0.

    Raises:
        ValueError: the string is no number.
    """
    if isinstance(value, str):
        try:
            value = float(value.replace("_", ""))
        except ValueError:
            raise ValueError(f"{value!r} {NO_NUMBER}") from None
    return value + 0.0 if isinstance(value, float) else value  # -0.0 would be other text, and so another run


def as_int(value: Any) -> Any:
    """Return `"1e3"`, `1e17` or `"5_000"` as an exact integer; return any other value as it is, for pydantic.

    Raises:
        ValueError: the value is no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, (str, float)):
        return value
    try:
        exact = Decimal(value.replace("_", "")) if isinstance(value, str) else Decimal(repr(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} {NO_NUMBER}") from None
    if not exact.is_finite() or exact != exact.to_integral_value():
        raise ValueError(f"{value!r} {NO_WHOLE_NUMBER}")
    return int(exact)


_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([MGT])(?:i?B)?", re.IGNORECASE)


def as_mebibytes(value: Any) -> Any:
    """Return `"16G"` as 16384 (MiB); return any other value as it is, for `as_int`."""
    match = _MEMORY.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(float(match[1]) * 1024 ** "MGT".index(match[2].upper())) if match else value


Float = Annotated[float, BeforeValidator(as_float)]
Int = Annotated[int, BeforeValidator(as_int)]
Mebibytes = Annotated[int, BeforeValidator(as_int), BeforeValidator(as_mebibytes)]


def as_list(value: Any) -> Any:
    """Return the list in a text such as `'["a", "b"]'`; return any other value as it is, for pydantic.

    Raises:
        ValueError: the text begins like a list but is none.
    """
    if not isinstance(value, str) or not value.strip().startswith("["):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f'{value!r} is not a list; write one, such as ["one", "two"]') from None


def as_texts(value: Any) -> Any:
    """Return the same as `as_list`; any other text becomes a list of that one text."""
    read = as_list(value)
    return [read] if isinstance(read, str) else read


List = Annotated[list[Any], BeforeValidator(as_list)]
Texts = Annotated[list[str], BeforeValidator(as_texts)]
