"""The request for a stage, and the settings of its runs, by study.toml and by an earlier stage's winner. Pure.

The ledger keeps the request, so a reconcile pass needs neither study.toml nor the data. The cells of a stage with a
space are the points that a sampler proposed, or the corners of the space where no points are given.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from lvjobs.errors import UsageError
from lvjobs.study.config import validated
from lvjobs.study.params import SPLIT
from lvjobs.study.run import CARRIED, RunConfig, canonical_json
from lvjobs.study.settings import RunSettings, TrainSettings, settings_model
from lvjobs.study.space import Range, Values, corners
from lvjobs.study.stage_order import taken
from lvjobs.study.stages import ERRORS, Stage
from lvjobs.study.tables import Resources
from lvjobs.sweep.pruning import check_rungs

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


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the values of [train] that declare this run, whether or not it continues another."""
    values = config.model_dump(mode="json", exclude={"task", "parent"})
    params: Mapping[str, Any] = values.pop("params")
    return {**params, **values}


_NEWER = ("data_systems", "origins", "baselines")


class Request(BaseModel):
    """[train] as it was, the values typed over it, the jobs' resources, and facts that only the data file has.

    `located` maps, for `data` and `model`, the written value to one that is valid from any directory; `sha256` is by
    data file, and so is `data_systems`, the number of its systems, where a split needs it. `systems` are the held-out
    systems that evaluations forecast, `origins` the forecast origins beside the runs' own, and `baselines` the extra
    baselines. `file` is what study.toml declared about how runs are carried out (`study.config`); it is empty in
    requests of earlier releases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: dict[str, Any] = Field(default_factory=dict)
    typed: dict[str, Any] = Field(default_factory=dict)
    resources: Resources = Resources()
    profile: str = "local"
    located: dict[str, dict[str, str]] = Field(default_factory=dict)
    sha256: dict[str, str] = Field(default_factory=dict)
    data_systems: dict[str, int] = Field(default_factory=dict)
    systems: list[int] = Field(default_factory=list)
    origins: list[int] = Field(default_factory=list)
    baselines: list[str] = Field(default_factory=list)
    file: dict[str, Any] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer keys without a value, which earlier releases refuse to read."""
        found: dict[str, Any] = dump(self)
        return {key: value for key, value in found.items() if value or key not in _NEWER}

    def file_of(self, stage: Stage) -> dict[str, Any]:
        """Return what study.toml declared about how this stage's runs are carried out."""
        return {key: stage.set.get(key, value) for key, value in self.file.items()}

    def settings(
        self,
        stage: Stage,
        stages: Collection[Stage],
        winner: RunConfig | None = None,
        points: Points | None = None,
    ) -> list[RunSettings]:
        """Return the settings of each run of a stage that trains, with data and model located.

        Later settings replace earlier ones: [train], then those taken over from `winner` (of the stage that it is
        `from`), then the stage's own, then `typed`.

        Raises:
            UsageError: a key or value that [train] does not know; the message names the stage.
        """
        model, over = self.model, {}
        if stage.origin is not None and winner is not None:
            known = settings_of(winner)
            over = {key: known[key] for key in taken(stage, stages) if key in known}
        return [
            self._finished(validated(model, {**self.train, **over, **cell, **self.typed}, f"stage {stage.name}"))
            for cell in combinations(stage, points)
        ]

    def configs(
        self,
        stage: Stage,
        stages: Collection[Stage],
        winner: RunConfig | None = None,
        points: Points | None = None,
    ) -> list[RunConfig]:
        """Return the configurations of a stage's runs, each once even if the grid has it twice (1e-4 and 0.0001).

        Raises:
            UsageError: see `settings` and `pruning.check_rungs`; or the runs would not have the stage's metric.
        """
        settings = self.settings(stage, stages, winner, points)
        if stage.origin is None or winner is not None:  # else the winner's settings are missing
            _check_errors(stage, settings)
        made = [each.run_config() for each in settings]
        check_rungs(stage, made)
        return list({config.fingerprint: config for config in made}.values())

    def evaluated(self, stage: Stage, stages: Collection[Stage]) -> list[RunConfig]:
        """Return the configurations of the base model that a stage evaluates: one for each split of its stages.

        Raises:
            UsageError: see `configs`.
        """
        by_name = {each.name: each for each in stages}

        def split_of(each: Stage) -> dict[str, Any]:
            above = split_of(by_name[each.origin]) if each.origin else {}
            return {**above, **{key: each.set[key] for key in SPLIT if key in each.set}}

        splits = [split_of(by_name[name]) for name in stage.evaluate] or [{}]
        once = {canonical_json(split): split for split in splits}.values()
        same = [stage.model_copy(update={"set": {**split, **stage.set}}) for split in once]
        return [self.configs(each, stages)[0] for each in same]

    def space(self, stage: Stage) -> dict[str, Values]:
        """Return the searched part of the stage's space, by key: a typed key has only its typed value."""
        return {key: values for key, values in stage.space.items() if key not in self.typed}

    def search_identity(self, stage: Stage, stages: Collection[Stage], winner: RunConfig | None = None) -> str:
        """Return a hash that is equal for searches that may share what they learned.

        Such searches ask the same of the same points. The number of trials, and how many are open at once, do not
        change the hash.
        """
        first, *_ = self.configs(stage, stages, winner, corners(stage.space, ()))
        assert stage.search is not None
        parts = {
            "space": {key: _plain(values) for key, values in self.space(stage).items()},
            "search": stage.search.model_dump(include={"sampler", "seed", "startup"}, exclude_defaults=True),
            "select": stage.select.model_dump(mode="json", exclude={"ties"}, exclude_defaults=True),
            "seeds": stage.seeds,
            "first": first.fingerprint,
        }
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()

    def trains_as(self, other: "Request") -> bool:
        """Return whether both requests train the same runs, regardless of where they run and on which resources."""
        files = self.sha256.keys() & other.sha256.keys()
        same_data = all(self.sha256[file] == other.sha256[file] for file in files)
        mine, others = ([without_carried(each) for each in (one.train, one.typed)] for one in (self, other))
        return mine == others and same_data

    @property
    def model(self) -> type[RunSettings]:
        """Return the settings model of [train], which depends on its task."""
        return settings_model(self.train)

    def _finished(self, settings: RunSettings) -> RunSettings:
        if not isinstance(settings, TrainSettings):
            return settings
        changes: dict[str, Any] = {
            key: known.get(getattr(settings, key), getattr(settings, key)) for key, known in self.located.items()
        }
        data = changes.get("data", settings.data)
        changes["data_sha256"] = self.sha256.get(data, settings.data_sha256)
        if settings.split != "last200":
            changes["data_systems"] = self.data_systems.get(data, settings.data_systems)
        return settings.model_copy(update=changes)


def _check_errors(stage: Stage, settings: Sequence[RunSettings]) -> None:
    """Refuse to compare runs by the error of their forecasts if they make none."""
    trained = [each for each in settings if isinstance(each, TrainSettings)]
    if stage.select.metric in ERRORS and not all(each.validation_forecasts for each in trained):
        raise UsageError(
            f"stage {stage.name} compares by {stage.select.metric}, and its runs would have none: set "
            "validation_forecasts = 16 in [train]"
        )


def without_carried(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without those that only affect how a run is carried out."""
    return {key: value for key, value in settings.items() if key not in CARRIED}


def _plain(values: Values) -> Any:
    return values.model_dump(exclude_defaults=True) if isinstance(values, Range) else values


def with_facts(request: Request, finished: Mapping[tuple[str, str], TrainSettings]) -> Request:
    """Return the request with the located data and model, and the data's hash.

    `finished` maps each (data, model), as written, to the settings that were looked up for it.
    """
    located = {
        "data": {data: found.data for (data, _), found in finished.items()},
        "model": {model: found.model for (_, model), found in finished.items()},
    }
    sha256 = {found.data: found.data_sha256 for found in finished.values()}
    counts = {found.data: found.data_systems for found in finished.values() if found.data_systems}
    return request.model_copy(update={"located": located, "sha256": sha256, "data_systems": counts})
