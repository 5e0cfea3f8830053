"""A run's immutable configuration: it is hashed, written to run.json, and passed to the training function.

Its fingerprint and identity are computed from its settings without those that have their default values. So a release
that adds a key changes no run's fingerprint: a run that was declared before, and one that is typed without the key,
have the same settings.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from lvjobs.study.fields import Int, leaves
from lvjobs.study.params import EVALUATE_TASK, TRAIN_TASK, EvaluationConfig, TrainingConfig
from lvjobs.study.parent import Parent, start_of
from lvjobs.study.program.command import COMMAND_TASK, CommandConfig

_Model = TypeVar("_Model", bound=BaseModel)

PARAMS: Mapping[str, type[BaseModel]] = {
    TRAIN_TASK: TrainingConfig,
    EVALUATE_TASK: EvaluationConfig,
    COMMAND_TASK: CommandConfig,
}
"""The models of the bundled tasks' params, and a program's; those of other tasks are opaque, and all of them count."""

FOLD = "fold"
"""The key of [train] with the part of the data that a run does not see. Like a seed, it makes no other candidate."""
MEANT: Mapping[type[BaseModel], Mapping[str, Any]] = {TrainingConfig: {"validation_systems": 0}}
"""For a key that was added, or whose default changed, and whose default is not what older runs did: the value that
these used. An entry may never change: fingerprints depend on it.
"""


@cache
def silence(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return the value that a run without a key has for it, for every key that may be left out."""
    fields = {key: field for key, field in model.model_fields.items() if not field.is_required()}
    defaults = {key: field.get_default(call_default_factory=True) for key, field in fields.items()}
    return defaults | dict(MEANT.get(model, {}))


def said(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` of this configuration, as JSON values, without those that `silence` has; also in inner tables."""
    meant = silence(model)
    kept: dict[str, Any] = {}
    for key, value in values.items():
        # 1, 1.0 and true are equal in Python, but different text in JSON.
        if key in meant and type(meant[key]) is type(value) and meant[key] == value:
            continue
        inner = _inner(model, key)
        kept[key] = said(inner, value) if inner and isinstance(value, Mapping) else value
    return kept


def content(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return params without the path of data whose hash they have: the same data in another place are the same data."""
    kept = {key: content(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    if kept.get("data_sha256"):
        kept.pop("data", None)
    return kept


def candidate_of(config: Mapping[str, Any]) -> str:
    """Return a text of a configuration, given as plain values, without what repeats it: its seed and its fold.

    Runs that repeat one another may each continue from a run of their own, at the same step.
    """
    params = {key: value for key, value in config["params"].items() if key != FOLD}
    parent = {"parent": start} if (start := start_of(config)) else {}
    return canonical_json({**config, "seed": None, "params": params, **parent})


def repeat_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return what tells a configuration from those that repeat it: its seed and its fold."""
    return int(config.get("seed", 0)), int(config.get("params", {}).get(FOLD, 0))


def read_params(model: type[_Model], params: Mapping[str, Any]) -> _Model:
    """Return a run's params with the values that it was declared with, whichever release declared it.

    Raises:
        ValidationError: they do not fit this configuration.
    """
    return model.model_validate(_meant(model, params))


def _meant(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(MEANT.get(model, {})) | dict(values)
    for key, value in values.items():
        if (inner := _inner(model, key)) and isinstance(value, Mapping):
            found[key] = _meant(inner, value)
    return found


@cache
def _inner(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the configuration model that a key holds, or None."""
    return model_of(model.model_fields[key].annotation) if key in model.model_fields else None


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a table, of a list of tables, or of a table's values."""
    return next((leaf for leaf in leaves(annotation) if isinstance(leaf, type) and issubclass(leaf, BaseModel)), None)


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}\Z")
TASK = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
"""`package.module:function`."""

CARRIED = ("checkpoint_every", "keep_last")
"""The keys that limit the cost of a failure and the disk usage, and that do not change any computed result."""


class RunConfig(BaseModel):
    """One run, as declared. Two runs with equal configurations are the same run.

    `task` is `package.module:function`; the function takes one `lvjobs.worker.Run`. `params` is the task's own
    configuration (the bundled forecasting task: `TrainingConfig`), opaque to everything but the task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(pattern=TASK.pattern)
    seed: Int = Field(default=0, ge=0)
    steps: Int = Field(gt=0)
    checkpoint_every: Int = Field(default=250, gt=0)
    validate_every: Int = Field(default=250, gt=0)
    threads: Int = Field(default=1, gt=0, description="pinned: another thread count is another arithmetic")
    keep_last: Int = Field(default=2, gt=0)
    keep_best: bool = True
    params: dict[str, Any] = Field(default_factory=dict)
    parent: Parent | None = None
    """The checkpoint that the run continues from; `steps` include those that led to it."""

    @model_serializer(mode="wrap")
    def _without_a_parent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the parent out where there is none: earlier releases refuse to read the key."""
        found: dict[str, Any] = dump(self)
        if found.get("parent", 0) is None:
            del found["parent"]
        return found

    def model_copy(self, **changes: Any) -> "RunConfig":
        """Return a copy (see pydantic) that computes its own cached properties: pydantic would copy these, too."""
        copied = super().model_copy(**changes)
        for kept in ("fingerprint", "besides_seed"):
            vars(copied).pop(kept, None)
        return copied

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hex digits) of the canonical JSON of this configuration's settings.

        See `said` for the settings that count.
        """
        return _sha256(self._said())

    @cached_property
    def besides_seed(self) -> str:
        """Return a text that is equal for configurations that differ at most in their seed.

        Such runs cost the same, and need the same models.
        """
        return self.model_dump_json(exclude={"seed"})

    @property
    def candidate(self) -> str:
        """Return a text that is equal for configurations that repeat one another, with another seed or fold."""
        return candidate_of(self.model_dump(mode="json"))

    @property
    def identity(self) -> str:
        """Return the SHA-256 of what this configuration computes: one run is enough for configurations with the same.

        It leaves out the checkpoint interval, how many checkpoints stay, the path of data whose hash is known, and the
        name of the run whose checkpoint it continues from. A validation with every checkpoint counts as one setting.
        """
        return self._identity("checkpoint" if self.validate_every == self.checkpoint_every else self.validate_every)

    @property
    def identities(self) -> tuple[str, str]:
        """Return the identity, and that of another checkpoint interval with the same validations."""
        return self.identity, self._identity(self.validate_every)

    def _identity(self, validates: int | str) -> str:
        values = {key: value for key, value in self._said().items() if key not in CARRIED}
        if self.task in PARAMS:
            values["params"] = content(values["params"])
        if self.parent is not None:
            values["parent"] = self.parent.model_dump(include={"step", "sha256"})
        return _sha256({**values, "validate_every": validates})

    def _said(self) -> dict[str, Any]:
        task = PARAMS.get(self.task)
        values = said(type(self), self.model_dump(mode="json", exclude={"params"} if task else None))
        return {**values, "params": said(task, self.params)} if task else values

    @property
    def former_fingerprint(self) -> str:
        """Return the fingerprint as it was stored for runs declared when all keys were hashed."""
        return _sha256(self.model_dump(mode="json", exclude_unset=True))


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with other values; a key whose value is None is left out, as in old configurations."""
    return RunConfig.model_validate({key: value for key, value in {**config, **values}.items() if value is not None})


class RunFile(BaseModel):
    """The content of run.json: the run's identity and its configuration.

    `declared` holds the earlier values of `config` that were changed since the run was declared (None: left out): the
    fingerprint is computed from these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    stage: str
    fingerprint: str
    config: RunConfig
    declared: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "RunFile":
        """Read a run.json.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no run.json.
        """
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if not NAME.match(value):
            raise ValueError(
                "a run's name is 1 to 80 letters, digits, '.', '_', '+', '-', and begins with a letter or digit; "
                "choose another"
            )
        return value

    @property
    def is_as_declared(self) -> bool:
        """Return whether its configuration is still the one that it was declared with: a run is immutable."""
        declared = with_values(self.config.model_dump(mode="json", exclude_unset=True), self.declared)
        return self.fingerprint in (declared.fingerprint, declared.former_fingerprint)


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no blanks: equal values give equal text."""
    return _CANONICAL.encode(value)
