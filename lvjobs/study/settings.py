"""[train]: what every run starts from: of the forecasting that comes with lvjobs, or of a function of one's own.

    [train]                                    [train]
    model = "tiny"                             task = "mypackage.train:train"
    learning_rate = 1e-5                       steps = 300
                                               hidden = 64

The keys of a function of one's own are those that [train] gives a value, and what kind of value that is goes for all.
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from lvjobs.errors import UsageError
from lvjobs.study.lists import List
from lvjobs.study.numbers import Float, Int
from lvjobs.study.run import TASK, RunConfig
from lvjobs.study.training import TRAIN_TASK, TrainingConfig


class RunSettings(BaseModel):
    """What every run has, whatever it trains."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    seed: Int = Field(default=0, ge=0, description="of everything that is drawn")
    steps: Int = Field(default=5000, gt=0, description="of the run")
    checkpoint_every: Int = Field(default=250, gt=0, description="steps between checkpoints")
    validate_every: Int | None = Field(default=None, gt=0, description="None: with every checkpoint")
    threads: Int = Field(default=1, gt=0, description="of a process; another number is another arithmetic")
    keep_last: Int = Field(default=2, gt=0, description="checkpoints that stay")
    keep_best: bool = Field(default=True, description="whether that with the lowest validation loss stays too")

    def run_config(self) -> RunConfig:
        """The immutable configuration these settings declare: the run's own keys apart from the task's."""
        values = self.model_dump(mode="json")
        own = {key: values.pop(key) for key in RunSettings.model_fields}
        own["validate_every"] = own["validate_every"] or own["checkpoint_every"]
        task = values.pop("task", TRAIN_TASK)
        return RunConfig(task=task, params=values, **own)


class TrainSettings(RunSettings, TrainingConfig):
    """[train] of the forecasting: defaults of `lvjobs submit train`, and what every stage starts from."""

    data: str = Field(default="data.h5", description="HDF5 with /time (T,) and /trajectories (N, T, 2)")


class OwnSettings(RunSettings):
    """[train] of a function of one's own; its keys are added by `settings_model`."""

    task: str = Field(pattern=TASK.pattern, description="module:function, or package.module:function")


def settings_model(values: Mapping[str, Any]) -> type[RunSettings]:
    """The model of a [train] with these values.

    Raises:
        UsageError: a key of one's own that none may be called.
    """
    if "task" not in values:
        return TrainSettings
    own = {key: value for key, value in values.items() if key not in OwnSettings.model_fields}
    for key in own:
        if not key.isidentifier() or key.startswith("_") or hasattr(BaseModel, key):
            raise UsageError(f"[train]: no key may be called {key!r}: choose another name for it")
    fields: dict[str, Any] = {key: (_kind(value), value) for key, value in own.items()}
    return create_model("OwnSettings", __base__=OwnSettings, **fields)


def _kind(value: Any) -> Any:
    """What a key takes whose default this is."""
    kinds = {bool: bool, int: Int, float: Float, str: str, list: List, dict: dict[str, Any]}
    return kinds.get(type(value), Any)


def find_beside(root: Path) -> None:
    """Let Python import a task's module from the study's directory, and from the current directory.

    Both come last in the search path: they hide no module that is installed.
    """
    places = [root]
    with suppress(OSError):  # the current directory may be gone
        places.append(Path.cwd())
    for place in map(str, places):
        if place not in sys.path:
            sys.path.append(place)
