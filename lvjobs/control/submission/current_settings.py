"""The current settings of a run that the user resumes, or that is no longer held.

Runs that Slurm requeues, or that are submitted again after a failure, keep the settings of their last submission.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lvjobs.cluster.templates import located_profile
from lvjobs.control.backends import check_sbatch_options, renew_profile
from lvjobs.control.submission.declare import check_profile_resources, requested_of
from lvjobs.ledger.records import RunRecord
from lvjobs.study.config import StudyContext
from lvjobs.study.current import current, declared_settings, typed_over
from lvjobs.study.run import CARRIED, RunConfig
from lvjobs.study.tables import Resources
from lvjobs.tasks.registry import task_of

_CHANGED = ("profile", "profile_copy", "resources", "typed", "config", "declared")


def file_of(study: StudyContext, stage: str) -> dict[str, Any]:
    """Return the settings that study.toml now has for how runs of this stage are carried out (`study.current`)."""
    return declared_settings(study.config, located_profile(study.config.profile, study.root), stage)


def renewed(
    run: RunRecord, study: StudyContext, typed: Mapping[str, Any] | None = None, where: Sequence[str] = ()
) -> RunRecord:
    """Return the run with the settings of its next submission.

    Args:
        run: A run without a live job.
        study: Its study, with the current study.toml.
        typed: Settings of `lvjobs.study.current` that the user types now; they override all others.
        where: `StudyContext.where` for commands at the prompt, see `lvjobs.control.reconcile.run_commands.take_up`.

    Raises:
        UsageError: The settings do not fit the run, or one another.
    """
    file = file_of(study, run.stage)
    kept = {**run.typed, **typed_over(file, typed or {})}
    settings = {**current(file, kept), **(typed or {})}
    resources = Resources.model_validate({key: settings[key] for key in Resources.model_fields})
    profile = str(settings["profile"])
    check_profile_resources(profile, resources)
    check_sbatch_options(study, resources, profile)
    changes: dict[str, Any] = {}
    if not task_of(run.config).is_evaluation:  # evaluations do not use study.toml's interval
        changes = {key: settings[key] for key in CARRIED if settings[key] != run.config.get(key)}
    config = {**run.config, **changes}
    return replace(
        run,
        profile=profile,
        profile_copy=renew_profile(study.layout, replace(run, profile=profile), where),
        resources=requested_of(RunConfig.model_validate(config), resources, profile),
        typed=typed_over(file, settings),
        config=config,
        declared={**{key: run.config.get(key) for key in changes}, **run.declared},
    )


def changes_of(old: RunRecord, new: RunRecord) -> dict[str, Any]:
    """Return the columns of `new` that differ from those of `old`."""
    return {key: getattr(new, key) for key in _CHANGED if getattr(new, key) != getattr(old, key)}


def differences(old: RunRecord, new: RunRecord) -> str:
    """Return the settings that changed, as text: "memory_mb 1000 -> 2000"; empty if none did."""
    before, after = (
        {"profile": run.profile, **run.resources, **{key: run.config.get(key) for key in CARRIED}} for run in (old, new)
    )
    changed = []
    computed = {"time_limit_most", *(["time_limit_minutes"] if "time_limit" in after else [])}
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key) and key not in computed:
            was, now = (("unset" if values.get(key) is None else str(values[key])) for values in (before, after))
            changed.append(f"{key} {was} -> {now}")
    return ", ".join(changed)
