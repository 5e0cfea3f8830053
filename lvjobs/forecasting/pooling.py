"""The parts of a k-fold split together: scores and forecasts of all their systems. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lvjobs.forecasting.codec import Floats
from lvjobs.forecasting.metrics import pool
from lvjobs.forecasting.results import Result

OF_ALL = ("schema", "model", "data_sha256", "prompt", "split", "history", "horizon", "samples")
"""The entries of a result that are equal for all parts."""


def pooled(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the results of several parts (docs/evaluate.md) as one: each system counts the same."""
    counts = [len(part["systems"]) for part in parts]
    return {
        **{key: parts[0][key] for key in OF_ALL},
        "systems": [system for part in parts for system in part["systems"]],
        "valid": float(np.average([part["valid"] for part in parts], weights=counts)),
        "scores": pool([part["scores"] for part in parts]),
        "baselines": {
            name: _baseline([part["baselines"][name] for part in parts])
            for name in parts[0]["baselines"]
            if all(name in part["baselines"] for part in parts)
        },
        "rounding": pool([part["rounding"] for part in parts]),
    }


def _baseline(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the scores of a baseline, or why it could not be made of one of the folds."""
    weights = {part.get("made_by", {}).get("weights_sha256") for part in parts}
    problem = next((part["problem"] for part in parts if "problem" in part), "")
    if not problem and len(weights) > 1:
        problem = "it has other weights in other folds"
    return {"problem": problem} if problem else pool(parts)


def joined(results: Sequence[Result]) -> Result:
    """Return the results of several folds as one, in the order of their systems in the pooled scores."""
    if len(results) == 1:
        return results[0]
    first = results[0]
    return replace(
        first,
        systems=tuple(system for each in results for system in each.systems),
        values=np.concatenate([each.values for each in results]),
        samples=np.concatenate([each.samples for each in results], axis=1),
    )


def joined_baselines(made: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
    """Return the forecasts of the baselines that could be made of every fold, in the same order."""
    return {
        name: np.concatenate([each[name] for each in made]) for name in made[0] if all(name in each for each in made)
    }
