"""The folds of a k-fold split, pooled: each system is scored once, by a run that never saw it. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lvjobs.forecasting.pooling import OF_ALL, pooled
from lvjobs.report.evaluated import OF_THE_BASE, Evaluated, settings_of
from lvjobs.study.params import SPLIT
from lvjobs.study.run import FOLD

_SPLIT = "k-fold"


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
    decoded = [each.scores[key] for key in OF_ALL] + [config.temperature, config.top_p]
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
    return [replace(parts[0], steps=steps, scores=pooled([each.scores for each in parts]), parts=parts), *rest]
