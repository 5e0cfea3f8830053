"""The forecasts of an evaluation's extra baselines, kept in `baselines.h5`: they take minutes, and are made once."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h5py
import numpy as np

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import Floats

BASELINES_FILE = "baselines.h5"


@dataclass(frozen=True)
class ExtraForecasts:
    """One extra baseline's forecasts of the first series of an evaluation; of all series once it is complete.

    Attributes:
        values: (series, horizon, variables), in the data's own units.
        made_by: The package and its version and, of a model, the SHA-256 of its weights.
        problem: The reason if it cannot be made of these series; empty otherwise.
    """

    values: Floats
    made_by: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    def __add__(self, values: Floats) -> "ExtraForecasts":
        """Return these forecasts followed by those of further series."""
        return replace(self, values=np.concatenate([self.values, values]))

    def scores(self, score: Callable[[Floats], dict[str, Any]]) -> dict[str, Any]:
        """Return the scores of the forecasts by `score`, or the problem, with what made them; fit for JSON."""
        evidence = {"made_by": dict(self.made_by)}
        if self.problem:
            return {"problem": self.problem, **evidence}
        return {**score(self.values), **evidence, "forecasts_sha256": self.sha256}

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the forecasts, by which scores and forecasts belong together."""
        return hashlib.sha256(np.ascontiguousarray(self.values, dtype="<f8").tobytes()).hexdigest()


def write_extras(path: Path, extras: Mapping[str, ExtraForecasts]) -> None:
    """Write extra baselines to an HDF5 file: a dataset for each, under its name with `/` written as `%2F`."""
    with h5py.File(path, "w") as file:
        for name, each in extras.items():
            made = file.create_dataset(quote(name, safe=":"), data=each.values)
            made.attrs.update(name=name, made_by=json.dumps(dict(each.made_by), sort_keys=True), problem=each.problem)


def read_extras(path: Path, names: Sequence[str]) -> dict[str, ExtraForecasts]:
    """Read those of these extra baselines that the file has.

    Raises:
        LvjobsError: the file is missing or damaged.
    """
    found = {}
    try:
        with h5py.File(path, "r") as file:
            for name in names:
                if (key := quote(name, safe=":")) in file:
                    made = file[key]
                    made_by, problem = json.loads(made.attrs["made_by"]), str(made.attrs["problem"])
                    found[name] = ExtraForecasts(np.asarray(made[()], dtype=np.float64), made_by, problem)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # what h5py raises of damaged files
        reason = str(error).partition("\n")[0]
        raise LvjobsError(f"{path} cannot be read ({reason}); restore it from a copy") from None
    return found


def read_extra(path: Path, name: str, sha256: str) -> Floats:
    """Return a baseline's forecasts, (series, horizon, variables), if they are those with this SHA-256.

    Raises:
        LvjobsError: the file is missing or damaged, or has other forecasts.
    """
    found = read_extras(path, [name]).get(name)
    if found is None or found.sha256 != sha256:
        raise LvjobsError(f"{path} does not hold the forecasts of {name} that were scored; restore it from a copy")
    return found.values
