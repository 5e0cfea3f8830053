"""What a run costs: FLOPs a unit of work by each convention, and how much work it is. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.conventions import BINDING, CONVENTIONS
from lvjobs.flops.workload import Workload
from lvjobs.ledger.records import Run, Work
from lvjobs.study.config import TRAIN_TASK
from lvjobs.study.run import RunConfig
from lvjobs.study.training import TrainingConfig


def rates_of(config: RunConfig) -> dict[str, dict[str, int]]:
    """Convention -> kind of work -> FLOPs of one unit (see `Work`); empty for a task that declares no cost.

    Raises:
        UsageError: the model's shape is not known.
    """
    if config.task != TRAIN_TASK:
        return {}
    training = TrainingConfig.model_validate(config.params)
    step = Workload(
        shape=architecture_of(training.model),
        batch=training.batch_size,
        length=training.context_length,
        lora_rank=training.lora_rank,
        lora_targets=training.lora_targets,
        precision="nf4" if training.quantization == "nf4" else training.precision,
        prompt_tokens=training.history_steps * training.tokens_per_step,
        new_tokens=training.horizon_steps * training.tokens_per_step,
    )
    window = replace(step, batch=1, length=training.validation_window, inference=True)
    rates = {}
    for name in BINDING:
        counts, forward = CONVENTIONS[name](step), CONVENTIONS[name](window)
        rates[name] = {"training": counts.step, "validation": forward.forward, "generation": counts.generation}
    return rates


def work_ahead(config: Mapping[str, Any], step: int) -> Work:
    """What a run still does from `step` on (0: everything) if nothing goes wrong."""
    steps = int(config["steps"])
    return Work(max(0, steps - step), _validations(config, step, steps) * _windows(config))


def replay_of_an_interval(config: Mapping[str, Any], step: int) -> Work:
    """The most that one death can cost: the steps since the last checkpoint, and the validations among them."""
    every = min(int(config.get("checkpoint_every", config["steps"])), int(config["steps"]))
    validations = -(-every // int(config.get("validate_every", every))) + (step == 0)
    return Work(every, validations * _windows(config))


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
    return int(config["params"]["validation_limit"]) if config.get("task") == TRAIN_TASK else 0
