"""A run that trains on from a completed run's checkpoint: its settings, and where it begins."""

from functools import partial

from lvjobs.api.evaluate import evaluation_to_come
from lvjobs.api.select import names_of
from lvjobs.api.settings import Overrides, check_task, pinned, settle
from lvjobs.api.submit import PreparedRuns, naming
from lvjobs.api.updates import READ_WAIT_SECONDS
from lvjobs.control.planning.ledger_view import read_ledger
from lvjobs.control.stages.continuation import find_parent, why_not_one, with_parent
from lvjobs.control.submission.declare import RunRequest
from lvjobs.errors import UsageError
from lvjobs.study.config import StudyContext, validated
from lvjobs.study.run import RunConfig
from lvjobs.study.run_names import find_name
from lvjobs.study.settings import OwnSettings, settings_model
from lvjobs.sweep.request import settings_of
from lvjobs.tasks.registry import BUNDLED, task_of

_SHOWN = 3
"""The runs that a message names."""


def prepare_continuation(
    study: StudyContext, given: Overrides, name: str | None, word: str, *, evaluate: bool = False
) -> PreparedRuns:
    """Prepare a run that trains on from a completed run's checkpoint, with its settings where none are given.

    Args:
        study: The study of both runs.
        given: The caller's overrides. `steps` counts the parent's steps, too.
        name: The name of the new run; None: made from its settings.
        word: The name of the run to continue, or a part of it that names no other.
        evaluate: Also evaluate the new run.

    Raises:
        UsageError: There is no such run, it cannot be continued, or a setting does not fit its checkpoint.
    """
    seen = read_ledger(study, READ_WAIT_SECONDS)
    if seen.problem:
        raise UsageError(seen.problem)
    known = {run.name: run for run in seen.runs}
    meant = names_of(study, [word])
    if len(meant) > 1:
        raise UsageError(f"{word!r} names {len(meant)} runs ({', '.join(meant[:_SHOWN])} ...); name one")
    run = known[find_name(meant[0], known, study.where)]
    before = run.configuration
    if task_of(before).is_evaluation:
        raise UsageError(f"{run.name} is an evaluation, which trains nothing; name the run that it evaluates")
    if evaluate and not task_of(before).can_be_evaluated:
        raise UsageError("a task of your own makes no forecasts that could be evaluated: leave evaluate out")
    if "steps" not in given.settings:
        raise UsageError(
            f"steps is not given, and {run.name} has {before.steps}: add --steps with more than that; it counts these, "
            "too"
        )
    declared = settings_of(before) | ({} if before.task in BUNDLED else {"task": before.task})
    if before.validate_every == before.checkpoint_every:
        declared["validate_every"] = None
    settings, resources, profile = settle(study, given, validated(settings_model(declared), declared, run.name))
    config = pinned(settings, study).run_config()
    is_own = isinstance(settings, OwnSettings)
    if is_own:
        check_task(study, config)
    parent = find_parent(study.layout, run)
    config = with_parent(config, parent, before)
    notes = [_continues(config, before)]
    named, evaluation = naming(name), partial(evaluation_to_come, study) if evaluate else None
    wanted = RunRequest(
        [config], [named(config)], "run" if is_own else "train", profile, resources, is_named=bool(name)
    )
    return PreparedRuns(study, wanted, named, evaluation, given, notes)


def _continues(config: RunConfig, before: RunConfig) -> str:
    """Return where a run continues another, and whether the two together are one training."""
    parent = config.parent
    assert parent is not None
    count = config.steps - parent.step
    new = (
        f"continues {parent.run} from step {parent.step} of {before.steps}: {count:,} step{'s' * (count > 1)} to train"
    )
    if why := why_not_one(config, before):
        return f"{new}; both together are not one run of {config.steps} steps, because {why}"
    return f"{new}; both together are the same as one run of {config.steps} steps"
