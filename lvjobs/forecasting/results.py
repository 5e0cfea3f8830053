"""The result of an evaluation: its forecasts, and their scores beside those of the baselines; written, and read back.

Everything that is read back is cut out of the data by the systems' own indices.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lvjobs.errors import LvjobsError
from lvjobs.forecasting import metrics
from lvjobs.forecasting.baselines import BASELINES, forecast_split
from lvjobs.forecasting.codec import Floats
from lvjobs.forecasting.data import Dataset, load_dataset, sha256
from lvjobs.forecasting.extra_files import ExtraForecasts
from lvjobs.forecasting.series_forecast import SeriesForecast
from lvjobs.forecasting.splits import Split, make_split, whole_split
from lvjobs.forecasting.windows import codec_of, shared_scale
from lvjobs.study.params import EvaluationConfig
from lvjobs.study.run import RunConfig, read_params

SCHEMA = 3
"""Schema 1 has no `by_system` in its scores, and schema 2 no `scaled`."""
FORECASTS, SCORES = "forecasts.h5", "scores.json"
RESULT = "result"
"""The directory of both files, in a checkpoint and in `final/`."""
_CODEC = ("decimals", "scale_target", "scale_alpha", "scale_beta", "scaling", "scale_power")
_COPY = "restore it from a copy"
_SAME = 1e-9
"""The relative difference allowed between a score that is computed again and the stored one."""


@dataclass(frozen=True)
class Forecasts:
    """Forecasts (samples, series, horizon, variables) of those `systems` of the file, in their order.

    `nll` is the negative log-likelihood of each step of the truths, nats, (series, horizon); None if not requested.
    """

    samples: Floats
    systems: list[int]
    nll: Floats | None = None

    def __add__(self, other: "Forecasts") -> "Forecasts":
        """Return these forecasts followed by the others."""
        nll = None if self.nll is None or other.nll is None else np.concatenate([self.nll, other.nll])
        return Forecasts(np.concatenate([self.samples, other.samples], axis=1), self.systems + other.systems, nll)


def write_forecasts(path: Path, forecasts: Forecasts) -> None:
    """Write the forecasts to an HDF5 file."""
    with h5py.File(path, "w") as file:
        file.create_dataset("/forecasts", data=forecasts.samples)
        file.create_dataset("/systems", data=np.asarray(forecasts.systems, dtype=np.int64))
        if forecasts.nll is not None:
            file.create_dataset("/nll", data=forecasts.nll)


def read_forecasts(path: Path) -> Forecasts:
    """Read what `write_forecasts` wrote.

    Raises:
        LvjobsError: the file holds something else.
    """
    try:
        with h5py.File(path, "r") as file:
            samples, systems = np.asarray(file["/forecasts"][()]), [int(system) for system in file["/systems"][()]]
            nll = np.asarray(file["/nll"][()]) if "/nll" in file else None
    except (OSError, KeyError) as error:
        raise LvjobsError(f"{path} holds no forecasts ({error}); restore it from a copy") from None
    return Forecasts(samples, systems, nll)


def split_of(config: EvaluationConfig, data: Dataset, seed: int) -> Split:
    """Return the split from which the series were drawn, with only these series to be scored.

    The default split of an evaluation is that of the training. If the series were chosen by hand ("asked"), the
    baselines learn from the systems that may train, without them.
    """
    training = config.training
    count = len(data.trajectories)
    if config.split == "random":
        steps = {"history": training.history_steps, "horizon": training.horizon_steps}
        whole = make_split(count, "random", seed=seed, **steps)
    else:
        whole = whole_split(count, training)
    train = whole.train
    if config.split == "asked":
        train = tuple(system for system in train if system not in set(config.systems))
    return replace(whole, train=train, test=tuple(config.systems))  # refuses to score systems in `train`


def examine(
    config: EvaluationConfig,
    data: Dataset,
    forecasts: Forecasts,
    seed: int,
    extras: Mapping[str, ExtraForecasts] | None = None,
) -> dict[str, Any]:
    """Return the scores of the forecasts of `config.systems`, in their order, fit for JSON.

    With several samples, the median is the forecast. A baseline that cannot be made of these data has a reason instead
    of scores.

    Raises:
        LvjobsError: the forecasts are not of these series.
    """
    if forecasts.systems != list(config.systems):
        raise LvjobsError("the forecasts are not of the series that are to be scored")
    samples, nll = forecasts.samples, forecasts.nll
    split = split_of(config, data, seed)
    truth = split.truths(data.trajectories)
    several = samples if len(samples) > 1 else None
    codec = codec_of(config.training)
    histories = split.histories(data.trajectories)
    scale = shared_scale(data, codec, config.training) or codec.fit(histories)
    plain = replace(codec, power=1.0)  # scaled errors are of the values, in whatever power they are written
    units = (shared_scale(data, plain, config.training) or plain.fit(histories)).unit * codec.target
    score = partial(metrics.score, units=units)
    own = {name: _baseline(name, split, data, partial(score, truth)) for name in BASELINES}
    extra = {name: each.scores(partial(score, truth)) for name, each in (extras or {}).items()}
    return {
        "schema": SCHEMA,
        "model": config.training.model,
        "adapter": config.adapter,
        "adapter_sha256": sha256_of_adapter(config.adapter),
        "data_sha256": config.training.data_sha256,
        "prompt": config.prompt,
        "split": split.name if config.split == "last200" else config.split,
        "systems": list(config.systems),
        "history": split.history,
        "horizon": split.horizon,
        "samples": len(samples),
        "valid": float(np.isfinite(samples).all(axis=(2, 3)).mean()),
        "scores": score(truth, np.median(samples, axis=0), several),
        # Nats per step, as text: of the rounded values, over the characters of a series.
        "nll": None if nll is None else {"overall": float(nll.mean()), "by_step": nll.mean(axis=0).tolist()},
        "baselines": {**own, **extra},
        # The score of a perfect model, because numbers are written with few decimals.
        "rounding": score(truth, codec.decode(codec.encode(truth, scale), scale)),
    }


def _baseline(name: str, split: Split, data: Dataset, score: Callable[[Floats], dict[str, Any]]) -> dict[str, Any]:
    try:
        return score(forecast_split(name, split, data.trajectories, data.time))
    except LvjobsError as error:
        return {"problem": str(error)}


def sha256_of_adapter(adapter: str) -> str:
    """Return the SHA-256 of the adapter's weights; empty if there is none."""
    weights = Path(adapter) / "adapter_model.safetensors"
    return sha256(weights) if adapter and weights.is_file() else ""


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
    file = final / RESULT / FORECASTS
    kept, made = json.loads(file.with_name(SCORES).read_text(encoding="utf-8")), read_forecasts(file)
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
        raise LvjobsError(f"{file} does not hold the forecasts of the series that were declared; {_COPY}")
    mae, scored = float(result.errors.mean()), float(kept["scores"]["overall"]["mae"])
    if abs(mae - scored) > _SAME * max(1.0, scored):
        raise LvjobsError(
            f"the forecasts in {file} have a MAE of {mae:.6g}, but their scores record {scored:.6g}: they do "
            f"not belong together, so no figure is drawn; {_COPY}"
        )
    return result


def load_series(
    final: Path, run: RunConfig, series: int, extras: tuple[Mapping[str, Floats], Mapping[str, str]] = ({}, {})
) -> SeriesForecast:
    """Load one series of that evaluation, beside the baselines' forecasts of it.

    `extras` are the kept forecasts of extra baselines, (systems, horizon, variables), and the problems of others.

    Raises:
        LvjobsError: as `load_result`; or it was not forecast, or no baseline could be made.
    """
    result = load_result(final, run)
    row = result.row_of(series)
    alone = run.model_copy(update={"params": {**run.params, "systems": [series]}})
    made, problems = baselines_of(alone)
    kept, lost = extras
    shown = {name: values[0] for name, values in made.items()} | {name: values[row] for name, values in kept.items()}
    found = result.of_series(series, shown)
    return replace(found, evidence={**found.evidence, "baseline_problems": {**problems, **lost}})


def baselines_of(run: RunConfig) -> tuple[dict[str, Floats], dict[str, str]]:
    """Return each built-in baseline's forecasts of the evaluation's systems, and problems.

    Forecasts are (systems, horizon, variables).

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
