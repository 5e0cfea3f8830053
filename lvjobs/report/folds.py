"""The folds of a k-fold split, pooled: each system is scored once, by a run that never saw it. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lvjobs.forecasting.codec import Floats
from lvjobs.forecasting.metrics import pool
from lvjobs.forecasting.results import Result
from lvjobs.report.evaluated import OF_THE_BASE, Evaluated, settings_of
from lvjobs.study.params import SPLIT
from lvjobs.study.run import FOLD

_SPLIT = "k-fold"
_OF_ALL = ("schema", "model", "data_sha256", "prompt", "split", "history", "horizon", "samples")
"""The entries of a result that are equal for all folds."""


def with_folds_pooled(evaluations: Iterable[Evaluated]) -> list[Evaluated]:
    """Return the evaluations, those that differ in the fold alone pooled into one; each stands where its first stood.

    Of several evaluations of one fold, such as of all its series and of some, the one with the most series is pooled.
    """
    found: dict[str, list[Evaluated]] = defaultdict(list)
    for number, each in enumerate(evaluations):
        found[_model_of(each) if _has_folds(each) else str(number)].append(each)
    return [each for same in found.values() for each in _pooled(same)]


def _has_folds(each: Evaluated) -> bool:
    return bool(each.scores["split"] == _SPLIT and (each.trained or each.is_zero_shot))


def _model_of(each: Evaluated) -> str:
    """Return a key that is equal for evaluations of runs that differ in the fold alone, decoded in the same way."""
    config = each.config
    decoded = [each.scores[key] for key in _OF_ALL] + [config.temperature, config.top_p]
    settings = {key: value for key, value in settings_of(each).items() if key != FOLD}
    if each.is_zero_shot:
        settings = {key: settings[key] for key in (*OF_THE_BASE, *SPLIT)}
    drawn = each.run.seed if config.temperature else None
    return json.dumps([decoded, settings, each.is_zero_shot, drawn], default=str)


def _pooled(same: Sequence[Evaluated]) -> list[Evaluated]:
    largest: dict[int, Evaluated] = {}
    for each in same:
        fold = each.config.training.fold
        if fold not in largest or len(each.scores["systems"]) > len(largest[fold].scores["systems"]):
            largest[fold] = each
    if len(largest) == 1:
        return list(same)
    parts = [largest[fold] for fold in sorted(largest)]
    rest = [each for each in same if not any(each is part for part in parts)]
    steps = max((each.steps for each in parts if each.steps is not None), default=None)
    return [replace(parts[0], steps=steps, scores=_scores([each.scores for each in parts]), parts=parts), *rest]


def _scores(parts: Sequence[Any]) -> dict[str, Any]:
    counts = [len(part["systems"]) for part in parts]
    return {
        **{key: parts[0][key] for key in _OF_ALL},
        "systems": [system for part in parts for system in part["systems"]],
        "valid": float(np.average([part["valid"] for part in parts], weights=counts)),
        "scores": pool([part["scores"] for part in parts]),
        "baselines": {name: _baseline([part["baselines"][name] for part in parts]) for name in parts[0]["baselines"]},
        "rounding": pool([part["rounding"] for part in parts]),
    }


def _baseline(parts: Sequence[Any]) -> dict[str, Any]:
    """Return the scores of a baseline, or why it could not be made of one of the folds."""
    return next(({"problem": part["problem"]} for part in parts if "problem" in part), None) or pool(parts)


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
