"""The checks of what runs read and write: the study, its storage and quota, Python, the model, the data, the budget."""

import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from lvjobs import remedies
from lvjobs.control.recovery.check import around
from lvjobs.control.summary_file import read_summary
from lvjobs.doctor.interface import Asked, Diagnosis, error, fine, note
from lvjobs.doctor.quotas import Quota, quota_of
from lvjobs.errors import UsageError
from lvjobs.files import expand_home, is_foreign
from lvjobs.flops.architecture import architecture_of, hub_id_of
from lvjobs.forecasting.hub import TINY, find_model
from lvjobs.ledger.copies import refuse_lost
from lvjobs.ledger.storage import IN_A_CONTAINER, IN_MEMORY, NETWORK, Storage, concerns, describe, storage_of
from lvjobs.study.config import StudyContext
from lvjobs.study.digits import in_digits
from lvjobs.study.params import TrainingConfig

_FEW_BYTES = 5 << 30
_FEW_FILES = 20_000


def check_study(asked: Asked) -> Iterator[Diagnosis]:
    """Yield whose the study is, and whether its ledger exists."""
    if not asked.is_study:
        yield note(
            "study",
            f"no study in {asked.study.root}",
            "the machine was checked, with the default job of this profile",
            f"type: {remedies.INIT_PROFILE(*asked.study.where, profile=asked.profile)}",
        )
        return
    root = asked.study.root
    if is_foreign(root):
        yield error(
            "study",
            f"{root} belongs to user {root.stat().st_uid}, and you are {os.getuid()}",
            "workers refuse to train in it",
            f"create your own study in another directory; type: {remedies.INIT_ELSEWHERE}",
        )
    elif not os.access(root, os.W_OK | os.X_OK):
        mode = stat.S_IMODE(root.stat().st_mode)
        yield error(
            "study",
            f"{root} cannot be written (mode {mode:o})",
            "no command can continue its runs",
            f"type: {remedies.CHMOD_OWNER(path=root)}",
        )
    try:
        refuse_lost(asked.study)
    except UsageError as lost:
        yield error("study", str(lost), "no command can continue it")
        return
    there = asked.study.layout.database.exists()
    runs = sum(1 for _ in asked.study.layout.checkpoints.glob("*/run.json"))
    what = f"{root}, {runs} run{'' if runs == 1 else 's'}"
    check = f"to check charges against the journals: {remedies.LEDGER_CHECK(*asked.study.where)}"
    yield fine("study", what, remedy=check if there else "")
    yield from _check_avoided(asked)


def _check_avoided(asked: Asked) -> Iterator[Diagnosis]:
    """Yield the nodes that the study avoids, by the last pass's summary."""
    summary = read_summary(asked.study.layout.summary)
    known = summary.get("avoided_nodes", ()) if summary else ()
    nodes = [node for node in known if node["until"] > time.time()]
    if nodes:
        words = [f"{node['node']} until {_clock(node['until'])} ({node['reason']})" for node in nodes]
        yield note(
            "nodes",
            f"the study avoids {'; '.join(words)}",
            "runs failed there; jobs exclude these nodes unless no other node can run them",
            "to use them again at once: set exclude_hours = 0 under [policy] in study.toml, then: "
            f"{remedies.RESUME(*asked.study.where)}",
        )


def _clock(moment: float) -> str:
    return time.strftime("%a %d %b %H:%M", time.localtime(moment))


def check_storage(asked: Asked) -> Iterator[Diagnosis]:
    """Yield what is known of the study's file system: its type, its dangers, free space and quota."""
    storage = storage_of(asked.study.root)
    for finding in around(asked.study, storage) if asked.is_study else ():
        yield Diagnosis(finding.level, finding.subject, finding.what, finding.remedy)
    if not asked.is_study:
        for concern in concerns(storage, on_slurm=asked.is_elsewhere, where=asked.study.where):
            level = error if concern.serious else note
            yield level("storage", concern.what, remedy=concern.remedy)
    files = "" if storage.free_files is None else f", {storage.free_files:,} files"
    if not any(concern.serious for concern in concerns(storage, on_slurm=asked.is_elsewhere)):
        yield fine("storage", f"the {'study' if asked.is_study else 'directory'} is on {describe(storage)}{files}")
    yield from _quota(storage, "storage")


def _quota(storage: Storage, subject: str) -> Iterator[Diagnosis]:
    devices = {each.mountpoint: each.device for each in psutil.disk_partitions(all=True)}
    quota = quota_of(storage.mount, storage.kind, devices.get(storage.mount, ""))
    if quota is None:
        if storage.kind in NETWORK:
            yield note(
                subject,
                f"your quota on {storage.mount} is unknown: neither quota nor lfs quota reports it",
                "it may be used up although the file system has space: a checkpoint that does not fit fails its "
                "attempt",
                "see the site's documentation",
            )
        return
    yield _told(quota, storage, subject)


def _told(quota: Quota, storage: Storage, subject: str) -> Diagnosis:
    left, files = quota.left, quota.files_left
    if left is None and files is None:
        return fine(subject, f"no quota is set for you on {storage.mount}")
    parts = [] if left is None else [f"{left / 2**30:.1f} of {(quota.allowed or 0) / 2**30:.1f} GiB"]
    parts += [] if files is None else [f"{files:,} of {quota.files_allowed:,} files"]
    what = f"left of your quota on {storage.mount}: {', '.join(parts)}"
    remedy = "free disk space, or lower keep_last under [train] in study.toml"
    if (left is not None and left <= 0) or (files is not None and files <= 0):
        return error(subject, what, "no checkpoint can be written: attempts fail", remedy)
    if (left is not None and left < _FEW_BYTES) or (files is not None and files < _FEW_FILES):
        return note(subject, what, "a checkpoint that does not fit fails its attempt", remedy)
    return fine(subject, what)


def check_python(asked: Asked, *, with_job: bool = False) -> Iterator[Diagnosis]:
    """Yield whether jobs on other machines can run this same Python. `with_job`: a test job will show it."""
    if not asked.is_elsewhere:
        return
    storage = storage_of(Path(sys.prefix))
    if storage.kind in NETWORK:
        return
    if storage.kind in IN_MEMORY | IN_A_CONTAINER:
        yield error(
            "Python",
            f"{sys.prefix} is on {storage.kind}, which other machines cannot see",
            "jobs cannot start",
            "create the virtual environment where nodes can see it, and install lvjobs there",
        )
    else:
        yield note(
            "Python",
            f"{sys.prefix} is on {storage.kind or 'a file system of unknown type'}, a local one",
            "jobs start this Python, so each node needs it at that path",
            ("" if with_job else f"only a job can show it; type: {remedies.DOCTOR_JOB(*asked.typed)}; ")
            + "if they lack it, create the virtual environment on a shared file system",
        )


def existing(path: Path) -> Path:
    """Return the path, or the nearest directory above it that exists."""
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


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
            yield fine("model", f"{model} is complete{size}")
        try:
            architecture_of(model)
        except UsageError as unknown:
            yield error("model", str(unknown), "its FLOPs cannot be counted, so no run of it can be submitted")


def check_cache(asked: Asked) -> Iterator[Diagnosis]:
    """Yield where models from the hub are stored, and whether jobs see them."""
    from huggingface_hub import constants

    if asked.is_study and all(model == TINY or Path(model).is_dir() for model in models_of(asked)):
        return
    cache = Path(constants.HF_HUB_CACHE)
    storage = storage_of(existing(cache))
    what = f"models from the hub are in {cache}: {describe(storage)}"
    if asked.is_elsewhere and storage.kind in IN_MEMORY | IN_A_CONTAINER:
        yield error(
            "model",
            what,
            f"{storage.kind} is visible on this machine only: jobs find no model there",
            "export HF_HOME=DIRECTORY that nodes share, here and in ~/.bashrc; then pull again",
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
    """Yield the budget's limit; `lvjobs plan` shows what the study costs."""
    if asked.is_study:
        budget = asked.study.config.budget
        yield fine(
            "budget",
            f"{in_digits(budget.limit, 4)} FLOPs by the {budget.convention} convention",
            "lvjobs starts nothing that could exceed it",
            f"to see what the declared stages cost: {remedies.ESTIMATE(*asked.study.where)}",
        )


def check_local(asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether this machine has cores for all jobs that may run at once."""
    slots, threads = asked.study.config.local_slots, asked.threads
    cores = len(os.sched_getaffinity(0))
    what = f"{slots} job{'' if slots == 1 else 's'} at once, {threads} thread{'' if threads == 1 else 's'} each"
    if slots * threads > cores:
        most = max(1, cores // threads)
        yield note(
            "this machine",
            f"{what}, and it has {cores} cores",
            "jobs share the cores and take longer",
            f"local_slots = {most} in study.toml",
        )
    else:
        yield fine("this machine", f"{what}, of {cores} cores (local_slots); jobs end when the machine stops")
