"""Settings, resources and the profile: those of study.toml, overridden by the caller's; and a new study.toml."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.templates import located_profile
from lvjobs.errors import UsageError
from lvjobs.files import close_to_others, expand_home, private, write_atomic
from lvjobs.flops.architecture import hub_id_of
from lvjobs.study.config import StudyContext, declared_settings, read_toml, validated
from lvjobs.study.program.command import COMMAND_TASK
from lvjobs.study.run import CARRIED, RunConfig
from lvjobs.study.settings import OwnSettings, RunSettings, TrainSettings, find_beside, settings_model
from lvjobs.study.tables import Resources
from lvjobs.sweep.request import Request, with_facts
from lvjobs.tasks.registry import check_costs, rates_of

ENTRY_POINTS = "lvjobs.tasks"


@dataclass(frozen=True)
class Overrides:
    """The caller's overrides of study.toml: keys of [train] and of [resources], and a profile.

    A relative path of a profile file is relative to the current directory. Numbers may be text ("1e-5").
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    profile: str | None = None


def carried_settings(study: StudyContext, given: Overrides) -> dict[str, Any]:
    """Return the caller's overrides of settings that may change in an existing run (`study.config`), validated.

    Raises:
        UsageError: A value is not allowed, or a key decides what a run trains and cannot change.
    """
    train, resources, profile = given.settings, given.resources, given.profile
    if wrong := next((key for key in train if key not in CARRIED), None):
        raise UsageError(
            f"--set {wrong}: it changes what the run trains, and an existing run cannot change; submit another run, "
            f"or set "
            f"resources.KEY, {' or '.join(CARRIED)}"
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
    from lvjobs.forecasting.data import check_power, load_dataset
    from lvjobs.forecasting.splits import training_split

    if not isinstance(settings, TrainSettings):
        return settings
    data = load_dataset(_data_file(settings, study))
    training_split(len(data.trajectories), settings)
    check_power(data, settings.scale_power)
    return located(settings, study)


def located(settings: RunSettings, study: StudyContext) -> RunSettings:
    """Return the settings as `pinned` does, without checking the data. The file need not exist."""
    if not isinstance(settings, TrainSettings):
        return settings
    data = _data_file(settings, study)
    changes: dict[str, Any] = {"data": str(data), "data_sha256": _sha256(data) if data.is_file() else ""}
    if settings.split != "last200" and data.is_file():  # evaluations are declared where the data are not read
        changes["data_systems"] = _systems(data)
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
    from lvjobs.forecasting.baselines.extras import canonical

    base = study.config
    resources, profile = _requested(study, given)
    asked = Request(
        train=base.train.model_dump(mode="json"),
        typed=dict(given.settings),
        resources=resources,
        profile=profile,
        baselines=canonical(base.evaluation.baselines, study.root),
        file=declared_settings(base, _profile(None, study), ""),
    )
    every = [each for stage in base.stage for each in asked.settings(stage, base.stage)]
    every.append(validated(asked.model, {**asked.train, **asked.typed}, "settings"))
    training = sorted(
        (each for each in every if isinstance(each, TrainSettings)), key=lambda each: each.split != "last200"
    )
    by_files = {(each.data, each.model): each for each in training}
    found = {files: finish(each, study) for files, each in by_files.items()}
    return with_facts(asked, {files: each for files, each in found.items() if isinstance(each, TrainSettings)})


def _data_file(settings: TrainSettings, study: StudyContext) -> Path:
    return (study.root / expand_home(settings.data)).absolute()


@lru_cache(maxsize=1)
def _sha256(data: Path) -> str:
    """Return the SHA-256 of a data file. All runs of a stage use the same file, which is read once."""
    from lvjobs.forecasting.data import sha256

    return sha256(data)


@lru_cache(maxsize=1)
def _systems(data: Path) -> int:
    from lvjobs.forecasting.data import load_dataset

    return len(load_dataset(data).trajectories)


def _profile(given: str | None, study: StudyContext) -> str:
    """Return the profile that is given, else that of study.toml."""
    return located_profile(given, Path()) if given else located_profile(study.config.profile, study.root)


def own_settings(
    study: StudyContext, task: str | None, file: Path | None, given: Overrides | None = None
) -> RunSettings:
    """Return the task's declared settings: those of `file` if given, else [train] of study.toml.

    `task` takes precedence over the task that the file names. A `command` in the settings that are `given` takes
    precedence over both: then these are all of the program's settings.

    Raises:
        UsageError: no task is named anywhere, or the file cannot be used.
    """
    train = study.config.train
    values: Mapping[str, Any] = {}
    source = "study.toml"
    if given is not None and "command" in given.settings:
        return validated(settings_model(given.settings), given.settings, "settings")
    if file is not None:
        values, source = _settings_of(file), str(file)
    elif isinstance(train, OwnSettings) and task in (None, train.task):
        return train
    chosen = task or values.get("task")
    if chosen is None and "command" in values:
        return validated(settings_model(values), values, source)
    if chosen is None and file is not None:
        raise UsageError(f'{file} names no task; add task = "module:function" to it')
    if chosen is None:
        command = remedies.SUBMIT_NAMED_TASK(*study.where)
        raise UsageError(f'no task was named; type: {command}, or set task = "..." under [train] in study.toml')
    values = {**values, "task": installed_task(str(chosen))}
    return validated(settings_model(values), values, source)


def _settings_of(file: Path) -> Mapping[str, Any]:
    """Return the settings that a file of `--config` holds: its [train] table, or its keys where it has no table.

    Raises:
        UsageError: the file cannot be read, has another table, or has keys outside of [train].
    """
    values = read_toml(file)
    tables = [name for name, value in values.items() if _is_table(value)]
    if other := next((name for name in tables if name != "train"), None):
        raise UsageError(
            f"{file}: [{other}] is a table that is not read; keep only [train] in this file, and write a table of the "
            f"task's own settings as [train.{other}]"
        )
    if not tables:
        return values
    if outside := ", ".join(name for name in values if name != "train"):
        raise UsageError(f"{file} has keys outside of [train] ({outside}); write all keys under [train]")
    if not isinstance(values["train"], Mapping):
        raise UsageError(f"{file}: [[train]] is a list of tables; write [train], once")
    return values["train"]


def _is_table(value: Any) -> bool:
    """Return whether a value of a TOML file is a table, or a list of tables."""
    return isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(each, Mapping) for each in value))


def installed_task(name: str) -> str:
    """Return the `package.module:function` of a task that an installed package names so (entry points `lvjobs.tasks`).

    Any other name is returned as it is.
    """
    found = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)} if ":" not in name else {}
    return found.get(name, name)


def check_task(study: StudyContext, config: RunConfig) -> None:
    """Refuse a task that no job could run, before anything is written.

    Raises:
        UsageError: the task cannot be imported, is not marked with `lvjobs.task`, or fails in its first step.
    """
    find_beside(study.root)
    check_costs([config], study.config.budget)
    if not rates_of(config) and config.task != COMMAND_TASK:
        raise UsageError(
            f"{config.task} is not marked as a task; nothing was submitted: write @lvjobs.task above the function, so "
            "that its FLOPs are counted (docs/tasks.md)"
        )


# -- a new study --------------------------------------------------------------------------------------------------


def create(root: Path, profile: str, resources: Mapping[str, Any], preset: str | None, *, force: bool) -> Path:
    """Write a commented study.toml with every key and its default, and return its path.

    `resources` are keys of [resources]. `preset` None means study-tiny if runs train on this machine, else published.

    Raises:
        UsageError: study.toml exists and `force` is not given, or it cannot be written, or there is no such profile.
    """
    from lvjobs.cluster.backends import backend_of, is_elsewhere
    from lvjobs.cluster.profiles import load_profile
    from lvjobs.study.template import study_toml

    defaults = load_profile(profile).defaults() if backend_of(profile).is_site else {}
    preset = preset or ("published" if is_elsewhere(profile) else "study-tiny")
    return write_new(root, lambda: study_toml(profile, resources, defaults, preset), force=force)


def write_new(root: Path, text: Callable[[], str], *, force: bool) -> Path:
    """Write a new study.toml with the text that `text` returns, make its directory if needed, and return its path.

    Raises:
        UsageError: study.toml exists and `force` is not given, or it cannot be written; or see `text`.
    """
    path = root / "study.toml"
    if path.exists() and not force:
        raise UsageError(f"{path} exists; edit it, or overwrite it with --force")
    content = text()
    try:
        is_new = not root.exists() or not any(root.iterdir())
        with private():
            root.mkdir(parents=True, exist_ok=True)
        if is_new:  # the permissions of an existing directory are the user's
            close_to_others(root)
        write_atomic(path, content)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); choose another --study") from error
    return path
