"""Extra baselines of evaluations that forecast the same series: scored in one of them, shown beside all. Pure.

An extra baseline forecasts from the histories alone. So its forecasts are those of every evaluation of the same series
from the same origin, whatever model and prompt it has, and no table depends on which evaluation was asked for it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.extra_files import BASELINES_FILE, read_extra
from lvjobs.forecasting.pooling import joined_baselines
from lvjobs.forecasting.results import RESULT
from lvjobs.report.evaluated import Evaluated

_SERIES = ("data_sha256", "systems", "history", "horizon")
_SHOWN = 8
"""The digits of a model's SHA-256 in a name that several models have."""


def with_extras_shared(evaluations: Iterable[Evaluated]) -> list[Evaluated]:
    """Return the evaluations, each with the scores of the extra baselines of all that forecast the same series.

    Models with one name and other weights are told apart by the SHA-256 of their weights.
    """
    every = list(evaluations)
    made: dict[str, dict[str, dict[str, Evaluated]]] = defaultdict(lambda: defaultdict(dict))
    for each in every:
        for name, scores in each.scores["baselines"].items():
            if "made_by" in scores:
                sources = made[_series_of(each)][name]
                weights = scores["made_by"].get("weights_sha256", "")
                if weights not in sources or "problem" in sources[weights].scores["baselines"][name]:
                    sources[weights] = each
    return [_with(each, made[_series_of(each)]) if _series_of(each) in made else each for each in every]


def _series_of(each: Evaluated) -> str:
    return json.dumps([each.scores[key] for key in _SERIES])


def _with(each: Evaluated, made: Mapping[str, Mapping[str, Evaluated]]) -> Evaluated:
    own: dict[str, Any] = {name: found for name, found in each.scores["baselines"].items() if "made_by" not in found}
    sources = {}
    for name in sorted(made):
        for weights, source in made[name].items():
            shown = f"{name} @ {weights[:_SHOWN]}" if len(made[name]) > 1 else name
            own[shown] = source.scores["baselines"][name]
            sources[shown] = (source, name)
    return replace(each, scores={**each.scores, "baselines": own}, extras=sources)


def read_kept(each: Evaluated) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the kept forecasts of an evaluation's extra baselines, in the order of its series, and problems.

    Of pooled folds, those that every fold has. A baseline whose file is missing or damaged has a problem alone.
    """
    parts, problems = [], {}
    for part in each.alone:
        found = {}
        for shown, (source, name) in part.extras.items():
            scores = source.scores["baselines"][name]
            if "problem" in scores:
                problems[shown] = scores["problem"]
                continue
            try:
                path = source.files.final / RESULT / BASELINES_FILE
                found[shown] = read_extra(path, name, scores["forecasts_sha256"])
            except LvjobsError as error:
                problems[shown] = str(error)
        parts.append(found)
    return joined_baselines(parts), problems
