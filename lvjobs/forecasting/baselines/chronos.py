"""Chronos-Bolt and Chronos-2: pretrained models that forecast numbers, without training on the study's data.

(Ansari and others, Chronos, TMLR 2024; Ansari and others, Chronos-2, arXiv:2510.15821, 2025.)
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.chronos_models import CHRONOS_2, find_chronos
from lvjobs.forecasting.codec import Floats
from lvjobs.forecasting.hub import weight_files


def forecast_median(model: str, history: Floats, horizon: int) -> Floats:
    """Return the median forecast of one series: (horizon, V) from its history (T, V), original units.

    Chronos-2 forecasts all variables jointly, Chronos-Bolt each by itself.

    Raises:
        LvjobsError: the model is not on this machine, or its weights are not whole.
    """
    found = find_chronos(model)
    context = torch.tensor(history.T, dtype=torch.float32)
    inputs = [context] if found.pipeline == CHRONOS_2 else context
    quantiles, _ = _load(found.directory, found.pipeline).predict_quantiles(
        inputs, prediction_length=horizon, quantile_levels=[0.5]
    )
    made = quantiles[0] if found.pipeline == CHRONOS_2 else quantiles
    return np.asarray(made[:, :, 0].double().cpu().numpy().T)


@lru_cache(maxsize=1)
def _load(directory: Path, pipeline: str) -> Any:
    """Load a model in fp32, on the GPU if there is one. Nothing is downloaded.

    Raises:
        LvjobsError: weights are missing in its files, so that transformers would draw them at random.
    """
    from lvjobs.forecasting.models import offline_transformers

    offline_transformers()
    import chronos
    from chronos.chronos_bolt import ChronosBoltModelForForecasting

    kind: Any = chronos.Chronos2Model if pipeline == CHRONOS_2 else ChronosBoltModelForForecasting
    try:
        model = kind.from_pretrained(str(directory), local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LvjobsError(f"{directory} cannot be loaded ({reason}); fetch or copy it again") from error
    if lost := _lost(model, directory):
        raise LvjobsError(f"{directory} lacks weights ({', '.join(lost[:3])}); fetch or copy it again")
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    return getattr(chronos, pipeline)(model.to(device).eval())


def _lost(model: Any, directory: Path) -> list[str]:
    """Return the parameters that no file holds, by themselves or as one that they share their weights with.

    The models' classes declare some of them optional, so transformers reports none of these.
    """
    from safetensors import safe_open

    stored: set[str] = set()
    for name in weight_files(directory):
        with safe_open(directory / name, "pt") as file:
            stored |= set(file.keys())
    every = dict(model.named_parameters(remove_duplicate=False))
    held = {id(weights) for name, weights in every.items() if name in stored}
    return sorted(name for name, weights in every.items() if name not in stored and id(weights) not in held)
