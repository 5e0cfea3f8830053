"""Training functions: how they are found, and `@lvjobs.task`, which lets lvjobs account for their FLOPs."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, overload

from lvjobs.study.run import RunConfig
from lvjobs.worker.interface import Run

ATTRIBUTE = "__lvjobs_task__"

Flops: TypeAlias = int | Mapping[str, int]
"""FLOPs of a step; or of a step and of a validation: `{"training": ..., "validation": ...}`."""

Function = TypeVar("Function", bound=Callable[[Run], object])


def function_of(config: RunConfig) -> Callable[[Run], object]:
    """Import and return the training function that `config.task` names. Raises what its module raises."""
    module, _, name = config.task.partition(":")
    function: Callable[[Run], object] = getattr(importlib.import_module(module), name)
    return function


@dataclass(frozen=True)
class TaskDeclaration:
    """The declaration of a task. If `flops` is None, they are counted in a first step."""

    flops: Flops | Callable[[RunConfig], Flops] | None = None

    def declared(self, config: RunConfig) -> Mapping[str, int] | None:
        """Return the declared FLOPs by kind of work, or None if they have to be counted.

        Raises:
            ValueError: the declared FLOPs are invalid.
        """
        found = self.flops(config) if callable(self.flops) else self.flops
        if found is None:
            return None
        by_kind = dict(found) if isinstance(found, Mapping) else {"training": found}
        for kind, count in by_kind.items():
            if kind not in ("training", "validation"):
                raise ValueError(f"FLOPs are declared of training and validation, and not of {kind!r}; leave it out")
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(f"{count!r} are no FLOPs: give a whole number, such as int(6e9)")
        if not by_kind.get("training"):
            raise ValueError("a step costs something: declare its FLOPs, or leave flops out to have them counted")
        return by_kind


@overload
def task(function: Function) -> Function: ...


@overload
def task(*, flops: Flops | Callable[[RunConfig], Flops] | None = None) -> Callable[[Function], Function]: ...


def task(
    function: Function | None = None, *, flops: Flops | Callable[[RunConfig], Flops] | None = None
) -> Function | Callable[[Function], Function]:
    """Mark a function of one `Run` as a task (docs/tasks.md); the function itself is unchanged.

    Args:
        function: The training function.
        flops: FLOPs of one step (forward and backward), or a mapping that has those of one validation too, or a
            function of the run's configuration that returns either. If left out, the first step is executed here,
            before anything is submitted, and its FLOPs are counted (torch's FlopCounterMode).
    """

    def mark(marked: Function) -> Function:
        setattr(marked, ATTRIBUTE, TaskDeclaration(flops))
        return marked

    return mark if function is None else mark(function)
