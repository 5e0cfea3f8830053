"""Forecast origins: an evaluation may see fewer or more steps than the training's `history_steps`.

A forecast origin is the number of steps that are observed before a forecast. Forecasts from several origins show
whether a result hangs on one place in the series (rolling-origin evaluation: Tashman, Int. J. Forecasting 16, 2000).
"""

from collections.abc import Iterable

from lvjobs.errors import UsageError
from lvjobs.study.params import EvaluationConfig, TrainingConfig
from lvjobs.study.run import RunConfig, read_params

_FEWEST = 13
"""The fewest steps that each baseline can use on two variables: a VAR of order 12 needs one more."""


def fewest_steps(horizon: int) -> int:
    """Return the fewest observed steps from which every baseline forecasts `horizon` steps of two variables."""
    return max(_FEWEST, horizon + 1)


def check_origins(origins: Iterable[int], training: TrainingConfig, steps: int) -> None:
    """Refuse origins from which no forecast can be made and scored. The training's own origin is always accepted.

    `steps` counts the time steps in the data file.

    Raises:
        UsageError: too few steps come before an origin for a baseline, or too few come after it for the horizon.
    """
    horizon = training.horizon_steps
    low, high = fewest_steps(horizon), steps - horizon
    for origin in origins:
        if origin != training.history_steps and not low <= origin <= high:
            why = (
                f"every baseline needs at least {low} observed steps to forecast {horizon}"
                if origin < low
                else f"the data have {steps} steps, and {horizon} are forecast"
            )
            raise UsageError(f"forecast origin {origin}: {why}; choose origins from {low} to {high}")


def training_at(config: RunConfig, origin: int) -> RunConfig:
    """Return the configuration of a training with so many steps of history."""
    changed = {"history_steps": origin}
    params = read_params(TrainingConfig, config.params).model_copy(update=changed)
    return config.model_copy(update={"params": params.model_dump(mode="json")})


def evaluation_at(config: RunConfig, origin: int) -> RunConfig:
    """Return the evaluation of the same model on the same systems, with forecasts from this origin."""
    params = read_params(EvaluationConfig, config.params)
    training = params.training.model_copy(update={"history_steps": origin})
    return config.model_copy(
        update={"params": params.model_copy(update={"training": training}).model_dump(mode="json")}
    )
