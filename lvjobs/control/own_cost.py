"""What a step of a task of one's own costs: asked of the task itself, once a configuration, in a process of its own.

So the commands load neither the task nor torch, and what its module does when it is imported is done elsewhere.
"""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from lvjobs.control.asking import Unanswered, ask
from lvjobs.errors import UsageError
from lvjobs.flops.conventions import BINDING
from lvjobs.study.run import RunConfig, canonical_json

_PATIENCE_SECONDS = 900.0
_known: dict[str, Mapping[str, int] | None] = {}
"""What was answered, by task and parameters: for as long as this process lives."""


def own_rates(config: RunConfig) -> dict[str, dict[str, int]]:
    """Convention -> kind of work -> FLOPs, the same by every convention; empty for a function that declares none.

    Raises:
        UsageError: it cannot be imported, or fails in its first step.
    """
    learn([config])
    cost = _known[_key(config)]
    if cost is None:
        return {}
    by_kind = {"training": cost["training"], "validation": cost.get("validation", 0), "generation": 0}
    return {name: dict(by_kind) for name in BINDING}


def learn(configs: Sequence[RunConfig]) -> None:
    """Ask what these cost, as far as it is not known, all at once.

    Raises:
        UsageError: see `own_rates`.
    """
    asked = {_key(config): config for config in configs if _key(config) not in _known}
    if asked:
        _known.update(zip(asked, _ask(list(asked.values())), strict=True))


def _key(config: RunConfig) -> str:
    parts = {"task": config.task, "params": config.params}
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def _ask(configs: Sequence[RunConfig]) -> list[Mapping[str, int] | None]:
    task = configs[0].task
    question = [config.model_dump(mode="json") for config in configs]
    try:
        answers: list[Any] = ask("lvjobs.worker.measure", question, _PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"{task}: its first step takes more than {_PATIENCE_SECONDS:.0f} s here; nothing was submitted: "
            "declare what a step costs, @lvjobs.task(flops=...)"
        ) from None
    except Unanswered as error:
        raise UsageError(
            f"{task} fails in its first step, which was tried here to count its FLOPs ({error}); nothing was "
            "submitted: mend it, or declare what a step costs, @lvjobs.task(flops=...)"
        ) from None
    return answers
