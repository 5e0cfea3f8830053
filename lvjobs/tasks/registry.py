"""The task of each run. Importing this module loads neither torch nor a user's module."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.forecasting.tasks import EvaluationTask, TrainingTask
from lvjobs.study.params import EVALUATE_TASK, TRAIN_TASK
from lvjobs.study.program.command import COMMAND_TASK
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Budget
from lvjobs.tasks.code_copies import ProgramFiles
from lvjobs.tasks.command import CommandTask
from lvjobs.tasks.function import FunctionTask
from lvjobs.tasks.protocol import Rates, Task

BUNDLED: Mapping[str, Task] = MappingProxyType(
    {TRAIN_TASK: TrainingTask(), EVALUATE_TASK: EvaluationTask(), COMMAND_TASK: CommandTask()}
)
"""The tasks that lvjobs knows by name, as run.json has it."""

_FUNCTION = FunctionTask()


def task_of(config: RunConfig | Mapping[str, Any]) -> Task:
    """Return the task of a configuration, or of one as run.json and the ledger have it."""
    name = config.task if isinstance(config, RunConfig) else config.get("task", "")
    return BUNDLED.get(name, _FUNCTION)


def rates_of(config: RunConfig) -> Rates:
    """Return the FLOPs of each unit of the run's work (see `Task.rates`).

    Raises:
        UsageError: the FLOPs cannot be determined.
    """
    return task_of(config).rates(config)


def learn(configs: Iterable[RunConfig]) -> None:
    """Determine the rates of all these configurations at once, for `rates_of` (see `Task.learn`).

    Raises:
        UsageError: see `rates_of`.
    """
    by_task: dict[Task, list[RunConfig]] = {}
    for config in configs:
        by_task.setdefault(task_of(config), []).append(config)
    for task, own in by_task.items():
        task.learn(own)


def check_costs(configs: Iterable[RunConfig], budget: Budget) -> None:
    """Refuse programs that no limit of the budget counts.

    Raises:
        UsageError: a program declares no FLOPs, and GPU-hours are not limited.
    """
    if budget.gpu_hours is None and any(config.task == COMMAND_TASK and not rates_of(config) for config in configs):
        raise UsageError(
            "the FLOPs of a step are unknown; nothing was submitted: add flops = 6e9 under [train] (or --flops 6e9), "
            "or limit its time: gpu_hours = 100 under [budget]"
        )


def program_files(config: RunConfig | Mapping[str, Any], root: Path) -> ProgramFiles | None:
    """Return what is copied of a run's program at submission (see `Task.program_files`)."""
    params = config.params if isinstance(config, RunConfig) else config.get("params", {})
    return task_of(config).program_files(params, root)


def placed(config: RunConfig, root: Path) -> RunConfig:
    """Return the run of the study in `root` for a study in another directory (see `Task.placed`)."""
    return config.model_copy(update={"params": dict(task_of(config).placed(config.params, root))})


def check_needs(configs: Iterable[RunConfig], root: Path, activate: str | None = None) -> None:
    """Refuse runs of the study in `root` that need something that does not exist yet (see `Task.needs`).

    Raises:
        UsageError: the message names what is missing, and the remedy.
    """
    distinct = {config.besides_seed: config for config in configs}.values()
    for need in {
        need: None for config in distinct for need in task_of(config).needs(config.params, root, activate or "")
    }:
        need.check()
