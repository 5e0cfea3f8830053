"""The options of `evaluate` and `forecast` that name a model and set how it is sampled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lvjobs.api.evaluate import make_trial
from lvjobs.errors import UsageError
from lvjobs.forecasting.evaluations import EvaluationRequest
from lvjobs.study.fields import as_int

F = TypeVar("F", bound=Callable[..., Any])


def subject_options(function: F) -> F:
    """Add --zero-shot and --adapter to a command."""
    for option in (
        click.option("--adapter", type=click.Path(path_type=Path), help="An adapter's directory, in PEFT's format."),
        click.option(
            "--zero-shot", type=click.Choice(["raw", "instruct"]), help="The base model as it is, with this prompt."
        ),
    ):
        function = option(function)
    return function


def sampling_options(function: F) -> F:
    """Add --samples, --temperature and --top-p to a command."""
    top_p = click.FloatRange(min=0, max=1, min_open=True)
    for option in (
        click.option(
            "--top-p",
            type=top_p,
            default=1.0,
            show_default=True,
            help="Draw from the likeliest digits that have so much probability together.",
        ),
        click.option(
            "--temperature", type=click.FloatRange(min=0), help="0 is greedy (default: 0, or 1 with several samples)."
        ),
        click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Forecasts a series."),
    ):
        function = option(function)
    return function


def trial_of(options: dict[str, Any], *more: str) -> EvaluationRequest:
    """Return the forecast settings from the sampling options and the fields `more`. Remove these from `options`.

    Raises:
        UsageError: Several samples at temperature 0 would all be the same; or the seed is no whole number.
    """
    own = {key: options.pop(key) for key in ("samples", "temperature", "top_p", *more)}
    try:
        seed = as_int(options["seed"] or 0)
    except ValueError as error:
        raise UsageError(f"--seed: {error}") from None
    return make_trial(**own, seed=seed)
