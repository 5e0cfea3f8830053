"""From settings to runs: names, identities, costs. Nothing is written here."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvjobs.cluster.backends import LOCAL
from lvjobs.control.backends import gpus_by_default
from lvjobs.control.budget.cost import rates_of
from lvjobs.control.budget.task_cost import learn
from lvjobs.errors import UsageError
from lvjobs.ledger.records import Run
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.current import typed_over
from lvjobs.study.evaluation import EVALUATE_TASK
from lvjobs.study.run import CARRIED, NAME, RunConfig, with_values
from lvjobs.study.tables import Resources
from lvjobs.study.training import TRAIN_TASK

EVALUATE = "evaluate"
"""The stage of evaluations."""

_LONGEST = 70
"""Characters of a name that is made here; what is evaluated is called a little longer."""


@dataclass(frozen=True)
class SweepOf:
    """A stage as it was asked for: the ledger's `definition` and `request` of it."""

    definition: Mapping[str, Any]
    request: Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
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
    """See `Run`."""


class KnownRuns:
    """The runs that there are, by what they compute."""

    def __init__(self, runs: Iterable[Run]) -> None:
        """`runs`, oldest first: where several are the same, the oldest is found."""
        self._exact: dict[str, Run] = {}
        self._alike: dict[str, Run] = {}
        for run in runs:
            declared, now = declared_config(run), RunConfig.model_validate(run.config)
            self._exact.setdefault(declared.fingerprint, run)
            for identity in (*declared.identities, *now.identities):
                self._alike.setdefault(identity, run)

    def find(self, config: RunConfig) -> Run | None:
        """Return the run of this configuration: the one declared with it, or else one that computes the same."""
        return self._exact.get(config.fingerprint) or self._alike.get(config.identity)


@dataclass(frozen=True)
class Declaration:
    """Runs that are to exist: `new` ones, and those of the same configuration that are there already.

    `ids` are those of the wanted configurations' runs, in their order.
    """

    new: Sequence[Run]
    existing: Sequence[Run]
    ids: Sequence[str] = ()


def declare(transaction: Transaction, wanted: Wanted, *, code: str) -> Declaration:
    """Runs for what is wanted; a name whose run has the same configuration is that run.

    Raises:
        UsageError: a name is taken by a run of another configuration, or is no name.
    """
    new: list[Run] = []
    existing: list[Run] = []
    there = transaction.runs()
    by_name = {run.name: run for run in there}
    known = KnownRuns(there)

    def add(config: RunConfig, name: str, stage: str, after: str) -> Run:
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
    learn([RunConfig.model_validate(run.config) for run in new])
    priced = [replace(run, rates=rates_of(RunConfig.model_validate(run.config))) for run in new]
    return Declaration(priced, existing, [run.id for run in first])


def declared_config(run: Run) -> RunConfig:
    """Return the configuration that the run was declared with."""
    return with_values(run.config, run.declared)


def is_run_of(run: Run, config: RunConfig) -> bool:
    """Return whether the run computes what this configuration says."""
    return KnownRuns([run]).find(config) is not None


def _run(config: RunConfig, name: str, wanted: Wanted, code: str) -> Run:
    fingerprint = config.fingerprint
    return Run(
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


def _typed(config: RunConfig, wanted: Wanted) -> dict[str, list[Any]]:
    """What was typed over study.toml for this run; an evaluation's interval is its own."""
    if wanted.file is None:
        return {}
    requested = {**wanted.resources.model_dump(), "profile": wanted.profile}
    if config.task != EVALUATE_TASK:
        requested |= {key: getattr(config, key) for key in CARRIED}
    return typed_over(wanted.file, requested)


def requested_of(config: RunConfig, resources: Resources, profile: str) -> dict[str, Any]:
    """Return what a run's jobs request of the cluster.

    Raises:
        UsageError: the training cannot use as many GPUs or processes.
    """
    gpus = gpus_by_default(profile) if resources.gpus is None else resources.gpus
    return resources.variables() | _together(resources) | _team(config, gpus, resources)


def _together(resources: Resources) -> dict[str, Any]:
    """How a run shares its array or its job with others."""
    names = ("max_parallel", "pack", "side_by_side")
    return {name: value for name in names if (value := getattr(resources, name)) is not None}


def _team(config: RunConfig, gpus: int, resources: Resources) -> dict[str, Any]:
    """How many processes the run's job starts, where that is not one; and no more GPUs than they use.

    A function of one's own is started once, whatever GPUs it has, unless `processes` says otherwise.

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
    if config.task == EVALUATE_TASK:
        return {"gpus": 1} if gpus > 1 else {}
    if config.task == TRAIN_TASK:
        processes = processes or max(1, gpus)
        _check_team(int(config.params["batch_size"]), gpus, processes)
    return {"processes": processes} if processes and processes > 1 else {}


def _check_team(batch_size: int, gpus: int, processes: int) -> None:
    if gpus > 1 and gpus != processes:
        raise UsageError(
            f"gpus = {gpus} and processes = {processes}: each process trains on one GPU, so ask for as many, or leave "
            "processes out"
        )
    if batch_size % processes:
        word = "gpus" if gpus > 1 else "processes"
        raise UsageError(
            f"{word} = {processes}, and batch_size = {batch_size} does not divide among them, a share for each: set "
            f"batch_size to a multiple of {processes}, or ask for fewer {word}"
        )


def default_name(config: RunConfig, prefix: str = "", varied: Iterable[str] = ()) -> str:
    """A name that says what matters and that no other configuration gets: `tiny-r4-lr1e-05-c512-s0-3fa9`.

    Of a task of one's own what matters are the `varied` keys, as far as a name may be long: `train-hidden64-s0-3fa9`.
    """
    if config.task != TRAIN_TASK:
        return _own_name(config, prefix, varied)
    params: Mapping[str, Any] = config.params
    model = Path(str(params.get("model", "run"))).name or "run"
    parts = [
        prefix or model,
        f"r{params.get('lora_rank')}",
        f"lr{params.get('learning_rate'):g}",
        f"c{params.get('context_length')}",
        f"s{config.seed}",
        config.fingerprint[:4],
    ]
    return "-".join(parts)


def _own_name(config: RunConfig, prefix: str, varied: Iterable[str]) -> str:
    """Settings that a name cannot have, such as a path, are left to the fingerprint."""
    known = {**config.model_dump(exclude={"params", "task", "seed"}), **config.params}
    values = [(key, known[key]) for key in varied if key in known]
    parts = [f"{key}{value:g}" if isinstance(value, float) else f"{key}{value}" for key, value in values]
    chosen = [part for part in parts if NAME.match(part)]
    end = [f"s{config.seed}", config.fingerprint[:4]]
    while len("-".join(made := [prefix or config.task.partition(":")[2], *chosen, *end])) > _LONGEST:
        chosen.pop()
    return "-".join(made)


def check_profile_resources(profile: str, resources: Resources) -> None:
    """Refuse what the local backend has no use for: a partition or account there is a mistake, not a wish."""
    wrong = [key for key in ("partition", "account", "qos") if getattr(resources, key) is not None]
    if profile == LOCAL and wrong:
        raise UsageError(f"--{wrong[0]} means nothing to the local backend; name a Slurm profile with --profile")
