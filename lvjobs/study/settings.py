"""[train]: the settings that every run starts from, for the bundled forecasting, a user's own function or a program.

    [train]                    [train]                             [train]
    model = "tiny"             task = "mypackage.train:train"      command = ["python", "train.py", "--lr={lr}"]
    learning_rate = 1e-5       steps = 300                         steps = 300
                               hidden = 64                         lr = 1e-3

The keys of a user's own function or program are those to which [train] gives a value. The type of that value applies to
all runs.
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from lvjobs.errors import UsageError
from lvjobs.study.fields import Float, Int, List
from lvjobs.study.params import TRAIN_TASK, TrainingConfig
from lvjobs.study.program.command import COMMAND_TASK, CommandConfig
from lvjobs.study.program.presets import PresetName, with_preset
from lvjobs.study.run import TASK, RunConfig
from lvjobs.study.tables import SettingsTable


class RunSettings(SettingsTable):
    """The settings of every run: defaults of `lvjobs submit train`, from which every stage starts."""

    seed: Int = Field(default=0, ge=0, description="seed of every random number")
    steps: Int = Field(default=5000, gt=0, description="optimizer steps of a run")
    checkpoint_every: Int = Field(default=250, gt=0, description="steps between checkpoints")
    validate_every: Int | None = Field(
        default=None, gt=0, description="steps between validations; default: with every checkpoint", examples=[250]
    )
    threads: Int = Field(
        default=1, gt=0, description="threads per process; with another number, a resumed run is no longer bit-exact"
    )
    keep_last: Int = Field(default=2, gt=0, description="newest checkpoints that are kept")
    keep_best: bool = Field(default=True, description="also keep the checkpoint with the lowest validation loss")

    def run_config(self) -> RunConfig:
        """Return the immutable configuration that these settings declare: the run's own keys apart from the task's."""
        values = self.model_dump(mode="json")
        own = {key: values.pop(key) for key in RunSettings.model_fields}
        own["validate_every"] = own["validate_every"] or own["checkpoint_every"]
        task = values.pop("task", TRAIN_TASK)
        values.pop("preset", None)  # its values stand beside it
        return RunConfig(task=task, params=values, **own)


class TrainSettings(RunSettings, TrainingConfig):
    """The settings of the forecasting that comes with lvjobs (docs/training.md)."""

    data: str = Field(
        default="data.h5",
        description="HDF5 file with /time (steps,) and /trajectories (systems, steps, variables)",
    )

    @model_validator(mode="after")
    def _has_room_for_its_decay(self) -> "TrainSettings":
        if self.schedule != "wsd" or self.decay_steps is None:
            return self
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ValueError(
                f"warmup_steps = {self.warmup_steps} and decay_steps = {self.decay_steps} are more than steps = "
                f"{self.steps}: set one of them lower"
            )
        return self


class OwnSettings(RunSettings):
    """Instead of these, `task` names a function of your own, and all further keys are its settings (docs/tasks.md)."""

    task: str = Field(pattern=TASK.pattern, description="the function: module:function, or package.module:function")


class ProgramSettings(OwnSettings, CommandConfig):
    """Or `command` is a program of any language, and all further keys are its settings (docs/programs.md)."""

    model_config = ConfigDict(extra="forbid")

    task: str = COMMAND_TASK
    preset: PresetName | None = Field(
        default=None, description="keys below for a known library: its checkpoints, progress and signals"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        if values.get("task", COMMAND_TASK) != COMMAND_TASK:
            raise ValueError("[train] has a task and a command; leave one of the two out")
        return with_preset(values)


_KINDS = {bool: bool, int: Int, float: Float, str: str, list: List, dict: dict[str, Any]}
"""The type of a key by the type of its default."""


def settings_model(values: Mapping[str, Any]) -> type[RunSettings]:
    """Return the model of a [train] with these values.

    Raises:
        UsageError: the user's own function has a key with a name that cannot be used.
    """
    if "task" not in values and "command" not in values:
        return TrainSettings
    base = ProgramSettings if "command" in values else OwnSettings
    own = {key: value for key, value in values.items() if key not in base.model_fields}
    for key in own:
        if not key.isidentifier() or key.startswith("_") or hasattr(BaseModel, key):
            raise UsageError(f"[train]: no key may be called {key!r}: choose another name for it")
    fields: dict[str, Any] = {key: (_KINDS.get(type(value), Any), value) for key, value in own.items()}
    return create_model(base.__name__, __base__=base, **fields)


_beside: list[str] = []
"""The places that `find_beside` added to the search path."""


def find_beside(root: Path) -> None:
    """Let Python import a task's module from the study's directory, and from the current directory.

    Both come last in the search path: they hide no installed module. The places of another study are removed: a program
    may open several studies whose modules have equal names.
    """
    sys.path[:] = [place for place in sys.path if place not in _beside]
    places = [root]
    with suppress(OSError):  # the current directory may be gone
        places.append(Path.cwd())
    _beside[:] = [place for place in dict.fromkeys(map(str, places)) if place not in sys.path]
    sys.path += _beside
