"""The inputs of training: model, data and budget; and with `local`, this machine's slots."""

import os
from collections.abc import Iterator
from pathlib import Path

from lvjobs import remedies
from lvjobs.doctor.asked import Asked
from lvjobs.doctor.diagnosis import Diagnosis, error, fine, note
from lvjobs.doctor.places import existing
from lvjobs.errors import UsageError
from lvjobs.files import expand_home
from lvjobs.flops.architecture import architecture_of, hub_id_of
from lvjobs.forecasting.hub import TINY, find_model
from lvjobs.ledger.storage import IN_A_CONTAINER, IN_MEMORY, describe, storage_of
from lvjobs.study.config import StudyContext
from lvjobs.study.params import TrainingConfig


def model_of(study: StudyContext, name: str) -> str:
    """Return a model as runs get it: a directory's absolute path, else its hub id, or `tiny`."""
    directory = study.root / expand_home(name)
    return str(directory.resolve()) if name != TINY and directory.is_dir() else hub_id_of(name)


def data_of(study: StudyContext, training: TrainingConfig) -> Path:
    """Return the absolute path of the data file."""
    return (study.root / expand_home(training.data)).absolute()


def models_of(asked: Asked) -> list[str]:
    """Return the models that [train] and the stages name, each once, as runs get them."""
    if not asked.is_study or asked.training is None:
        return []
    named = [asked.training.model]
    for stage in asked.study.config.stage:
        named += [stage.set["model"]] if "model" in stage.set else []
        named += stage.grid.get("model", [])
    return list(dict.fromkeys(model_of(asked.study, str(name)) for name in named))


def check_model(asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether a job could load each model, and whether its FLOPs can be counted."""
    for model in models_of(asked):
        assert asked.training is not None
        try:
            found = find_model(model, asked.training.decimals, instruct=asked.training.format == "instruct")
        except UsageError as wrong:
            yield error("model", wrong.problem, "submit refuses it", wrong.remedy)
        else:
            size = "" if found.parameters is None else f", {found.parameters:,} parameters"
            yield fine("model", f"{model} is whole{size}")
        try:
            architecture_of(model)
        except UsageError as unknown:
            yield error("model", str(unknown), "what it costs cannot be counted, so no run of it can be submitted")


def check_cache(asked: Asked) -> Iterator[Diagnosis]:
    """Yield where models from the hub are stored, and whether jobs see them."""
    from huggingface_hub import constants

    if asked.is_study and all(model == TINY or Path(model).is_dir() for model in models_of(asked)):
        return
    cache = Path(constants.HF_HUB_CACHE)
    storage = storage_of(existing(cache))
    what = f"models from the hub lie in {cache}: {describe(storage)}"
    if asked.is_elsewhere and storage.kind in IN_MEMORY | IN_A_CONTAINER:
        means = f"{storage.kind} is seen by this machine alone: jobs find no model there"
        yield error(
            "model", what, means, "export HF_HOME=DIRECTORY that nodes share, here and in ~/.bashrc; then pull anew"
        )
    elif storage.read_only:
        yield note(
            "model", f"{what}, read-only", "no model can be downloaded to it", "export HF_HOME=ANOTHER DIRECTORY"
        )
    else:
        yield fine("model", what)


def check_data(asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether the data file of [train] can be trained on."""
    if not asked.is_study or asked.training is None:
        return
    from lvjobs.forecasting.data import load_dataset
    from lvjobs.forecasting.splits import training_split

    path = data_of(asked.study, asked.training)
    try:
        data = load_dataset(path, steps=asked.training.history_steps + asked.training.horizon_steps)
        split = training_split(len(data.trajectories), asked.training)
    except UsageError as wrong:
        yield error("data", wrong.problem, "submit refuses it", wrong.remedy)
        return
    count, steps, variables = data.trajectories.shape
    parts = f"{len(split.train)} train, {len(split.validation)} validate, {len(split.test)} are scored"
    yield fine("data", f"{path}: {count} systems of {steps} steps and {variables} variables ({parts})")


def check_budget(asked: Asked) -> Iterator[Diagnosis]:
    """Yield the budget's limit; `lvjobs estimate` shows what the study costs."""
    if asked.is_study:
        budget = asked.study.config.budget
        what = f"{budget.limit:.4g} FLOPs by the {budget.convention} convention"
        remedy = f"whether all that is declared fits: {remedies.ESTIMATE(*asked.study.where)}"
        yield fine("budget", what, "nothing starts that would take what is spent and reserved beyond it", remedy)


def check_local(asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether this machine has cores for all jobs that may run at once."""
    slots, threads = asked.study.config.local_slots, asked.threads
    cores = len(os.sched_getaffinity(0))
    what = f"{slots} job{'' if slots == 1 else 's'} at once, {threads} thread{'' if threads == 1 else 's'} each"
    if slots * threads > cores:
        most = max(1, cores // threads)
        means = "jobs take turns on the cores, and each takes as much longer"
        yield note("this machine", f"{what}, and it has {cores} cores", means, f"local_slots = {most} in study.toml")
    else:
        yield fine("this machine", f"{what}, of {cores} cores (local_slots); jobs end with the machine")
