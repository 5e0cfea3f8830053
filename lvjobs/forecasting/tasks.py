"""The bundled training and evaluation as tasks: the facts that commands need of them. Loads no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.conventions import BINDING, CONVENTIONS
from lvjobs.forecasting.costs import rates, workload_of
from lvjobs.forecasting.evaluations import (
    EvaluationRequest,
    adapter_of,
    by_fold,
    evaluation,
    scored_systems,
    with_baselines,
)
from lvjobs.forecasting.learning_rate import stable_until
from lvjobs.forecasting.needs import UsableBaseline, UsableModel
from lvjobs.forecasting.origins import evaluation_at, training_at
from lvjobs.study.params import LOSS_NAMES, EvaluationConfig, PromptName, TrainingConfig
from lvjobs.study.run import RunConfig, read_params
from lvjobs.tasks.protocol import Need, Params, Rates, Task, several

_LONGEST = 80
"""The most characters of a run's name."""

_BYTES_A_PARAMETER = 4 * 3
"""The bytes of a checkpoint per parameter: the adapter's weights and AdamW's two moments of each, in fp32."""

_SAME_PACE = (
    "model",
    "batch_size",
    "accumulate",
    "context_length",
    "lora_rank",
    "lora_targets",
    "precision",
    "quantization",
    "gradient_checkpointing",
    "compile",
    "validation_forecasts",
)
"""The settings that decide the time of a step, on the same cluster with as many threads."""

_MAY_CHANGE = frozenset({
    *("data", "data_systems", "context_length", "packing", "batch_size", "accumulate", "lora_dropout"),
    *("learning_rate", "weight_decay", "warmup_steps", "schedule", "decay_steps", "max_grad_norm"),
    *("early_stopping_patience", "early_stopping_delta", "gradient_checkpointing", "compile", "precision"),
    *("validation_limit", "validation_forecasts"),
})  # fmt: skip
"""The settings in which a run may differ from the one that it continues. The data's hash tells whether they changed."""


class TrainingTask(Task):
    """The fine-tuning of a causal language model on series (`forecasting.train`)."""

    can_be_evaluated = True
    reports_windows = True
    loss_is_in_nats = True

    def default_name(self, config: RunConfig, prefix: str = "", varied: Iterable[str] = ()) -> str:
        params: Params = config.params  # tiny-r4-lr1e-05-c512-s0-3fa9; varied settings are among these
        model = Path(str(params.get("model", "run"))).name or "run"
        parts = [
            prefix or model,
            f"r{params.get('lora_rank')}",
            f"lr{params.get('learning_rate'):g}",
            f"c{params.get('context_length')}",
            *([f"f{params.get('fold', 0)}"] if params.get("split") == "k-fold" else []),
            f"s{config.seed}",
            config.fingerprint[:4],
        ]
        return "-".join(parts)

    def loss_name(self, params: Params) -> str:
        return LOSS_NAMES[params.get("head", "full")]

    def windows(self, params: Params) -> int:
        limit, held_out = int(params["validation_limit"]), params.get("validation_systems")
        return min(limit, int(held_out)) if held_out else limit

    def validation_series(self, params: Params) -> int:
        limit, held_out = int(params.get("validation_forecasts", 0)), params.get("validation_systems")
        return min(limit, int(held_out)) if held_out else limit

    def rates(self, config: RunConfig) -> Rates:
        training = read_params(TrainingConfig, config.params)
        return rates(workload_of(training, training.lora_rank, training.format), training.accumulate)

    def parts_of_a_step(self, params: Params) -> dict[str, Any] | None:
        training = read_params(TrainingConfig, params)
        workload = workload_of(training, training.lora_rank, training.format)
        keys = ("model", "batch_size", "context_length", "lora_rank", "lora_targets", "accumulate")
        settings = {key: getattr(training, key) for key in keys}
        return {**settings, "parts": {name: asdict(CONVENTIONS[name].count(workload)) for name in BINDING}}

    def stable_until(self, params: Params, steps: int) -> int | None:
        return stable_until(params, steps)

    def check_continuation(self, parent: Params, params: Params) -> None:
        before, now = (_in_effect(read_params(TrainingConfig, each)) for each in (parent, params))
        hashes = before.pop("data_sha256"), now.pop("data_sha256")
        if all(hashes) and hashes[0] != hashes[1]:
            raise UsageError(
                f"data = {now['data']}: its content is not that of the data of the run to continue; leave data as it "
                "is, or train from the beginning"
            )
        if key := next((key for key in now if key not in _MAY_CHANGE and before[key] != now[key]), None):
            raise UsageError(
                f"{key} = {now[key]}, and the run to continue has {key} = {before[key]}: its checkpoint fits no other "
                f"value; leave {key} as it is, or train from the beginning"
            )

    def pace_settings(self, config: Mapping[str, Any]) -> list[Any]:
        params = config["params"]
        return [params.get(key, TrainingConfig.model_fields[key].default) for key in _SAME_PACE]

    def checkpoint_bytes(self, params: Params) -> int:
        return adapter_parameters(read_params(TrainingConfig, params)) * _BYTES_A_PARAMETER

    def launch(self, params: Params, gpus: int, processes: int | None, nodes: int = 1) -> dict[str, Any]:
        count = processes or max(1, gpus)
        _check_team(int(params["batch_size"]), gpus, count, nodes)
        return {**several("nodes", nodes), **several("processes", count)}

    def needs(self, params: Params, root: Path, activate: str = "") -> Sequence[Need]:
        training = read_params(TrainingConfig, params)
        return [UsableModel(training.model, training.decimals, training.format == "instruct")]

    def evaluation(self, name: str, params: Params, final: Path, systems: Sequence[int]) -> RunConfig:
        training = read_params(TrainingConfig, params)
        own = scored_systems(training, systems)
        return evaluation(training, EvaluationRequest(), own, adapter_of(final), training.format)

    def scored(self, params: Params, series: int) -> int:
        return len(scored_systems(read_params(TrainingConfig, params), range(series)))

    def untrained(
        self, params: Params, prompts: Sequence[PromptName], systems: Sequence[int]
    ) -> list[tuple[str, RunConfig]]:
        training = read_params(TrainingConfig, params)
        return [
            (
                f"zero-shot-{prompt}-{Path(of.model).name}{fold}",
                evaluation(of, EvaluationRequest(), scored_systems(of, systems), prompt=prompt),
            )
            for prompt in prompts
            for fold, of in by_fold(training)
        ]

    def origin(self, params: Params) -> int:
        return read_params(TrainingConfig, params).history_steps

    def at_origin(self, config: RunConfig, origin: int) -> RunConfig:
        return training_at(config, origin)


class EvaluationTask(Task):
    """Forecasts of held-out series, scored beside the baselines (`forecasting.evaluate`). A step is one batch.

    The batches of extra baselines come after those of the model, and cost no FLOPs.
    """

    is_evaluation = True

    def default_name(self, config: RunConfig, prefix: str = "", varied: Iterable[str] = ()) -> str:
        return f"eval-{prefix}"[: _LONGEST - 5] + f"-{config.fingerprint[:4]}"

    def windows(self, params: Params) -> int:
        return 0

    def series(self, params: Params, after: int, until: int) -> int:
        batch, series = int(params["batch"]), len(params["systems"])
        return max(0, min(series, until * batch) - after * batch)

    def rates(self, config: RunConfig) -> Rates:
        wanted = read_params(EvaluationConfig, config.params)
        training = wanted.training
        step = workload_of(training, training.lora_rank if wanted.adapter else 0, wanted.prompt)
        # A step consists of the forecasts of its batch and has no further cost.
        found = rates(replace(step, inference=True, samples=wanted.samples), 0)
        if wanted.likelihood:  # history and truth go through the model once more
            for rate in found.values():
                rate["generation"] += rate["validation"]
        return found

    def launch(self, params: Params, gpus: int, processes: int | None, nodes: int = 1) -> dict[str, Any]:
        return {"gpus": 1} if gpus > 1 else {}

    def needs(self, params: Params, root: Path, activate: str = "") -> Sequence[Need]:
        wanted = read_params(EvaluationConfig, params)
        model = UsableModel(wanted.training.model, wanted.training.decimals, wanted.prompt == "instruct")
        return [model, *map(UsableBaseline, wanted.baselines)]

    def origin(self, params: Params) -> int:
        return read_params(EvaluationConfig, params).training.history_steps

    def at_origin(self, config: RunConfig, origin: int) -> RunConfig:
        return evaluation_at(config, origin)

    def with_baselines(self, config: RunConfig, names: Sequence[str]) -> RunConfig:
        return with_baselines(config, names)


def _in_effect(training: TrainingConfig) -> dict[str, Any]:
    """Return the settings, with the adapter's scale as it is where it was left out."""
    values = training.model_dump()
    return {**values, "lora_alpha": values["lora_alpha"] or float(training.lora_rank)}


def adapter_parameters(training: TrainingConfig) -> int:
    """Return the number of weights of the adapter, from the model's true widths, with its narrower keys and values.

    Raises:
        UsageError: the model's shape is not known.
    """
    shape = architecture_of(training.model)
    per_rank = sum(sum(shape.widths(linear)) for linear in shape.layout.adapted(training.lora_targets))
    return shape.layers * training.lora_rank * per_rank


def _check_team(batch_size: int, gpus: int, processes: int, nodes: int) -> None:
    if gpus > 1 and gpus != processes:
        raise UsageError(
            f"gpus = {gpus} and processes = {processes}: each process trains on one GPU, so request as many, or leave "
            f"processes out"
        )
    if batch_size % (processes * nodes):
        word = "gpus" if gpus > 1 else "processes"
        where = f" on each of {nodes} nodes" if nodes > 1 else ""
        raise UsageError(
            f"{word} = {processes}{where}, and batch_size = {batch_size} does not divide among them, a share for each: "
            f"set batch_size to a multiple of {processes * nodes}, or request fewer {word}"
        )
