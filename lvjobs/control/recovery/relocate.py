"""The paths of a study that was moved or copied: paths into its old directory become paths into the new one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lvjobs.control.submission.run_directories import prepare
from lvjobs.ledger.records import RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext


def relocate(transaction: Transaction, study: StudyContext, former: Path) -> int:
    """Translate the paths of runs and of requested stages into the study's present directory.

    A run keeps its fingerprint, which is that of the configuration with which it was declared. A second call changes
    nothing.

    Args:
        transaction: A transaction of the study's ledger.
        study: The study in its present directory.
        former: The study's former directory.

    Returns:
        The number of changed runs.
    """
    runs = [(run, _moved(run, former, study.root)) for run in transaction.runs()]
    moved = [new for run, new in runs if new != run]
    prepare(study, [run for run in moved if study.layout.run(run.name).config.exists()])
    for run in moved:
        columns = ("config", "declared", "profile", "resources", "typed")
        transaction.update_run(run.id, **{key: getattr(run, key) for key in columns})
    for stage in transaction.stages():
        parts = {"definition": stage.definition, "request": stage.request}
        transaction.update_stage(stage.name, **translated(parts, former, study.root))
    return len(moved)


def _moved(run: RunRecord, former: Path, root: Path) -> RunRecord:
    parts = {"profile": run.profile, "resources": run.resources, "typed": run.typed}
    params = translated(run.config["params"], former, root)
    if params == run.config["params"]:
        return replace(run, **translated(parts, former, root))
    declared = {"params": run.config["params"], **run.declared}
    config = {**run.config, "params": params}
    return replace(run, config=config, declared=declared, **translated(parts, former, root))


def translated(value: Any, former: Path, root: Path) -> Any:
    """Return the value with each path in it that is `former`, or lies in it, as the same path in `root`."""
    if isinstance(value, str) and (value == str(former) or value.startswith(f"{former}/")):
        return f"{root}{value.removeprefix(str(former))}"
    if isinstance(value, Mapping):
        return {translated(key, former, root): translated(each, former, root) for key, each in value.items()}
    if isinstance(value, list):
        return [translated(each, former, root) for each in value]
    return value
