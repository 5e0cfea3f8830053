"""The data from which a study's figures are drawn; and the runs' losses, read from their journals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs import remedies
from lvjobs.forecasting.comparison import errors_of
from lvjobs.forecasting.results import Result
from lvjobs.records.curves import LOSSES, curves
from lvjobs.records.summary import StageStatus
from lvjobs.report.evaluated import Evaluated
from lvjobs.report.extras import read_kept
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
NOTHING_EVALUATED = f"nothing was evaluated yet; type: {remedies.EVALUATE(runs='RUN')}"


@dataclass(frozen=True)
class Material:
    """The data from which a study's figures are drawn.

    Attributes:
        data: (time, trajectories (systems, steps, variables), history steps), or in words why there are none.
        losses: The runs' losses, stage by stage.
        evaluations: The finished ones.
        load: A function that returns the forecasts of one.
        baselines: A function that returns the forecasts of its series by the built-in baselines, each (systems,
            horizon, variables).
        train: [train] of study.toml, if it is known.
        stages: The study's stages in their declared order, with their winners.
        extras: A function that returns the same of the extra baselines, and the problems of others.
    """

    data: tuple[NDArray[Any], NDArray[Any], int] | str
    losses: Mapping[str, Sequence[Losses]]
    evaluations: Sequence[Evaluated]
    load: Callable[[Evaluated], Result]
    baselines: Callable[[Evaluated], Arrays]
    train: TrainingConfig | None = None
    stages: Sequence[StageStatus] = ()
    extras: Callable[[Evaluated], tuple[Arrays, Mapping[str, str]]] = read_kept

    def errors(self, each: Evaluated) -> Mapping[str, Any]:
        """Return the `mae` and `mse` of each series, in the order of the evaluation's series.

        Raises:
            LvjobsError: an older evaluation did not keep them, and its forecasts cannot be read.
        """
        kept: Mapping[str, Any] | None = each.scores["scores"].get("by_system")
        if kept is None:
            result = self.load(each)
            return errors_of(np.median(result.samples, axis=0), result.truth)
        return kept

    def baseline_errors(self, each: Evaluated) -> dict[str, Mapping[str, Any]]:
        """Return the same of each baseline that could be made of the evaluation's series. Raises as `errors` does."""
        made = {name: scores for name, scores in each.scores["baselines"].items() if "problem" not in scores}
        kept = {name: scores["by_system"] for name, scores in made.items() if "by_system" in scores}
        if len(kept) < len(made):
            truth = self.load(each).truth
            return {name: errors_of(values, truth) for name, values in self.baselines(each).items()} | kept
        return kept


@dataclass(frozen=True)
class Point:
    """One run's figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def overall(each: Evaluated, metric: str) -> dict[str, float]:
    """Return the metric of each baseline that could be made."""
    made = each.scores["baselines"].items()
    return {name: float(scores["overall"][metric]) for name, scores in made if "problem" not in scores}


def point(scores: Mapping[str, Any], metric: str) -> Point:
    """Return the metric of a model or baseline, with its interval."""
    return Point(scores["overall"][metric], **scores["intervals"][metric])
