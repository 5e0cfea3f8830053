"""The data from which a study's figures are drawn; and the runs' losses, read from their journals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs import remedies
from lvjobs.forecasting.results import Result
from lvjobs.records.curves import LOSSES, curves
from lvjobs.report.evaluated import Evaluated, largest_group
from lvjobs.study.layout import RunLayout
from lvjobs.study.params import TrainingConfig

_SMOOTHED = 20
"""The number of means that a run's training loss is drawn as, because single batches differ more than steps do."""


@dataclass(frozen=True)
class Losses:
    """A run's losses under one metric: step -> loss, in the order of steps.

    `validation` begins at step 0, with the untrained model's. `resumed` are the steps after which an attempt resumed
    the run; repeated steps are there once, as they were repeated. `in_nats`: the losses are the bundled training's, in
    nats per token; the loss of a user's own function may be anything.
    """

    run: str
    metric: str
    training: Mapping[int, float]
    validation: Mapping[int, float]
    resumed: tuple[int, ...] = ()
    in_nats: bool = True

    @property
    def best(self) -> int | None:
        """Return the step of the lowest validation loss, the first of equal ones; None without any."""
        return min(self.validation, key=lambda step: (self.validation[step], step), default=None)

    @property
    def smooth(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return steps and training losses as they are drawn."""
        width = max(1, len(self.training) // _SMOOTHED)
        steps, losses = np.array([*self.training], dtype=float), np.array([*self.training.values()], dtype=float)
        return smoothed(steps, width), smoothed(losses, width)


def read_losses(files: RunLayout, *, in_nats: bool = True) -> Losses | None:
    """Return the losses of the run in this directory; None if its journals hold no loss yet."""
    found = curves(path.read_bytes() for path in sorted(files.journals.glob("*.jsonl")))
    for metric in LOSSES:
        training, validation = (found.values[kind].get(metric, {}) for kind in ("step", "validation"))
        if training or validation:
            trained, validated = dict(sorted(training.items())), dict(sorted(validation.items()))
            return Losses(files.root.name, metric, trained, validated, tuple(found.resumed), in_nats)
    return None


def smoothed(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Return the means of `width` values each, in order; the last mean has the remaining values."""
    return np.array([values[start : start + width].mean() for start in range(0, len(values), width)])


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
