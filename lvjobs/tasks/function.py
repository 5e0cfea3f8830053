"""A user's own function as a task.

lvjobs asks the function itself for the cost of its step, in a separate process, and keeps the answer: once for the same
params, or for each run where the cost depends on the configuration. So the commands load neither the function nor
torch, and side effects of importing its module happen elsewhere.
"""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.flops.conventions import BINDING
from lvjobs.study.run import RunConfig, canonical_json
from lvjobs.tasks.ask_process import Unanswered, ask
from lvjobs.tasks.code_copies import state_of
from lvjobs.tasks.protocol import Rates, Task

_PATIENCE_SECONDS = 900.0
_known: dict[str, Mapping[str, Any] | None] = {}
"""The answers, by `_keys`, for as long as this process lives."""


class FunctionTask(Task):
    """A function of one `Run`, named by `package.module:function`, that lvjobs imports only in the worker."""

    def rates(self, config: RunConfig) -> Rates:
        self.learn([config])
        cost = next(_known[key] for key in _keys(config) if key in _known)
        if cost is None:
            return {}
        flops = cost["flops"]
        return {
            name: {"training": flops["training"], "validation": flops.get("validation", 0), "generation": 0}
            for name in BINDING
        }

    def learn(self, configs: Sequence[RunConfig]) -> None:
        asked = {}
        for config in configs:
            whole, parameters = _keys(config)
            if whole not in _known and parameters not in _known:
                asked[whole, parameters] = config
        if asked:
            for (whole, parameters), answer in zip(asked, _ask(list(asked.values())), strict=True):
                _known[whole if answer and answer["of_run"] else parameters] = answer


def _keys(config: RunConfig) -> tuple[str, str]:
    """Return keys of the whole configuration and of the task's parameters; both depend on the task's code."""
    code = state_of(config.task)
    parameters = {"task": config.task, "params": config.params}
    whole, parts = (
        hashlib.sha256(canonical_json([code, each]).encode()).hexdigest()
        for each in (config.model_dump(mode="json"), parameters)
    )
    return whole, parts


def _ask(configs: Sequence[RunConfig]) -> list[Mapping[str, Any] | None]:
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
        module, _, name = task.partition(":")
        if f"module '{module}' has no attribute '{name}'" in str(error):
            raise UsageError(
                f"{module} has no function {name}; nothing was submitted: correct the name in {task}"
            ) from None
        if "No module named" in str(error):
            raise UsageError(
                f"{task} cannot be imported ({error}); nothing was submitted: correct the name, or install the module"
            ) from None
        raise UsageError(
            f"{task} fails in its first step, which was tried here to count its FLOPs ({error}); nothing was "
            f"submitted: fix it, or declare the FLOPs of a step"
            ", @lvjobs.task(flops=...)"
        ) from None
    return answers
