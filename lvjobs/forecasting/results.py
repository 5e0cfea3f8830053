"""A finished evaluation read back: forecasts beside truth, history and baselines, by the systems' own indices."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.baselines import BASELINES, forecast_split
from lvjobs.forecasting.codec import Floats
from lvjobs.forecasting.data import Dataset, load_dataset, sha256
from lvjobs.forecasting.examine import read_forecasts, split_of
from lvjobs.forecasting.series_forecast import SeriesForecast
from lvjobs.study.params import EvaluationConfig
from lvjobs.study.run import RunConfig, read_params

FORECASTS, SCORES = "result/forecasts.h5", "result/scores.json"
_CODEC = ("decimals", "scale_target", "scale_alpha", "scale_beta", "scaling")
_COPY = "restore it from a copy"
_SAME = 1e-9
"""The relative difference allowed between a score that is computed again and the stored one."""


@dataclass(frozen=True)
class Result:
    """The forecasts of an evaluation's model for these systems, and the truth.

    Attributes:
        systems: Their indices in the file; all arrays are in this order.
        time: (history + horizon,).
        values: (systems, history + horizon, variables), as observed.
        history: The number of steps that the model saw.
        samples: (samples, systems, horizon, variables).
        evidence: The model, data and settings that it came from; fit for JSON.
    """

    systems: tuple[int, ...]
    time: Floats
    values: Floats
    history: int
    samples: Floats
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def truth(self) -> Floats:
        """Return the truth, (systems, horizon, variables)."""
        return self.values[:, self.history :]

    @property
    def errors(self) -> Floats:
        """Return the absolute error of each value, (systems, horizon, variables)."""
        return self.errors_of(np.median(self.samples, axis=0))

    def errors_of(self, forecasts: Floats) -> Floats:
        """Return the absolute errors of other forecasts of these systems, such as a baseline's."""
        return np.abs(forecasts - self.truth)

    def row_of(self, series: int) -> int:
        """Return a series' row in the arrays. Raises LvjobsError if it was not forecast."""
        if series not in self.systems:
            raise LvjobsError(f"series {series} was not forecast here")
        return self.systems.index(series)

    def of_series(self, series: int, baselines: Mapping[str, Floats]) -> SeriesForecast:
        """Return one system's forecast, by its index in the file; `baselines` are its own, (horizon, variables) each.

        Raises:
            LvjobsError: it was not forecast.
        """
        row = self.row_of(series)
        return SeriesForecast(
            series, self.time, self.values[row], self.history, self.samples[:, row], baselines, self.evidence
        )


def load_result(final: Path, run: RunConfig) -> Result:
    """Load the result of the evaluation that was declared as `run`, from `final`.

    Raises:
        LvjobsError: the data are no longer those that were forecast; or forecasts and scores do not belong together.
    """
    config = read_params(EvaluationConfig, run.params)
    kept, made = json.loads((final / SCORES).read_text(encoding="utf-8")), read_forecasts(final / FORECASTS)
    data = _data_of(config)
    steps = config.training.history_steps + config.training.horizon_steps
    values = data.trajectories[list(made.systems), :steps].astype(np.float64)
    evidence = {
        **{name: kept[name] for name in ("model", "adapter", "adapter_sha256", "data_sha256", "prompt", "samples")},
        "data": config.training.data,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "seed": run.seed,
        "codec": {key: getattr(config.training, key) for key in _CODEC},
    }
    result = Result(
        tuple(made.systems), data.time[:steps], values, config.training.history_steps, made.samples, evidence
    )
    if result.systems != tuple(config.systems) or result.truth.shape != made.samples.shape[1:]:
        raise LvjobsError(f"{final / FORECASTS} does not hold the forecasts of the series that were declared; {_COPY}")
    mae, scored = float(result.errors.mean()), float(kept["scores"]["overall"]["mae"])
    if abs(mae - scored) > _SAME * max(1.0, scored):
        raise LvjobsError(
            f"the forecasts in {final / FORECASTS} have a MAE of {mae:.6g}, and their scores say {scored:.6g}: they do "
            f"not belong together, and nothing is drawn of them; {_COPY}"
        )
    return result


def load_series(final: Path, run: RunConfig, series: int) -> SeriesForecast:
    """Load one series of that evaluation, beside the baselines' forecasts of it.

    Raises:
        LvjobsError: as `load_result`; or it was not forecast, or no baseline could be made.
    """
    result = load_result(final, run)
    result.row_of(series)
    alone = run.model_copy(update={"params": {**run.params, "systems": [series]}})
    made, problems = baselines_of(alone)
    found = result.of_series(series, {name: values[0] for name, values in made.items()})
    return replace(found, evidence={**found.evidence, "baseline_problems": problems})


def baselines_of(run: RunConfig) -> tuple[dict[str, Floats], dict[str, str]]:
    """Return each baseline's forecasts of the evaluation's systems, (systems, horizon, variables), and problems.

    A baseline that cannot be made has its reason among the problems.

    Raises:
        LvjobsError: the data are no longer those that were forecast.
    """
    config = read_params(EvaluationConfig, run.params)
    data = _data_of(config)
    split = split_of(config, data, run.seed)
    made, problems = {}, {}
    for name in BASELINES:
        try:
            made[name] = forecast_split(name, split, data.trajectories, data.time)
        except LvjobsError as error:  # noqa: PERF203 - a few baselines, each in seconds
            problems[name] = str(error)
    return made, problems


def _data_of(config: EvaluationConfig) -> Dataset:
    path = Path(config.training.data)
    if config.training.data_sha256 and path.is_file() and sha256(path) != config.training.data_sha256:
        raise LvjobsError(f"{path} is no longer the file that was forecast; restore it")
    return load_dataset(path, steps=config.training.history_steps + config.training.horizon_steps)
