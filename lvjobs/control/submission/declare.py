"""From settings to runs: names, identities, costs. Nothing is written here."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lvjobs.cluster.backends import LOCAL
from lvjobs.control.backends import gpus_by_default
from lvjobs.errors import UsageError
from lvjobs.ledger.records import RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.current import typed_over
from lvjobs.study.run import CARRIED, NAME, RunConfig, with_values
from lvjobs.study.tables import Resources
from lvjobs.tasks.registry import learn, rates_of, task_of

EVALUATE = "evaluate"
"""The stage of evaluations."""


@dataclass(frozen=True)
class SweepOf:
    """A stage as it was asked for: the ledger's `definition` and `request` of it."""

    definition: Mapping[str, Any]
    request: Mapping[str, Any]


@dataclass(frozen=True)
class RunRequest:
    """Runs that a command asks for: configurations with their names, of one stage, for one profile.

    `after` are the ids of the runs that these come after, in the same order; `evaluations`, also in that order, are
    configurations and names of runs of the stage `evaluate` that come after these. `sweep`: they are the stage's cells,
    and a run of the same configuration, whatever its name and stage, is one of them and not trained again. `file`: the
    settings of `study.current` that study.toml had when these were requested; None: the ones that it has now.
    `is_named`: the user chose the names; else a run of the same configuration is found by whatever name.
    """

    configs: Sequence[RunConfig]
    names: Sequence[str]
    stage: str
    profile: str
    resources: Resources
    after: Sequence[str] = ()
    evaluations: Sequence[tuple[RunConfig, str]] = ()
    sweep: SweepOf | None = None
    file: Mapping[str, Any] | None = None
    is_named: bool = True
    profile_copy: str = ""
    """See `RunRecord`."""


class KnownRuns:
    """The runs that there are, by what they compute."""

    def __init__(self, runs: Iterable[RunRecord]) -> None:
        """`runs`, oldest first: where several are the same, the oldest is found."""
        self._exact: dict[str, RunRecord] = {}
        self._alike: dict[str, RunRecord] = {}
        for run in runs:
            declared, now = with_values(run.config, run.declared), run.configuration
            self._exact.setdefault(declared.fingerprint, run)
            for identity in (*declared.identities, *now.identities):
                self._alike.setdefault(identity, run)

    def find(self, config: RunConfig) -> RunRecord | None:
        """Return the run of this configuration: the one declared with it, or else one that computes the same."""
        return self._exact.get(config.fingerprint) or self._alike.get(config.identity)


@dataclass(frozen=True)
class Declaration:
    """Runs that are to exist: `new` ones, and those of the same configuration that are there already.

    `ids` are those of the wanted configurations' runs, in their order.
    """

    new: Sequence[RunRecord]
    existing: Sequence[RunRecord]
    ids: Sequence[str] = ()


def declare(transaction: Transaction, wanted: RunRequest, *, code: str) -> Declaration:
    """Runs for what is wanted; a name whose run has the same configuration is that run.

    Raises:
        UsageError: a name is taken by a run of another configuration, or is no name.
    """
    new: list[RunRecord] = []
    existing: list[RunRecord] = []
    there = transaction.runs()
    by_name = {run.name: run for run in there}
    known = KnownRuns(there)

    def add(config: RunConfig, name: str, stage: str, after: str) -> RunRecord:
        found = by_name.get(name)
        is_free = wanted.sweep is not None or not wanted.is_named
        if is_free and (found is None or not is_run_of(found, config)):
            found = known.find(config) or found
        if found is not None and is_run_of(found, config):
            existing.append(found)
            return found
        if found is not None:
            raise UsageError(f"a run called {name!r} exists with another configuration; choose another --name")
        if not NAME.match(name):
            raise UsageError(
                f"--name {name!r}: a run's name is 1 to 80 letters, digits, '.', '_', '+' or '-', "
                "and begins with a letter or digit; choose another"
            )
        run = replace(_run(config, name, wanted, code), stage=stage, after=after)
        new.append(run)
        return run

    after = wanted.after or [""] * len(wanted.configs)
    each = zip(wanted.configs, wanted.names, after, strict=True)
    first = [add(config, name, wanted.stage, awaited) for config, name, awaited in each]
    if wanted.evaluations:
        for run, (config, name) in zip(first, wanted.evaluations, strict=True):
            add(config, name, EVALUATE, run.id)
    learn([run.configuration for run in new])
    priced = [replace(run, rates=rates_of(run.configuration)) for run in new]
    return Declaration(priced, existing, [run.id for run in first])


def is_run_of(run: RunRecord, config: RunConfig) -> bool:
    """Return whether the run computes what this configuration says."""
    return KnownRuns([run]).find(config) is not None


def _run(config: RunConfig, name: str, wanted: RunRequest, code: str) -> RunRecord:
    fingerprint = config.fingerprint
    return RunRecord(
        id=hashlib.sha256(f"{name}\0{fingerprint}".encode()).hexdigest()[:8],
        name=name,
        stage=wanted.stage,
        fingerprint=fingerprint,
        config=config.model_dump(mode="json"),
        profile=wanted.profile,
        profile_copy=wanted.profile_copy,
        resources=requested_of(config, wanted.resources, wanted.profile),
        code=code,
        created=time.time(),
        typed=_typed(config, wanted),
    )


def _typed(config: RunConfig, wanted: RunRequest) -> dict[str, list[Any]]:
    """What was typed over study.toml for this run; an evaluation's interval is its own."""
    if wanted.file is None:
        return {}
    requested = {**wanted.resources.model_dump(), "profile": wanted.profile}
    if not task_of(config).is_evaluation:
        requested |= {key: getattr(config, key) for key in CARRIED}
    return typed_over(wanted.file, requested)


def requested_of(config: RunConfig, resources: Resources, profile: str) -> dict[str, Any]:
    """Return what a run's jobs request of the cluster.

    Raises:
        UsageError: the training cannot use as many GPUs or processes.
    """
    gpus = gpus_by_default(profile) if resources.gpus is None else resources.gpus
    shared = resources.model_dump(include={"max_parallel", "pack", "side_by_side"}, exclude_none=True)
    return resources.variables() | shared | _team(config, gpus, resources)


def _team(config: RunConfig, gpus: int, resources: Resources) -> dict[str, Any]:
    """Return how the task has the run's job started (see `Task.launch`); alone where it runs beside others.

    Raises:
        UsageError: the training cannot use as many.
    """
    processes = resources.processes
    if (resources.side_by_side or 1) > 1:
        if (processes or 1) > 1:
            raise UsageError(
                f"side_by_side = {resources.side_by_side} and processes = {processes}: runs side by side are trained "
                "by one process each, which share the job's GPUs; leave one of the two out"
            )
        return {}
    return task_of(config).launch(config.params, gpus, processes)


def default_name(config: RunConfig, prefix: str = "", varied: Iterable[str] = ()) -> str:
    """Return the name of a run that the user gave none (see `Task.default_name`)."""
    return task_of(config).default_name(config, prefix, varied)


def check_profile_resources(profile: str, resources: Resources) -> None:
    """Refuse what the local backend has no use for: a partition or account there is a mistake, not a wish."""
    wrong = [key for key in ("partition", "account", "qos") if getattr(resources, key) is not None]
    if profile == LOCAL and wrong:
        raise UsageError(f"--{wrong[0]} means nothing to the local backend; name a Slurm profile with --profile")
