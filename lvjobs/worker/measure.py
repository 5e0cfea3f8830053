"""What tasks say that they cost, or are found to cost in their first step; in a process of its own.

    python -m lvjobs.worker.measure ANSWER < CONFIGURATIONS

CONFIGURATIONS is a list of run configurations, ANSWER a file that gets a list of what each costs: null for a function
that is no `lvjobs.task`; else `flops` by kind of work, and `of_run`: whether a function of the whole configuration gave
them, so that another seed or another number of steps may cost something else. It is a file, because a task may print
what it likes.
"""

import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

from lvjobs.study.run import RunConfig, canonical_json
from lvjobs.worker import determinism
from lvjobs.worker.interface import Resumed, Run, State
from lvjobs.worker.task import ATTRIBUTE, TaskDeclaration
from lvjobs.worker.team import Alone


class FirstStep:
    """A `Run` that is over after one step, and counts what that and a validation cost.

    Every step is due: a validation that comes with a checkpoint comes here, too.
    """

    def __init__(self, config: RunConfig, directory: Path, counted: Callable[[], int]) -> None:
        self.config = config.model_copy(update={"checkpoint_every": 1, "validate_every": 1})
        self.directory = directory
        self.step = 0
        self.team = Alone()
        self.flops: dict[str, int] = {}
        self._counted = counted
        self._mark = 0

    def resume(self) -> Resumed | None:
        """There is nothing to go on from; what was built until now is no step."""
        self._lap()
        return None

    def log(self, step: int, **_metrics: SupportsFloat) -> None:  # noqa: ARG002 - the interface's
        """The first step's FLOPs."""
        self.flops.setdefault("training", self._lap())

    def validated(self, step: int, **_metrics: SupportsFloat) -> None:  # noqa: ARG002 - the interface's
        """A validation's FLOPs."""
        self.flops["validation"] = max(self.flops.get("validation", 0), self._lap())

    def generated(self, step: int, series: int, **_metrics: SupportsFloat) -> None:
        """Not of a task of one's own."""

    def due(self, step: int) -> bool:  # noqa: ARG002 - the interface's
        """Always."""
        return True

    def checkpoint(self, step: int, state: State, *, final: bool = False) -> Path:  # noqa: ARG002 - the interface's
        """Not written: nothing goes on from here."""
        return self.directory

    def should_stop(self) -> bool:
        """After the first step."""
        return "training" in self.flops

    def _lap(self) -> int:
        since, self._mark = self._mark, self._counted()
        return self._mark - since


def cost_of(config: RunConfig) -> Mapping[str, Any] | None:
    """Return `flops` by kind of work, and `of_run` (see above); None for a function that is no task.

    Raises:
        ValueError: what it declares are no FLOPs, or none are counted.
        Exception: whatever its module, or its first step, raises.
    """
    module, _, name = config.task.partition(":")
    function = getattr(importlib.import_module(module), name)
    task: TaskDeclaration | None = getattr(function, ATTRIBUTE, None)
    if task is None:
        return None
    declared = task.declared(config)
    flops = _counted(function, config) if declared is None else declared
    return {"flops": flops, "of_run": callable(task.flops)}


def costs_of(configs: Sequence[RunConfig]) -> list[Mapping[str, Any] | None]:
    """Return what each costs, in their order. A step is counted once for all runs of the same parameters.

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
    """What the one kernel for attention costs that torch's own counter takes for nothing."""
    import torch
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        return sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        return sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]

    name = "_scaled_dot_product_flash_attention_for_cpu"
    return {getattr(torch.ops.aten, name): forward, getattr(torch.ops.aten, f"{name}_backward"): backward}


def main() -> None:
    """Answer for each configuration, in their order."""
    configs = [RunConfig.model_validate(each) for each in json.load(sys.stdin)]
    Path(sys.argv[1]).write_text(json.dumps(costs_of(configs)), encoding="utf-8")


if __name__ == "__main__":
    main()
