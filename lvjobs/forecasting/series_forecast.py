"""The forecast of one series with all that belongs to it, as CSV and HDF5.

Its truth, history, forecast, quantiles and baselines are one object, cut out of the file by the series' own index.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h5py
import numpy as np

from lvjobs.errors import LvjobsError
from lvjobs.files import write_atomic
from lvjobs.forecasting.codec import Floats

LEVELS = (0.05, 0.25, 0.75, 0.95)


@dataclass(frozen=True)
class SeriesForecast:
    """One series in the data's own units.

    Attributes:
        series: Its index in the file, from 0.
        time: (history + horizon,).
        truth: (history + horizon, variables), or (history, variables) if nothing is known of the horizon.
        history: The number of steps that the forecaster saw.
        samples: (samples, horizon, variables); a single sample is a greedy forecast.
        baselines: Each (horizon, variables).
        evidence: The model, adapter, data and settings that it came from; fit for JSON.

    Raises:
        LvjobsError: the shapes do not fit together, or there is no baseline.
    """

    series: int
    time: Floats
    truth: Floats
    history: int
    samples: Floats
    baselines: Mapping[str, Floats]
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the shapes; nothing is cut to fit."""
        _, horizon, variables = self.samples.shape
        steps = self.history + horizon
        if self.time.shape != (steps,) or self.truth.shape not in ((steps, variables), (self.history, variables)):
            raise LvjobsError(
                f"series {self.series}: times {self.time.shape} and truth {self.truth.shape} do not belong to "
                f"{self.history} steps of history and a forecast {self.samples.shape[1:]}"
            )
        if not self.baselines:
            raise LvjobsError(
                f"series {self.series}: a forecast is never shown without a baseline beside it, and none could be "
                "made; choose another series"
            )
        for name, values in self.baselines.items():
            if values.shape != (horizon, variables):
                raise LvjobsError(f"series {self.series}: {name} is {values.shape}, not {(horizon, variables)}")

    @property
    def forecast(self) -> Floats:
        """Return the greedy forecast, or the samples' median: (horizon, variables)."""
        return np.median(self.samples, axis=0)

    @property
    def quantiles(self) -> dict[float, Floats]:
        """Return level -> (horizon, variables); empty for a single forecast."""
        if len(self.samples) == 1:
            return {}
        return dict(zip(LEVELS, np.quantile(self.samples, LEVELS, axis=0), strict=True))

    def errors(self) -> dict[str, dict[str, float]]:
        """Return MAE and MSE over horizon and variables, of the forecast and each baseline; empty without a truth."""
        truth = self.truth[self.history :]
        if not len(truth):
            return {}
        off = {name: values - truth for name, values in {"forecast": self.forecast, **self.baselines}.items()}
        return {name: {"mae": float(np.abs(e).mean()), "mse": float((e**2).mean())} for name, e in off.items()}

    def to_csv(self) -> str:
        """Return a row for each variable and step, history first; numbers read back to the last bit."""
        columns = {"forecast": self.forecast}
        columns |= {f"q{100 * level:02.0f}": values for level, values in self.quantiles.items()}
        columns |= self.baselines
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["series", "variable", "step", "time", "part", "truth", *columns])
        for variable in range(self.samples.shape[2]):
            for step, time in enumerate(self.time):
                ahead = step - self.history
                truth = repr(float(self.truth[step, variable])) if step < len(self.truth) else ""
                made = [repr(float(values[ahead, variable])) if ahead >= 0 else "" for values in columns.values()]
                part = "horizon" if ahead >= 0 else "history"
                writer.writerow([self.series, variable, step, repr(float(time)), part, truth, *made])
        return stream.getvalue()

    def write_hdf5(self, path: Path) -> None:
        """Write `/time`, `/truth`, `/samples`, `/forecast`, `/quantiles/q05`..., `/baselines/NAME`, with attributes.

        A `/` in a name is written as `%2F`.
        """
        memory = io.BytesIO()
        with h5py.File(memory, "w") as file:
            file.attrs.update(
                series=self.series, history=self.history, evidence=json.dumps(dict(self.evidence), sort_keys=True)
            )
            whole = {"time": self.time, "truth": self.truth, "samples": self.samples, "forecast": self.forecast}
            whole |= {f"quantiles/q{100 * level:02.0f}": values for level, values in self.quantiles.items()}
            whole |= {f"baselines/{quote(name, safe=': @')}": values for name, values in self.baselines.items()}
            for name, values in whole.items():
                file.create_dataset(f"/{name}", data=values)
        write_atomic(path, memory.getvalue())
