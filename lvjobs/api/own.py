"""Settings of the user's own task, from study.toml or a settings file; shared by `submit run` and `rehearse`."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.study.config import StudyContext, read_toml, validated
from lvjobs.study.run import RunConfig
from lvjobs.study.settings import OwnSettings, RunSettings, find_beside, settings_model
from lvjobs.tasks.registry import rates_of

ENTRY_POINTS = "lvjobs.tasks"


def own_settings(study: StudyContext, task: str | None, file: Path | None) -> RunSettings:
    """Return the task's declared settings: those of `file` if given, else [train] of study.toml.

    `task` takes precedence over the task that the file names.

    Raises:
        UsageError: no task is named anywhere, or the file cannot be used.
    """
    train = study.config.train
    values: Mapping[str, Any] = {}
    source = "study.toml"
    if file is not None:
        values, source = _settings_of(file), str(file)
    elif isinstance(train, OwnSettings) and task in (None, train.task):
        return train
    chosen = task or values.get("task")
    if chosen is None and file is not None:
        raise UsageError(f'{file} names no task; add task = "module:function" to it')
    if chosen is None:
        command = remedies.SUBMIT_NAMED_TASK(*study.where)
        raise UsageError(f'no task was named; type: {command}, or set task = "..." under [train] in study.toml')
    values = {**values, "task": installed_task(str(chosen))}
    return validated(settings_model(values), values, source)


def _settings_of(file: Path) -> Mapping[str, Any]:
    """Return the settings that a file of `--config` holds: its [train] table, or its keys where it has no table.

    Raises:
        UsageError: the file cannot be read, has another table, or has keys outside of [train].
    """
    values = read_toml(file)
    tables = [name for name, value in values.items() if _is_table(value)]
    if other := next((name for name in tables if name != "train"), None):
        raise UsageError(
            f"{file}: [{other}] is a table that is not read; keep only [train] in this file, and write a table of the "
            f"task's own settings as [train.{other}]"
        )
    if not tables:
        return values
    if outside := ", ".join(name for name in values if name != "train"):
        raise UsageError(f"{file} has keys outside of [train] ({outside}); write all keys under [train]")
    if not isinstance(values["train"], Mapping):
        raise UsageError(f"{file}: [[train]] is a list of tables; write [train], once")
    return values["train"]


def _is_table(value: Any) -> bool:
    """Return whether a value of a TOML file is a table, or a list of tables."""
    return isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(each, Mapping) for each in value))


def installed_task(name: str) -> str:
    """Return the `package.module:function` of a task that an installed package names so (entry points `lvjobs.tasks`).

    Any other name is returned as it is.
    """
    found = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)} if ":" not in name else {}
    return found.get(name, name)


def check_task(study: StudyContext, config: RunConfig) -> None:
    """Refuse a task that no job could run, before anything is written.

    Raises:
        UsageError: the task cannot be imported, is not marked with `lvjobs.task`, or fails in its first step.
    """
    find_beside(study.root)
    if not rates_of(config):
        raise UsageError(
            f"{config.task} is not marked as a task; nothing was submitted: write @lvjobs.task above the function, so "
            "that its FLOPs are counted (docs/tasks.md)"
        )
