"""Evaluations as runs: their configuration, and which of them are equal. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lvjobs.errors import UsageError
from lvjobs.study.params import EVALUATE_TASK, TRAIN_TASK, EvaluationConfig, PromptName, SplitName, TrainingConfig
from lvjobs.study.run import RunConfig, read_params


@dataclass(frozen=True)
class EvaluationRequest:
    """The settings of an evaluation: the number of held-out series (None: all), the split, greedy or sampled forecasts.

    `batch` series go through the model at once; it changes only time and memory. `likelihood`: whether the likelihood
    of the truth is computed as well. `baselines` are the extra ones, as `baselines.extras.canonical` returns them.
    """

    series: int | None = None
    split: SplitName = "last200"
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch: int = 20
    likelihood: bool = False
    baselines: tuple[str, ...] = ()


def evaluation(
    training: TrainingConfig,
    trial: EvaluationRequest,
    systems: Sequence[int],
    adapter: str = "",
    prompt: PromptName = "raw",
) -> RunConfig:
    """Return the configuration of an evaluation: a batch of series is a step, each with a checkpoint."""
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
        baselines=list(trial.baselines),
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


def with_baselines(config: RunConfig, names: Sequence[str]) -> RunConfig:
    """Return the evaluation with these extra baselines beside its forecasts."""
    known = read_params(EvaluationConfig, config.params).model_dump(mode="json")
    params = EvaluationConfig.model_validate({**known, "baselines": list(names)})
    changes = {"steps": params.steps, "validate_every": params.steps, "params": params.model_dump(mode="json")}
    return config.model_copy(update=changes)


def by_fold(training: TrainingConfig) -> list[tuple[str, TrainingConfig]]:
    """Return the evaluations that score each system once, each as an ending of its name and the settings it has.

    They are of a model that was trained on none of these systems: one for each fold of a k-fold split, else just one.
    """
    if training.split != "k-fold":
        return [("", training)]
    return [(f"-f{fold}", training.model_copy(update={"fold": fold})) for fold in range(training.folds)]


def scored_systems(training: TrainingConfig, systems: Sequence[int]) -> Sequence[int]:
    """Return as many systems as these, of those that the training's own split scores.

    They are these themselves for the default split, and for a plan without the data, of which their number counts.
    """
    if training.split == "last200" or not training.data_systems:
        return systems
    from lvjobs.forecasting.splits import whole_split

    return whole_split(training.data_systems, training).test[: len(systems)]


def same_forecast(one: RunConfig, other: RunConfig) -> bool:
    """Return whether two evaluations forecast the series that both have equally, to the last digit.

    Other series, the batch size, and training settings that do not affect forecasts make no difference.
    """
    return _decisive(one) == _decisive(other)


def covers(made: RunConfig, wanted: RunConfig) -> bool:
    """Return whether an evaluation has all forecasts and scores that another one would compute."""
    if not same_forecast(made, wanted):
        return False
    old, new = (read_params(EvaluationConfig, each.params) for each in (made, wanted))
    more = {*new.systems} - {*old.systems} or {*new.baselines} - {*old.baselines}
    return not more and old.likelihood >= new.likelihood


_WRITING = (
    "model",
    "data_sha256",
    "precision",
    "quantization",
    "decimals",
    "scale_target",
    "scale_alpha",
    "scale_beta",
    "scale_power",
    "scaling",
    "history_steps",
    "horizon_steps",
    "head",
)
"""The training settings that decide how series are read and written."""


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
    """Return the settings of a training. `name` stands for the run in a message.

    Raises:
        UsageError: it is no training of the bundled task.
    """
    if config.task != TRAIN_TASK:
        raise UsageError(f"{name} is not a forecasting run; name a run of the bundled training task")
    return read_params(TrainingConfig, config.params)


def adapter_of(final: Path) -> str:
    """Return the path of a run's adapter, whether or not it exists. `final` is the directory of the run's result."""
    return str(final / "adapter")
