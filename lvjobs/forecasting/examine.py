"""The result of an evaluation: its forecasts, and their scores beside those of the baselines on the same series."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.baselines import BASELINES, forecast_split
from lvjobs.forecasting.codec import Floats
from lvjobs.forecasting.data import Dataset
from lvjobs.forecasting.metrics import score
from lvjobs.forecasting.splits import Split, make_split
from lvjobs.forecasting.windows import codec_of, shared_scale
from lvjobs.study.params import EvaluationConfig

SCHEMA = 1


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

    If the series were chosen by hand ("asked"), the baselines learn from the first four fifths without them.
    """
    training = config.training
    whole = make_split(
        len(data.trajectories),
        "last200" if config.split == "asked" else config.split,
        seed=seed,
        history=training.history_steps,
        horizon=training.horizon_steps,
    )
    train = whole.train
    if config.split == "asked":
        train = tuple(system for system in train if system not in set(config.systems))
    return replace(whole, train=train, test=tuple(config.systems))  # refuses to score systems in `train`


def examine(config: EvaluationConfig, data: Dataset, forecasts: Forecasts, seed: int) -> dict[str, Any]:
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
    scale = shared_scale(data, codec, config.training) or codec.fit(split.histories(data.trajectories))
    return {
        "schema": SCHEMA,
        "model": config.training.model,
        "adapter": config.adapter,
        "adapter_sha256": sha256_of_adapter(config.adapter),
        "data_sha256": config.training.data_sha256,
        "prompt": config.prompt,
        "split": config.split,
        "systems": list(config.systems),
        "history": split.history,
        "horizon": split.horizon,
        "samples": len(samples),
        "valid": float(np.isfinite(samples).all(axis=(2, 3)).mean()),
        "scores": score(truth, np.median(samples, axis=0), several).to_dict(),
        # Nats per step, as text: of the rounded values, over the characters of a series.
        "nll": None if nll is None else {"overall": float(nll.mean()), "by_step": nll.mean(axis=0).tolist()},
        "baselines": {name: _baseline(name, split, data, truth) for name in BASELINES},
        # The score of a perfect model, because numbers are written with few decimals.
        "rounding": score(truth, codec.decode(codec.encode(truth, scale), scale)).to_dict(),
    }


def _baseline(name: str, split: Split, data: Dataset, truth: Floats) -> dict[str, Any]:
    try:
        return score(truth, forecast_split(name, split, data.trajectories, data.time)).to_dict()
    except LvjobsError as error:
        return {"problem": str(error)}


def sha256_of_adapter(adapter: str) -> str:
    """Return the SHA-256 of the adapter's weights; empty if there is none."""
    weights = Path(adapter) / "adapter_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest() if adapter and weights.is_file() else ""
