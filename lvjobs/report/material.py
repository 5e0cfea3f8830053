"""The data from which a study's figures are drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lvjobs import remedies
from lvjobs.forecasting.results import Result
from lvjobs.report.evaluated import Evaluated, largest_group
from lvjobs.report.losses import Losses
from lvjobs.study.params import TrainingConfig

Arrays = Mapping[str, NDArray[Any]]
_MODELS = 4
"""The number of models that are drawn beside the baselines, the best of each stage first: more lines are unreadable."""
NOTHING_EVALUATED = f"nothing was evaluated yet; type: {remedies.EVALUATE(runs='RUN')}"


@dataclass(frozen=True)
class Material:
    """The data from which a study's figures are drawn.

    Attributes:
        data: (time, trajectories (systems, steps, variables), history steps), or in words why there are none.
        losses: The runs' losses, stage by stage.
        evaluations: The finished ones.
        load: A function that returns the forecasts of one.
        baselines: A function that returns the baselines' forecasts of its series, each (systems, horizon, variables).
        train: [train] of study.toml, if it is known.
    """

    data: tuple[NDArray[Any], NDArray[Any], int] | str
    losses: Mapping[str, Sequence[Losses]]
    evaluations: Sequence[Evaluated]
    load: Callable[[Evaluated], Result]
    baselines: Callable[[Evaluated], Arrays]
    train: TrainingConfig | None = None


@dataclass(frozen=True)
class Point:
    """One run's figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def compared(evaluations: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the best run of each stage of the largest group, the best of all first, and the base model last."""
    best: dict[str, Evaluated] = {}
    ordered = sorted(largest_group(evaluations), key=lambda each: float(each.scores["scores"]["overall"]["mae"]))
    tuned = next((each for each in ordered if not each.is_zero_shot), None)
    for each in ordered:
        if each.is_zero_shot and tuned is not None and not each.is_base_of(tuned):
            continue  # zero-shot with another base model
        stage = "" if each.is_zero_shot else each.trained.stage if each.trained else each.subject
        best.setdefault(stage, each)
    zero_shot = [best.pop("")] if "" in best else []
    return [*list(best.values())[: _MODELS - len(zero_shot)], *zero_shot]


def overall(each: Evaluated, metric: str) -> dict[str, float]:
    """Return the metric of each baseline that could be made."""
    made = each.scores["baselines"].items()
    return {name: float(scores["overall"][metric]) for name, scores in made if "problem" not in scores}


def point(scores: Mapping[str, Any], metric: str) -> Point:
    """Return the metric of a model or baseline, with its interval."""
    return Point(scores["overall"][metric], **scores["intervals"][metric])
