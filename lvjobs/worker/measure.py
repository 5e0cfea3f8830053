"""The FLOPs that tasks declare, or that their first step is found to cost, in a process of its own.

    python -m lvjobs.worker.measure ANSWER < CONFIGURATIONS

CONFIGURATIONS is a list of run configurations. ANSWER is a file, because a task may print anything; it gets a list with
the cost of each run. The cost is null for a function that is no `lvjobs.task`. Otherwise it has `flops` by kind of
work, and `of_run`: true if a function of the whole configuration gave the FLOPs, so that another seed or another number
of steps may cost something else.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

from lvjobs.study.run import RunConfig, canonical_json
from lvjobs.worker import determinism
from lvjobs.worker.interface import Resumed, Run, SilentRun
from lvjobs.worker.process_group import Alone
from lvjobs.worker.task import ATTRIBUTE, TaskDeclaration, function_of


class FirstStep(SilentRun):
    """A `Run` that ends after one step, and counts the FLOPs of that step and of a validation.

    Every step is due, so that a validation that comes with a checkpoint is counted too.
    """

    def __init__(self, config: RunConfig, directory: Path, counted: Callable[[], int]) -> None:
        every_step = config.model_copy(update={"checkpoint_every": 1, "validate_every": 1})
        super().__init__(every_step, directory, Alone())
        self.flops: dict[str, int] = {}
        self._counted = counted
        self._mark = 0

    def resume(self) -> Resumed | None:
        """Return None, and leave out of the count what was built until now."""
        self._lap()
        return None

    def log(self, step: int, **_metrics: SupportsFloat) -> None:  # noqa: ARG002 - the interface's
        """Keep the first step's FLOPs."""
        self.flops.setdefault("training", self._lap())

    def validated(self, step: int, **_metrics: SupportsFloat) -> None:  # noqa: ARG002 - the interface's
        """Keep the largest FLOPs of a validation."""
        self.flops["validation"] = max(self.flops.get("validation", 0), self._lap())

    def should_stop(self) -> bool:
        """Return whether the first step is over."""
        return "training" in self.flops

    def _lap(self) -> int:
        since, self._mark = self._mark, self._counted()
        return self._mark - since


def cost_of(config: RunConfig) -> Mapping[str, Any] | None:
    """Return `flops` by kind of work, and `of_run` (see the module); None for a function that is no task.

    Raises:
        ValueError: the declared FLOPs are invalid, or none were counted.
        Exception: whatever the task's module, or its first step, raises.
    """
    function = function_of(config)
    task: TaskDeclaration | None = getattr(function, ATTRIBUTE, None)
    if task is None:
        return None
    declared = task.declared(config)
    flops = _counted(function, config) if declared is None else declared
    return {"flops": flops, "of_run": callable(task.flops)}


def costs_of(configs: Sequence[RunConfig]) -> list[Mapping[str, Any] | None]:
    """Return the cost of each configuration, in their order. Runs with the same parameters are counted once.

    Raises:
        Exception: as `cost_of`.
    """
    known: dict[str, Mapping[str, Any] | None] = {}
    answers = []
    for config in configs:
        parameters = canonical_json({"task": config.task, "params": config.params})
        if parameters not in known or (known[parameters] or {}).get("of_run"):
            known[parameters] = cost_of(config)
        answers.append(known[parameters])
    return answers


def _counted(function: Callable[[Run], object], config: RunConfig) -> Mapping[str, int]:
    from torch.utils.flop_counter import FlopCounterMode

    determinism.make_deterministic(config.threads, config.seed)
    counting = FlopCounterMode(display=False, custom_mapping=_attention_on_cpu())
    with tempfile.TemporaryDirectory() as directory, counting as counter:
        run = FirstStep(config, Path(directory), counter.get_total_flops)
        function(run)
    if not run.flops.get("training"):
        raise ValueError(
            "its first step had no operation that torch can count: declare what it costs, @lvjobs.task(flops=...)"
        )
    return run.flops


def _attention_on_cpu() -> dict[Any, Any]:
    """Return counters for the one attention kernel that torch's own FLOP counter counts as 0."""
    import torch
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        return sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        return sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]

    name = "_scaled_dot_product_flash_attention_for_cpu"
    return {getattr(torch.ops.aten, name): forward, getattr(torch.ops.aten, f"{name}_backward"): backward}


def main() -> None:
    """Write the cost of each configuration on stdin, in their order, to the file that the first argument names."""
    configs = [RunConfig.model_validate(each) for each in json.load(sys.stdin)]
    Path(sys.argv[1]).write_text(json.dumps(costs_of(configs)), encoding="utf-8")


if __name__ == "__main__":
    main()
