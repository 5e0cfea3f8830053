"""The checkpoint of another run from which a run continues."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lvjobs.study.fields import Int


class Parent(BaseModel):
    """A finished run's checkpoint, after which the run that continues it trains on.

    The hash is what counts: the run's name only says where the checkpoint is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    step: Int = Field(gt=0)
    sha256: str
    """The checkpoint's hash, as the next one's manifest names it."""


def start_of(config: Mapping[str, Any]) -> int:
    """Return the step after which a run executes its first one: that of its parent's checkpoint; 0 without a parent.

    `config` is as run.json has it.
    """
    parent = config.get("parent")
    return int(parent["step"]) if parent else 0
