"""A stage's cells: what each run trains, by study.toml and by an earlier stage's winner. Pure.

The cells of a stage with a space are the points that a sampler proposed, or the corners of the space where no points
are given.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.study.config import validated
from lvjobs.study.run import RunConfig
from lvjobs.study.settings import RunSettings, settings_model
from lvjobs.study.space import corners
from lvjobs.study.stages import Stage, taken

Points = Sequence[Mapping[str, Any]]
"""Points of a space: a value for each of its keys."""


def combinations(stage: Stage, points: Points | None = None) -> list[Mapping[str, Any]]:
    """Return what each cell changes, in the grid's order (the last key varies fastest), once per seed.

    `points` replace the grid; None: the grid, or the corners of the stage's space.

    Raises:
        UsageError: a key of the grid has no value.
    """
    common: dict[str, Any] = dict(stage.set)
    if stage.steps is not None:
        common["steps"] = stage.steps
    if points is None:
        points = corners(stage.space) if stage.space else _grid(stage)
    seeds = [{}] if stage.seeds is None else [{"seed": seed} for seed in stage.seeds]
    return [{**common, **point, **seed} for point in points for seed in seeds]


def _grid(stage: Stage) -> Points:
    if empty := next((key for key, values in stage.grid.items() if not values), None):
        raise UsageError(f"study.toml: stage {stage.name} has no runs: its grid has no value for {empty}; give it one")
    return [dict(zip(stage.grid, values, strict=True)) for values in product(*stage.grid.values())]


def cells(
    stage: Stage,
    stages: Collection[Stage],
    train: Mapping[str, Any],
    typed: Mapping[str, Any],
    winner: RunConfig | None = None,
    points: Points | None = None,
) -> list[RunSettings]:
    """Return the settings of each run of a stage that trains.

    Later settings replace earlier ones: [train], then those taken over from `winner` (of the stage that it is `from`),
    then the stage's own, then `typed`.

    Raises:
        UsageError: a key or value that [train] does not know; the message names the stage.
    """
    over = {}
    if stage.origin is not None and winner is not None:
        known = settings_of(winner)
        over = {key: known[key] for key in taken(stage, stages) if key in known}
    model = settings_model(train)
    return [
        validated(model, {**train, **over, **cell, **typed}, f"stage {stage.name}")
        for cell in combinations(stage, points)
    ]


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the values of [train] that declare this run."""
    values = config.model_dump(mode="json", exclude={"task"})
    params: Mapping[str, Any] = values.pop("params")
    return {**params, **values}
