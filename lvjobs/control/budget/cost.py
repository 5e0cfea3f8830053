"""What a run costs: FLOPs a unit of work by each convention, and how much work it is. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from lvjobs.control.budget.instruction_tokens import instruction_tokens
from lvjobs.control.budget.task_cost import own_rates
from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.conventions import BINDING, CONVENTIONS
from lvjobs.flops.workload import Counts, Workload
from lvjobs.ledger.records import Run, Work
from lvjobs.study.evaluation import EVALUATE_TASK, EvaluationConfig, PromptName
from lvjobs.study.run import RunConfig
from lvjobs.study.training import NUMERIC_HEAD, TRAIN_TASK, TrainingConfig


def rates_of(config: RunConfig) -> dict[str, dict[str, int]]:
    """Convention -> kind of work -> FLOPs of one unit (see `Work`); empty for a task that declares no cost.

    Raises:
        UsageError: the model's shape is not known, or a task of one's own cannot be asked.
    """
    if config.task == TRAIN_TASK:
        training = TrainingConfig.model_validate(config.params)
        step = workload_of(training, training.lora_rank, training.format)
        return {name: _rates(name, step, steps=training.accumulate) for name in BINDING}
    if config.task == EVALUATE_TASK:
        evaluation = EvaluationConfig.model_validate(config.params)
        training = evaluation.training
        # A step of an evaluation is its batch's forecasts, and costs nothing beside them.
        step = workload_of(training, training.lora_rank if evaluation.adapter else 0, evaluation.prompt)
        step = replace(step, inference=True, samples=evaluation.samples)
        rates = {name: _rates(name, step, steps=0) for name in BINDING}
        if evaluation.likelihood:  # history and truth go through the model once more
            for rate in rates.values():
                rate["generation"] += rate["validation"]
        return rates
    return own_rates(config)


def workload_of(training: TrainingConfig, rank: int, prompt: PromptName) -> Workload:
    """Return a step of this training, and the forecast of one series.

    Args:
        training: The model, its settings and the lengths of history and horizon.
        rank: Of the adapters; 0: the base model, which learns nothing.
        prompt: What stands around the history of a forecast, and of a validation window.

    Raises:
        UsageError: the model's shape is not known, or its instruction cannot be counted.
    """
    return Workload(
        shape=architecture_of(training.model),
        batch=training.batch_size,
        length=training.context_length,
        lora_rank=rank,
        lora_targets=training.lora_targets,
        precision="nf4" if training.quantization == "nf4" else training.precision,
        gradient_checkpointing=training.gradient_checkpointing,
        numeric_head=NUMERIC_HEAD if training.head == "numeric" else None,
        prompt_tokens=training.history_steps * training.tokens_per_step + instruction_tokens(training, prompt),
        new_tokens=training.horizon_steps * training.tokens_per_step,
        inference=not rank,
    )


def _rates(name: str, step: Workload, *, steps: int) -> dict[str, int]:
    """Of a run whose step is `steps` times `step`."""
    counts = _count(name, step)
    # A validation window is a prompt and its answer, in one pass.
    window = _count(name, replace(step, batch=1, length=step.prompt_tokens + step.new_tokens, inference=True))
    return {
        "training": steps * counts.step,
        "validation": window.forward,
        "generation": counts.generation,
    }


@lru_cache(maxsize=1024)
def _count(name: str, step: Workload) -> Counts:
    """The cells of a sweep differ in a rate or a seed, and cost the same."""
    return CONVENTIONS[name].count(step)


def work_ahead(config: Mapping[str, Any], step: int) -> Work:
    """What a run still does from `step` on (0: everything) if nothing goes wrong."""
    steps = int(config["steps"])
    training = max(0, steps - step)
    return Work(training, _validations(config, step, steps) * _windows(config), _series(config, step, steps))


def replay_of_an_interval(config: Mapping[str, Any], step: int) -> Work:
    """The most that one death can cost: the steps since the last checkpoint, and what else was done in them."""
    every = min(int(config.get("checkpoint_every", config["steps"])), int(config["steps"]))
    validations = -(-every // int(config.get("validate_every", every))) + (step == 0)
    return Work(every, validations * _windows(config), _series(config, 0, every))


def allowance(run: Run, executed: Work, step: int) -> Work:
    """All that a run may execute, from its beginning: what it has, what lies ahead from `step`, and one interval."""
    return executed + work_ahead(run.config, step) + replay_of_an_interval(run.config, step)


def _validations(config: Mapping[str, Any], after: int, until: int) -> int:
    """How often a run validates after step `after`: untrained, every so many steps, and at the end."""
    every = int(config.get("validate_every", until))
    regular = until // every - after // every
    return regular + (until % every != 0 and after < until) + (after == 0)


def _windows(config: Mapping[str, Any]) -> int:
    """The most windows that one validation reads."""
    if config.get("task") == EVALUATE_TASK:
        return 0
    if config.get("task") != TRAIN_TASK:
        return 1  # of a task of one's own a validation costs what it costs, whatever it reads
    limit, held_out = int(config["params"]["validation_limit"]), config["params"].get("validation_systems")
    return min(limit, int(held_out)) if held_out else limit


def _series(config: Mapping[str, Any], after: int, until: int) -> int:
    """How many series an evaluation forecasts in the steps after `after`, up to and with `until`."""
    if config.get("task") != EVALUATE_TASK:
        return 0
    batch, series = int(config["params"]["batch"]), len(config["params"]["systems"])
    return max(0, min(series, until * batch) - after * batch)
