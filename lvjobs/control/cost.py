"""What a run's steps cost, fixed when it is declared."""

from dataclasses import dataclass

from lvjobs.flops import official
from lvjobs.flops.architecture import architecture_of
from lvjobs.study.config import TRAIN_TASK
from lvjobs.study.run import RunConfig
from lvjobs.study.training import TrainingConfig


@dataclass(frozen=True)
class StepCost:
    """FLOPs of one training step, and of one validation window."""

    step: int
    validation: int


def cost_of(config: RunConfig) -> StepCost:
    """The official cost of the bundled task; zero for a task that declares none.

    Raises:
        UsageError: the model's shape is not known.
    """
    if config.task != TRAIN_TASK:
        return StepCost(0, 0)
    training = TrainingConfig.model_validate(config.params)
    shape = architecture_of(training.model)
    rank, targets = training.lora_rank, training.lora_targets
    return StepCost(
        official.training_step(shape, training.batch_size, training.context_length, rank, targets),
        official.forward(shape, 1, training.validation_window, rank, targets),
    )
