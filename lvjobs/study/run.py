"""A run's immutable configuration: it is hashed, written to run.json, and passed to the training function."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lvjobs.study.identity import PARAMS, content, said
from lvjobs.study.numbers import Int

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

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hex digits) of the canonical JSON of this configuration's settings.

        See `study.identity` for the settings that count.
        """
        return _sha256(self._said())

    @property
    def identity(self) -> str:
        """Return the SHA-256 of what this configuration computes: one run is enough for configurations with the same.

        It leaves out the checkpoint interval, how many checkpoints stay, and the path of data whose hash is known. A
        validation with every checkpoint counts as one setting.
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
        return _sha256({**values, "validate_every": validates})

    def _said(self) -> dict[str, Any]:
        values = said(type(self), self.model_dump(mode="json"))
        if task := PARAMS.get(self.task):
            values["params"] = said(task, self.params)
        return values

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


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no blanks: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
