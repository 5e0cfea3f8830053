"""study.toml: the user's declaration of a study. Every key has a default; an unknown key is an error that names it.

The settings for how a run is carried out may change while the run stays the same run: the profile, the resources, and
two keys of [train]. The newest value applies: a typed value until study.toml is changed, and study.toml's value until
something is typed.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.files import expand_home
from lvjobs.study.fields import NO_NUMBER, NO_WHOLE_NUMBER, Int, Mark, marked
from lvjobs.study.found import options_for
from lvjobs.study.layout import StudyLayout
from lvjobs.study.notify import Notify
from lvjobs.study.presets import PUBLISHED
from lvjobs.study.remote import Remote
from lvjobs.study.run import CARRIED, model_of
from lvjobs.study.settings import OwnSettings, RunSettings, TrainSettings, find_beside, settings_model
from lvjobs.study.stage_checks import check_stage
from lvjobs.study.stage_order import in_order
from lvjobs.study.stages import Stage
from lvjobs.study.suggest import nearest
from lvjobs.study.tables import Budget, Driver, Evaluation, Policy, Resources, SettingsTable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Model = TypeVar("_Model", bound=BaseModel)


class StudyConfig(SettingsTable):
    """The content of study.toml."""

    profile: str = Field(
        default="local",
        description="how the cluster is used: local, lab, generic, a site, or a file (docs/profiles.md)",
    )
    local_slots: Int = Field(default=1, gt=0, description="jobs that run at the same time with profile local")
    resources: Resources = Resources()
    budget: Budget = Budget()
    train: RunSettings = Field(default_factory=TrainSettings)
    stage: list[Stage] = Field(default_factory=lambda: list(PUBLISHED))
    evaluation: Evaluation = Evaluation()
    notify: Notify = Notify()
    driver: Driver = Driver()
    policy: Policy = Policy()
    remote: Remote = Remote()

    @field_validator("stage")
    @classmethod
    def _names_are_unique(cls, stages: list[Stage], info: ValidationInfo) -> list[Stage]:
        names = [stage.name for stage in stages]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two stages are called {twice}; give each its own name")
        declared = info.data.get("train", TrainSettings())
        for stage in stages:
            check_stage(stage, declared)
        return in_order(stages)

    def stage_named(self, name: str) -> Stage:
        """Return the stage called `name`. Raises UsageError where no stage has that name."""
        for stage in self.stage:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stage) or "none"
        near = nearest(name, (stage.name for stage in self.stage))
        hint = f"did you mean {near!r}?" if near else "add a [[stage]] with that name"
        raise UsageError(f"no stage {name!r} in study.toml (declared: {known}); {hint}")


def study_model(values: Mapping[str, Any]) -> type[StudyConfig]:
    """Return the model of a study.toml with these values: the keys of [train] depend on its task.

    Raises:
        UsageError: a key of the task's own that cannot be used (see `settings_model`).
    """
    given = values.get("train")
    train = settings_model(given if isinstance(given, Mapping) else {})
    fields: dict[str, Any] = {"train": (train, Field(default_factory=train))}
    if issubclass(train, OwnSettings):  # the published stages do not fit such a task
        fields["stage"] = (list[Stage], Field(default_factory=list))
    return create_model("StudyConfig", __base__=StudyConfig, **fields)


@dataclass(frozen=True)
class StudyContext:
    """A study directory and the content of its study.toml (an absent file means every default)."""

    root: Path
    config: StudyConfig

    @property
    def layout(self) -> StudyLayout:
        """Return the paths of the study's files."""
        return StudyLayout(self.root)

    @property
    def where(self) -> tuple[str, ...]:
        """Return the options that name this study to a command; empty in the study's directory."""
        return options_for(self.root)

    @property
    def begin(self) -> str:
        """Return the command that submits a first run; it differs for a study with a task of the user's own."""
        first = remedies.SUBMIT_TASK if isinstance(self.config.train, OwnSettings) else remedies.SUBMIT_TRAIN
        return first(*self.where)


def load_study(root: Path) -> StudyContext:
    """Read `root`/study.toml.

    Raises:
        UsageError: not a directory, not TOML, or a key or value that study.toml does not know; the message names the
            key.
    """
    root = expand_home(root).resolve()
    if not root.is_dir():
        raise UsageError(f"{root} is not a directory; make it, or name another with --study")
    path = root / "study.toml"
    found = path.stat() if path.exists() else None
    config = _read_config(path, (found.st_ino, found.st_mtime_ns, found.st_size) if found else ())
    if isinstance(config.train, OwnSettings):
        find_beside(root)
    return StudyContext(root=root, config=config)


@lru_cache(maxsize=1)
def _read_config(path: Path, version: tuple[int, ...]) -> StudyConfig:
    """Return the content of a study.toml. A process reads each `version` of the file once, and asks for it often."""
    values = read_toml(path) if version else {}
    return validated(study_model(values), values, str(path), path.parent)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of the file.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML ({error}); fix it there") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); see that it may be") from None


def validated(model: type[_Model], values: Mapping[str, Any], source: str, root: Path | None = None) -> _Model:
    """Return `model` from `values`. Paths in them are relative to `root`, or to the current directory.

    Raises:
        UsageError: the values do not fit; one line names `source`, the key, and the nearest known key.
    """
    try:
        return model.model_validate(values, context={"root": root or Path()})
    except ValidationError as error:
        first = error.errors()[0]
        table = _table_at(model, first["loc"])
        key = _key_at(values, first["loc"])
        if first["type"] == "extra_forbidden":
            hint = _suggestion(table, str(first["loc"][-1]), in_stage=source.startswith("stage "))
            raise UsageError(f"{source}: unknown key {key!r}{hint}") from None
        message = first["msg"].removeprefix("Value error, ")
        is_secret = bool(first["loc"]) and first["loc"][-1] in marked(table, Mark.SECRET)
        is_shown = not isinstance(first["input"], (list, dict)) and not is_secret
        given = f" = {first['input']!r}" if is_shown else ""
        place = f"{source}: {key}{given}" if key else source
        raise UsageError(f"{place}: {message[0].lower()}{message[1:]}{_remedy(table, first)}") from None


def _remedy(table: type[BaseModel], found: Mapping[str, Any]) -> str:
    """Return what to write instead of a value: pydantic's own message has only what is wrong with it."""
    kind, typed = found["type"], found["input"]
    if kind == "list_type":
        return f"; write a list: {json.dumps([typed], default=str)}"
    if kind == "literal_error":
        near = nearest(str(typed), re.findall(r"'([^']*)'", found["msg"]))
        return f"; did you mean {near!r}?" if near else "; give another value"
    if str(found["msg"]).endswith((NO_NUMBER, NO_WHOLE_NUMBER)):
        field = table.model_fields.get(str(found["loc"][-1]))
        example = next(iter(field.examples or [field.default]), None) if field else None
        return f"; write one, such as {example:g}" if isinstance(example, (int, float)) else ""
    return {"missing": "; add it", "value_error": ""}.get(kind, "; give another value")


def _key_at(values: Mapping[str, Any], location: tuple[int | str, ...]) -> str:
    """Return the key at `location` in words: `train.steps`, or `stage first: grid.lora_rank`."""
    head, *rest = location or ("",)
    if head == "stage" and rest and isinstance(rest[0], int):
        stage = values["stage"][rest[0]]
        name = stage.get("name") if isinstance(stage, Mapping) else None
        return f"stage {name or rest[0] + 1}: " + ".".join(map(str, rest[1:]))
    return ".".join(map(str, location))


def _table_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the table that has the key at `location`."""
    for part in location[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            model = model_of(model.model_fields[part].annotation) or model
    return model


_TABLES: Mapping[str, type[BaseModel]] = {
    "resources": Resources,
    "train": TrainSettings,
    "budget": Budget,
    "policy": Policy,
    "evaluation": Evaluation,
}
_FEW = 8


def _suggestion(table: type[BaseModel], key: str, *, in_stage: bool) -> str:
    """Return a hint for an unknown key: the nearest key of the table, or of another one; or all keys of a small one."""
    owner = next((name for name, other in _TABLES.items() if nearest(key, other.model_fields) == key), None)
    if in_stage and owner:
        return f"; it belongs to [{owner}], which all stages share"
    known = [field.alias or name for name, field in table.model_fields.items()]
    near = nearest(key, known) or next(
        (f"{name}.{found}" for name, other in _TABLES.items() if (found := nearest(key, other.model_fields))), None
    )
    if near:
        return f"; did you mean {near!r}?"
    return f"; known here: {', '.join(known)}" if len(known) <= _FEW else "; docs/study-toml.md has all keys"


def declared_settings(config: StudyConfig, profile: str, stage: str) -> dict[str, Any]:
    """Return what study.toml declares about how runs of this stage are carried out.

    Args:
        config: The study.toml.
        profile: Its profile; a file's path is absolute.
        stage: A stage's name, or a name that no stage has for a run that is submitted by itself.

    Returns:
        The keys of `Resources` and `CARRIED`, and `profile`.
    """
    own = next((each.set for each in config.stage if each.name == stage), {})
    train = {key: own.get(key, getattr(config.train, key)) for key in CARRIED}
    return {**config.resources.model_dump(), "profile": profile, **train}


def typed_over(declared: Mapping[str, Any], requested: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return each key whose requested value differs from study.toml's, with both values: [requested, declared]."""
    known = {key: value for key, value in requested.items() if key in declared}
    return {key: [value, declared[key]] for key, value in known.items() if value != declared[key]}


def current_settings(declared: Mapping[str, Any], typed: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return the settings as they are now.

    Args:
        declared: The values in study.toml now.
        typed: The result of `typed_over` when the user last submitted the run. A value applies as long as study.toml
            has the value that it had then.
    """
    kept = {key: value for key, (value, then) in typed.items() if key in declared and declared[key] == then}
    return {**declared, **kept}
