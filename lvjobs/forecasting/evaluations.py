"""Evaluations as runs: what is forecast, with what, under which name. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lvjobs.errors import UsageError
from lvjobs.study.evaluation import EVALUATE_TASK, EvaluationConfig, PromptName, SplitName
from lvjobs.study.identity import read_params
from lvjobs.study.run import RunConfig
from lvjobs.study.training import TRAIN_TASK, TrainingConfig


@dataclass(frozen=True)
class EvaluationRequest:
    """How forecasts are to be made: of how many held-out series (None: all), by which split, greedily or sampled.

    `batch` series go through the model at once; it changes nothing but time and memory. `likelihood`: whether the
    model is also asked how likely it holds what came.
    """

    series: int | None = None
    split: SplitName = "last200"
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch: int = 20
    likelihood: bool = False


def evaluation(
    training: TrainingConfig,
    trial: EvaluationRequest,
    systems: Sequence[int],
    adapter: str = "",
    prompt: PromptName = "raw",
) -> RunConfig:
    """The configuration of an evaluation: a batch of series is a step, and each leaves a checkpoint."""
    params = EvaluationConfig(
        training=training,
        adapter=adapter,
        prompt=prompt,
        split=trial.split,
        systems=list(systems),
        batch=trial.batch,
        temperature=trial.temperature,
        top_p=trial.top_p,
        samples=trial.samples,
        likelihood=trial.likelihood,
    )
    return RunConfig(
        task=EVALUATE_TASK,
        seed=trial.seed,
        steps=params.steps,
        checkpoint_every=1,
        validate_every=params.steps,
        keep_best=False,
        params=params.model_dump(mode="json"),
    )


def same_forecast(one: RunConfig, other: RunConfig) -> bool:
    """Whether two evaluations forecast a series that both have in the same way, to the last digit.

    What else they forecast, in which batches, and what the model was trained with changes nothing.
    """
    return _decisive(one) == _decisive(other)


_WRITING = (
    "model",
    "data_sha256",
    "precision",
    "quantization",
    "decimals",
    "scale_target",
    "scale_alpha",
    "scale_beta",
    "scaling",
    "history_steps",
    "horizon_steps",
    "head",
)
"""What of a training's configuration decides how series are read and written."""


def _decisive(config: RunConfig) -> list[object]:
    params = read_params(EvaluationConfig, config.params)
    training = params.training
    found = [params.adapter, params.prompt, *(getattr(training, key) for key in _WRITING)]
    if training.scaling == "global":
        found += [training.train_systems, training.validation_systems]
    if params.temperature:
        found += [config.seed, params.samples, params.temperature, params.top_p]
    return found


def training_of(name: str, config: RunConfig) -> TrainingConfig:
    """Return the settings of a training. `name` is what a message calls it.

    Raises:
        UsageError: it is no training of the bundled task.
    """
    if config.task != TRAIN_TASK:
        raise UsageError(f"{name} is no forecaster: name a run of the bundled training task")
    return read_params(TrainingConfig, config.params)


def adapter_of(final: Path) -> str:
    """Return where a run's adapter is, or will be. `final` is the directory that holds the run's result."""
    return str(final / "adapter")
