"""Settings, resources and the profile: those of study.toml, overridden by the caller's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lvjobs.cluster.templates import located_profile
from lvjobs.errors import UsageError
from lvjobs.files import expand_home
from lvjobs.flops.architecture import hub_id_of
from lvjobs.study.config import StudyContext, validated
from lvjobs.study.current import declared_settings
from lvjobs.study.run import CARRIED
from lvjobs.study.settings import RunSettings, TrainSettings, settings_model
from lvjobs.study.tables import Resources
from lvjobs.sweep.request import Request, with_facts


@dataclass(frozen=True)
class Overrides:
    """The caller's overrides of study.toml: keys of [train] and of [resources], and a profile.

    A relative path of a profile file is relative to the current directory. Numbers may be text ("1e-5").
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    profile: str | None = None


def carried_settings(study: StudyContext, given: Overrides) -> dict[str, Any]:
    """Return the caller's overrides of settings that may change in an existing run (`study.current`), validated.

    Raises:
        UsageError: A value is not allowed, or a key decides what a run trains and cannot change.
    """
    train, resources, profile = given.settings, given.resources, given.profile
    if wrong := next((key for key in train if key not in CARRIED), None):
        raise UsageError(
            f"--set {wrong}: it says what a run trains, and a run that is there stays what it is; submit another one, "
            f"or set resources.KEY, {' or '.join(CARRIED)}"
        )
    asked = validated(Resources, {**study.config.resources.model_dump(), **resources}, "resources")
    known = study.config.train
    settings = validated(type(known), {**known.model_dump(), **train}, "settings")
    found = {key: getattr(asked, key) for key in resources} | {key: getattr(settings, key) for key in train}
    return found | ({"profile": located_profile(profile, Path())} if profile else {})


def settle(
    study: StudyContext, given: Overrides, declared: RunSettings | None = None
) -> tuple[RunSettings, Resources, str]:
    """Return settings, resources and profile: those of study.toml, overridden by what is given.

    `declared` replaces the [train] of study.toml.

    Raises:
        UsageError: A value is not allowed. The message names the key.
    """
    known = (declared or study.config.train).model_dump()
    settings = validated(settings_model(known), {**known, **given.settings}, "settings")
    return settings, *_requested(study, given)


def _requested(study: StudyContext, given: Overrides) -> tuple[Resources, str]:
    """Return the resources and the profile: those of study.toml, overridden by what is given."""
    from lvjobs.control.backends import check_sbatch_options

    resources = validated(Resources, {**study.config.resources.model_dump(), **given.resources}, "resources")
    used = _profile(given.profile, study)
    check_sbatch_options(study, resources, used)
    return resources, used


def pinned(settings: RunSettings, study: StudyContext) -> RunSettings:
    """Return the settings with absolute paths of data and model, and the SHA-256 of the data.

    Settings of the user's own task are returned as they are.

    Raises:
        UsageError: The data is missing, malformed, not finite, or has too few systems. The message names the file and
            the remedy.
    """
    from lvjobs.forecasting.data import load_dataset
    from lvjobs.forecasting.splits import training_split

    if not isinstance(settings, TrainSettings):
        return settings
    data = load_dataset(_data_file(settings, study))
    training_split(len(data.trajectories), settings)
    return located(settings, study)


def located(settings: RunSettings, study: StudyContext) -> RunSettings:
    """Return the settings as `pinned` does, without checking the data. The file need not exist."""
    if not isinstance(settings, TrainSettings):
        return settings
    data = _data_file(settings, study)
    changes: dict[str, Any] = {"data": str(data), "data_sha256": _sha256(data) if data.is_file() else ""}
    directory = study.root / expand_home(settings.model)
    if settings.model != "tiny" and directory.is_dir():
        changes["model"] = str(directory.resolve())
    else:
        changes["model"] = hub_id_of(settings.model)
    return settings.model_copy(update=changes)


def request(
    study: StudyContext, given: Overrides, finish: Callable[[RunSettings, StudyContext], RunSettings]
) -> Request:
    """Return the request for stages: study.toml, overridden by what is given.

    `finish` is `pinned` or `located`; it finds the data and the models.

    Raises:
        UsageError: A value is not allowed; or see `pinned`.
    """
    base = study.config
    resources, profile = _requested(study, given)
    asked = Request(
        train=base.train.model_dump(mode="json"),
        typed=dict(given.settings),
        resources=resources,
        profile=profile,
        file=declared_settings(base, _profile(None, study), ""),
    )
    every = [each for stage in base.stage for each in asked.settings(stage, base.stage)]
    every.append(validated(asked.model, {**asked.train, **asked.typed}, "settings"))
    by_files = {(each.data, each.model): each for each in every if isinstance(each, TrainSettings)}
    found = {files: finish(each, study) for files, each in by_files.items()}
    return with_facts(asked, {files: each for files, each in found.items() if isinstance(each, TrainSettings)})


def declared(study: StudyContext) -> Request:
    """Return the request of study.toml without overrides."""
    return request(study, Overrides(), located)


def _data_file(settings: TrainSettings, study: StudyContext) -> Path:
    return (study.root / expand_home(settings.data)).absolute()


@lru_cache(maxsize=1)
def _sha256(data: Path) -> str:
    """Return the SHA-256 of a data file. All runs of a stage use the same file, which is read once."""
    from lvjobs.forecasting.data import sha256

    return sha256(data)


def _profile(given: str | None, study: StudyContext) -> str:
    """Return the profile that is given, else that of study.toml."""
    return located_profile(given, Path()) if given else located_profile(study.config.profile, study.root)
