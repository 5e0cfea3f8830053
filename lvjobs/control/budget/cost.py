"""The work of a run: training steps, validation windows and generated series, which its rates price. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import AttemptRecord, RunRecord, WorkCounts
from lvjobs.study.parent import start_of
from lvjobs.tasks.registry import task_of


def work_ahead(config: Mapping[str, Any], step: int, stop_at: int = 0) -> WorkCounts:
    """Return the work that a run of this `config` does after `step` (0: all of it) if nothing fails.

    A run that continues another does none of the work before its parent's checkpoint. `stop_at` is the step at which it
    stops; 0: at its last one.
    """
    steps, step = stop_at or int(config["steps"]), max(step, start_of(config))
    task, params = task_of(config), config.get("params", {})
    count = _validations(config, step, steps)
    series = task.series(params, step, steps) + count * task.validation_series(params)
    return WorkCounts(max(0, steps - step), count * task.windows(params), series)


def replay_of_an_interval(config: Mapping[str, Any], step: int) -> WorkCounts:
    """Return the most work that one failure can cost: the steps of one checkpoint interval, and what is done in them.

    `step` is where the run begins: from step 0, the untrained validation is repeated too.
    """
    start, steps = start_of(config), int(config["steps"])
    step, every = max(step, start), min(int(config.get("checkpoint_every", steps)), max(0, steps - start))
    validations = -(-every // int(config.get("validate_every", every))) + (step == 0)
    task, params = task_of(config), config.get("params", {})
    series = task.series(params, 0, every) + validations * task.validation_series(params)
    return WorkCounts(every, validations * task.windows(params), series)


def allowance(run: RunRecord, executed: WorkCounts, step: int, gpu_seconds: int = 0) -> WorkCounts:
    """Return all work that a run may execute, from its beginning.

    It is the work `executed`, the work after `step`, and one checkpoint interval of replay. `gpu_seconds` are those
    that it needs for this (`GpuHours.ahead`). A run whose task declares no cost has no other work.
    """
    work = work_ahead(run.config, step, run.stop_at) + replay_of_an_interval(run.config, step)
    return executed + replace(work if run.rates else WorkCounts(), gpu_seconds=gpu_seconds)


def newest_checkpoints(attempts: Iterable[AttemptRecord]) -> Mapping[str, int]:
    """Return the step of each run's newest checkpoint, by run id; 0 for a run without attempts."""
    found = {run_id: max(each.checkpoint_step for each in own) for run_id, own in by_run(attempts).items()}
    return defaultdict(int, found)


def _validations(config: Mapping[str, Any], after: int, until: int) -> int:
    """Count the validations after step `after`: untrained (from step 0), at regular steps, and at the end."""
    if until <= after:
        return int(after == 0)
    every = int(config.get("validate_every", until))
    regular = until // every - after // every
    return regular + (until % every != 0 and after < until) + (after == 0)
