"""A stage's cells: every combination of its grid's values."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from lvjobs.study.config import Stage


def cells(stage: Stage) -> list[Mapping[str, Any]]:
    """What each cell changes in [train], in the grid's own order (the last key varies fastest)."""
    common: dict[str, Any] = dict(stage.set)
    if stage.steps is not None:
        common["steps"] = stage.steps
    keys = list(stage.grid)
    return [{**common, **dict(zip(keys, values, strict=True))} for values in product(*stage.grid.values())]
