"""How much work a run is: steps, windows and series, which its rates price. Pure."""

from collections.abc import Mapping
from typing import Any

from lvjobs.ledger.records import RunRecord, WorkCounts
from lvjobs.tasks.registry import task_of


def work_ahead(config: Mapping[str, Any], step: int) -> WorkCounts:
    """What a run still does from `step` on (0: everything) if nothing goes wrong."""
    steps = int(config["steps"])
    task, params = task_of(config), config.get("params", {})
    validation = _validations(config, step, steps) * task.windows(params)
    return WorkCounts(max(0, steps - step), validation, task.series(params, step, steps))


def replay_of_an_interval(config: Mapping[str, Any], step: int) -> WorkCounts:
    """The most that one death can cost: the steps since the last checkpoint, and what else was done in them."""
    every = min(int(config.get("checkpoint_every", config["steps"])), int(config["steps"]))
    validations = -(-every // int(config.get("validate_every", every))) + (step == 0)
    task, params = task_of(config), config.get("params", {})
    return WorkCounts(every, validations * task.windows(params), task.series(params, 0, every))


def allowance(run: RunRecord, executed: WorkCounts, step: int) -> WorkCounts:
    """All that a run may execute, from its beginning: what it has, what lies ahead from `step`, and one interval."""
    return executed + work_ahead(run.config, step) + replay_of_an_interval(run.config, step)


def _validations(config: Mapping[str, Any], after: int, until: int) -> int:
    """How often a run validates after step `after`: untrained, every so many steps, and at the end."""
    every = int(config.get("validate_every", until))
    regular = until // every - after // every
    return regular + (until % every != 0 and after < until) + (after == 0)
