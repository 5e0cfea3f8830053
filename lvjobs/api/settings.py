"""Settings, resources and a profile: study.toml, and over it what a caller gives."""

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
    """What a caller gives over study.toml: keys of [train] and of [resources], and a profile.

    A relative path of a profile's file is one of the current directory. Numbers may be text, as people write them.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    profile: str | None = None


def carried_settings(study: StudyContext, given: Overrides) -> dict[str, Any]:
    """Return what the caller gives of the settings that a run may change (`study.current`), checked.

    Raises:
        UsageError: A value that is not allowed; or a key that says what a run trains.
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
    """Return settings, resources and profile: study.toml (`declared` in place of its [train]), then what is given.

    Raises:
        UsageError: A value that is not allowed; names the key.
    """
    known = (declared or study.config.train).model_dump()
    settings = validated(settings_model(known), {**known, **given.settings}, "settings")
    return settings, *_requested(study, given)


def _requested(study: StudyContext, given: Overrides) -> tuple[Resources, str]:
    """Return the resources and the profile: what is given before study.toml."""
    from lvjobs.control.backends import check_sbatch_options

    resources = validated(Resources, {**study.config.resources.model_dump(), **given.resources}, "resources")
    used = _profile(given.profile, study)
    check_sbatch_options(study, resources, used)
    return resources, used


def pinned(settings: RunSettings, study: StudyContext) -> RunSettings:
    """Return the settings with data and model as they are found from anywhere, and the SHA-256 of the data.

    Those of a task of one's own are left as they are.

    Raises:
        UsageError: data that is missing, malformed, not finite, or of too few systems; names the file and the remedy.
    """
    from lvjobs.forecasting.data import load_dataset
    from lvjobs.forecasting.splits import training_split

    if not isinstance(settings, TrainSettings):
        return settings
    data = load_dataset(_data_file(settings, study))
    training_split(len(data.trajectories), settings)
    return located(settings, study)


def located(settings: RunSettings, study: StudyContext) -> RunSettings:
    """Return the settings as `pinned` does, without reading the data, which need not be there."""
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
    """Return what is requested of stages: study.toml and what is given, with data and models as `finish` finds them.

    `finish` is `pinned` or `located`.

    Raises:
        UsageError: A value that is not allowed; or see `pinned`.
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
    """Return what study.toml alone requests."""
    return request(study, Overrides(), located)


def _data_file(settings: TrainSettings, study: StudyContext) -> Path:
    return (study.root / expand_home(settings.data)).absolute()


@lru_cache(maxsize=1)
def _sha256(data: Path) -> str:
    """Return the digest of a data file; all runs of a stage name the same one, which is read once."""
    from lvjobs.forecasting.data import sha256

    return sha256(data)


def _profile(given: str | None, study: StudyContext) -> str:
    """Return the profile that is given, else study.toml's."""
    return located_profile(given, Path()) if given else located_profile(study.config.profile, study.root)
