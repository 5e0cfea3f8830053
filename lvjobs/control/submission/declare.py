"""Runs from settings: new runs with their names, identities and costs, and existing runs with the current settings.

A run that the user resumes, or that is no longer held, gets the current settings. A run that Slurm requeues, or that is
submitted again after a failure, keeps the settings of its last submission.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.templates import located_profile
from lvjobs.control.backends import check_sbatch_options, gpus_by_default, renew_profile
from lvjobs.errors import UsageError
from lvjobs.ledger.records import RunRecord, StageRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext, current_settings, declared_settings, typed_over
from lvjobs.study.fields import Mark, marked
from lvjobs.study.run import CARRIED, NAME, RunConfig, with_values
from lvjobs.study.tables import Resources
from lvjobs.study.words import RunState
from lvjobs.sweep.pruning import first_rung
from lvjobs.tasks.registry import learn, rates_of, task_of

EVALUATE = "evaluate"
"""The stage of evaluations."""

_RENEWED = ("profile", "profile_copy", "resources", "typed", "config", "declared")


@dataclass(frozen=True)
class RunRequest:
    """Runs that a command requests: configurations with their names, of one stage, for one profile.

    `after` has the ids of the runs that these come after, in the same order. `evaluations`, in the same order too, has
    configurations and names of runs of the stage `evaluate` that come after these. `sweep`: the runs are the stage's
    cells, and an existing run of the same configuration, of any name and stage, is used instead of a new one. `file`:
    the settings of `study.config` that study.toml had when the runs were requested; None: those that it has now.
    `is_named`: the user chose the names; otherwise an existing run of the same configuration is used, of any name.
    """

    configs: Sequence[RunConfig]
    names: Sequence[str]
    stage: str
    profile: str
    resources: Resources
    after: Sequence[str] = ()
    evaluations: Sequence[tuple[RunConfig, str]] = ()
    sweep: StageRecord | None = None
    file: Mapping[str, Any] | None = None
    is_named: bool = True
    profile_copy: str = ""
    """See `RunRecord`."""


class KnownRuns:
    """The existing runs, by what they compute."""

    def __init__(self, runs: Iterable[RunRecord]) -> None:
        """Index `runs`, oldest first: of several runs that compute the same, `find` returns the oldest."""
        self._exact: dict[str, RunRecord] = {}
        self._alike: dict[str, RunRecord] = {}
        for run in runs:
            declared, now = with_values(run.config, run.declared), run.configuration
            self._exact.setdefault(declared.fingerprint, run)
            for identity in (*declared.identities, *now.identities):
                self._alike.setdefault(identity, run)

    def find(self, config: RunConfig) -> RunRecord | None:
        """Return the run declared with this configuration, or else one that computes the same; None for none."""
        if not self._exact:  # an identity takes as long as all else that a new run needs
            return None
        return self._exact.get(config.fingerprint) or self._alike.get(config.identity)


@dataclass(frozen=True)
class Declaration:
    """The runs of a request: `new` ones, and `existing` ones of the same configuration.

    `ids` are the ids of the requested configurations' runs, in their order.
    """

    new: Sequence[RunRecord]
    existing: Sequence[RunRecord]
    ids: Sequence[str] = ()


def declare(transaction: Transaction, wanted: RunRequest) -> Declaration:
    """Return the runs of a request; an existing run of the same name and configuration is used again.

    New runs have no code snapshot yet.

    Raises:
        UsageError: A name belongs to a run of another configuration, or is not valid.
    """
    new: list[tuple[str, RunConfig, str, str, str]] = []
    existing: list[RunRecord] = []
    there = transaction.runs()
    by_name = {run.name: run for run in there}
    known = KnownRuns(there)

    def add(config: RunConfig, name: str, stage: str, after: str) -> str:
        found = other = by_name.get(name)
        if found is None or not is_run_of(found, config):
            found = known.find(config) if wanted.sweep is not None or not wanted.is_named else None
        if found is not None:
            existing.append(found)
            return found.id
        if other is not None:
            raise UsageError(_refusal(other, config))
        if not NAME.match(name):
            raise UsageError(
                f"--name {name!r}: a run's name is 1 to 80 letters, digits, '.', '_', '+' or '-', "
                "and begins with a letter or digit; choose another"
            )
        run_id = hashlib.sha256(f"{name}\0{config.fingerprint}".encode()).hexdigest()[:8]
        new.append((run_id, config, name, stage, after))
        return run_id

    after = wanted.after or [""] * len(wanted.configs)
    each = zip(wanted.configs, wanted.names, after, strict=True)
    first = [add(config, name, wanted.stage, awaited) for config, name, awaited in each]
    if wanted.evaluations:
        for run_id, (config, name) in zip(first, wanted.evaluations, strict=True):
            add(config, name, EVALUATE, run_id)
    return Declaration(_new_runs(wanted, new), existing, first)


def _refusal(other: RunRecord, config: RunConfig) -> str:
    """Return why a run cannot have the name of the run `other`, and what to type instead."""
    shorter = config.model_copy(update={"steps": other.steps})
    if other.state is RunState.COMPLETED and config.steps > other.steps and is_run_of(other, shorter):
        command = remedies.CONTINUE_RUN if task_of(config).can_be_evaluated else remedies.CONTINUE_TASK
        more = command(run=other.name, steps=config.steps)
        return f"run {other.name!r} is completed at step {other.steps}, and stays as it is; to train on from it: {more}"
    before, now = ({**each, **each.pop("params", {})} for each in (dict(other.config), config.model_dump(mode="json")))
    keys = [key for key in now if key in before and before[key] != now[key]]
    named = ", ".join(f"{key} {before[key]} -> {now[key]}" for key in keys[:_NAMED])
    more = f" ({named}{', ...' if len(keys) > _NAMED else ''})" if named else ""
    return f"run {other.name!r} already exists with other settings{more}; choose another --name"


_NAMED = 2
"""The settings that a refusal names."""


def _new_runs(wanted: RunRequest, new: Sequence[tuple[str, RunConfig, str, str, str]]) -> list[RunRecord]:
    """Return the records of new runs: from ids, configurations, names, stages, and the ids that they come after.

    Runs that differ only in their seed request the same resources, and cost the same.
    """
    gpus, shared = gpus_of(wanted.resources, wanted.profile), _shared(wanted.resources)
    alike = {config.besides_seed: config for _, config, *_ in new}
    resources = {key: shared | _team(config.model_dump(), gpus, wanted.resources) for key, config in alike.items()}
    typed = {key: _typed(config, wanted) for key, config in alike.items()}
    learn(alike.values())
    rates = {key: rates_of(config) for key, config in alike.items()}
    return [
        RunRecord(
            id=run_id,
            name=name,
            stage=stage,
            fingerprint=config.fingerprint,
            config=config.model_dump(mode="json"),
            profile=wanted.profile,
            profile_copy=wanted.profile_copy,
            resources=resources[config.besides_seed],
            code="",
            created=time.time(),
            rates=rates[config.besides_seed],
            typed=typed[config.besides_seed],
            after=after,
            stop_at=first_rung(wanted.sweep.stage, config.steps) if wanted.sweep and stage == wanted.stage else 0,
        )
        for run_id, config, name, stage, after in new
    ]


def is_run_of(run: RunRecord, config: RunConfig) -> bool:
    """Return whether the run computes what this configuration says."""
    return KnownRuns([run]).find(config) is not None


def _typed(config: RunConfig, wanted: RunRequest) -> dict[str, list[Any]]:
    """Return the settings that were typed over study.toml for this run; evaluations do not use its interval."""
    if wanted.file is None:
        return {}
    requested = {**wanted.resources.model_dump(), "profile": wanted.profile}
    if not task_of(config).is_evaluation:
        requested |= {key: getattr(config, key) for key in CARRIED}
    return typed_over(wanted.file, requested)


def gpus_of(resources: Resources, profile: str) -> int:
    """Return the GPUs that a job gets: the requested ones, or as many as its profile gives it."""
    return gpus_by_default(profile) if resources.gpus is None else resources.gpus


def _shared(resources: Resources) -> dict[str, Any]:
    """Return the resources that the jobs of all runs request, whatever they train. `_team` has the others."""
    shared = resources.model_dump(include={"max_parallel", "pack", "side_by_side", "activate"}, exclude_none=True)
    return resources.variables() | shared


def _team(config: Mapping[str, Any], gpus: int, resources: Resources) -> dict[str, Any]:
    """Return what the task requests for the ranks of the run's job (see `Task.launch`); nothing for `side_by_side`.

    `config` is as run.json has it. `gpus` is what `gpus_of` returns for the resources.

    Raises:
        UsageError: The training cannot use as many GPUs, processes or nodes, or packs conflict with them.
    """
    processes, nodes = resources.processes, resources.nodes or 1
    if resources.activate and not task_of(config).is_program:
        raise UsageError(
            f'activate = "{resources.activate}" is for programs; other tasks run in lvjobs\' own environment: leave '
            "activate out of [resources], and start lvjobs in that environment"
        )
    if nodes > 1 and (resources.pack or 1) > 1:
        raise UsageError(
            f"nodes = {nodes} and pack = {resources.pack}: a run on several nodes cannot share its job; leave one of "
            f"the two out"
        )
    if (resources.side_by_side or 1) > 1:
        if (processes or 1) > 1:
            raise UsageError(
                f"side_by_side = {resources.side_by_side} and processes = {processes}: runs side by side are trained "
                "by one process each, which share the job's GPUs; leave one of the two out"
            )
        return {}
    return task_of(config).launch(config.get("params", {}), gpus, processes, nodes)


def default_name(config: RunConfig, prefix: str = "", varied: Iterable[str] = ()) -> str:
    """Return the name of a run to which the user gave none (see `Task.default_name`)."""
    return task_of(config).default_name(config, prefix, varied)


def check_profile_resources(profile: str, resources: Resources) -> None:
    """Refuse resources that the local backend does not use: a partition or account there is a mistake.

    Raises:
        UsageError: A key that is declared with `Mark.OF_A_SITE` is given for the local profile.
    """
    wrong = [key for key in marked(Resources, Mark.OF_A_SITE) if getattr(resources, key) is not None]
    if backend_of(profile).is_site:
        return
    if (resources.nodes or 1) > 1:
        raise UsageError(f"nodes = {resources.nodes}: profile local has one node; name a Slurm profile with --profile")
    if wrong:
        raise UsageError(f"{wrong[0]} has no effect with profile local; name a Slurm profile with --profile")


# -- the current settings of existing runs ------------------------------------------------------------------------


def file_of(study: StudyContext, stage: str) -> dict[str, Any]:
    """Return the settings that study.toml now has for how runs of this stage are carried out (`study.config`)."""
    return declared_settings(study.config, located_profile(study.config.profile, study.root), stage)


def renewed(
    run: RunRecord, study: StudyContext, typed: Mapping[str, Any] | None = None, where: Sequence[str] = ()
) -> RunRecord:
    """Return the run with the settings of its next submission.

    Args:
        run: A run without a live job.
        study: Its study, with the current study.toml.
        typed: Settings of `lvjobs.study.config` that the user types now; they override all others.
        where: `StudyContext.where` for commands at the prompt, see `lvjobs.control.reconcile.run_commands.resume_runs`.

    Raises:
        UsageError: The settings do not fit the run, or one another.
    """
    file = file_of(study, run.stage)
    kept = {**run.typed, **typed_over(file, typed or {})}
    settings = {**current_settings(file, kept), **(typed or {})}
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
        resources=_shared(resources) | _team(config, gpus_of(resources, profile), resources),
        typed=typed_over(file, settings),
        config=config,
        declared={**{key: run.config.get(key) for key in changes}, **run.declared},
    )


def changes_of(old: RunRecord, new: RunRecord) -> dict[str, Any]:
    """Return the columns of `new` that differ from those of `old`."""
    return {key: getattr(new, key) for key in _RENEWED if getattr(new, key) != getattr(old, key)}


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
