"""Properties of keys of study.toml beyond their types: each is declared at its key, for all who read or show it."""

from collections.abc import Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ValidationInfo

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
