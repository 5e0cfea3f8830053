"""The study's place: whether its directory was moved or copied since the last command.

Two directories with the same submission tokens would both follow the same jobs. The journals in a copy do not grow, so
the copy would report the jobs as hung and cancel them. Therefore a study records its directory, and each command that
opens the study compares. In a study that was moved or copied, paths into its old directory become paths into the new
one.
"""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from lvjobs import remedies
from lvjobs.control.recovery.disown import Stake, disown, stake_of
from lvjobs.control.recovery.findings import Finding, finding
from lvjobs.control.submission.submission_files import write_run_files
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.files import write_atomic
from lvjobs.ledger.copies import examine
from lvjobs.ledger.records import Event, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.place import StudyLocation, parse_place
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import StudyLayout

_SETTING = "place"


class PlaceUnclear(UsageError):
    """The error that a study is not in its recorded place, and only the user knows whether it was moved or copied."""


class StudyOrigin(str, Enum):
    """The relation of an opened study to its recorded place."""

    HERE = "here"
    MOVED = "moved"
    COPIED = "copied"
    UNCLEAR = "unclear"


def judge(recorded: StudyLocation, here: StudyLocation) -> StudyOrigin:
    """Compare the recorded place with the directory in which the study was opened (`here`).

    The same path is the same place even with another inode: a backup was restored there, or another host mounts it with
    other numbers. The same directory under another name is the same place too. A copy is recognized by the place that
    its original records for itself.
    """
    names = [name for name in (recorded.path, *recorded.former) if name != here.path]
    if recorded.path == here.path or any(_is_same_directory(name, here.path) for name in names):
        return StudyOrigin.HERE
    if any(_lives_at(recorded.study, name) for name in names):
        return StudyOrigin.COPIED
    # The roots of many file systems have the same inode number.
    is_root = recorded.device != here.device and os.path.ismount(here.path)
    if recorded.inode == here.inode and not is_root:
        return StudyOrigin.HERE if here.path in recorded.former else StudyOrigin.MOVED
    return StudyOrigin.UNCLEAR


def _is_same_directory(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:  # it is missing, or not visible from here
        return False


def _lives_at(study: str, path: str) -> bool:
    """Return whether the study with this id is at `path`, by the record there."""
    found = read_place(StudyLayout(Path(path)))
    return found is not None and (found.study, found.path) == (study, path)


def read_place(layout: StudyLayout) -> StudyLocation | None:
    """Return the place that is kept beside runs.db; None if it is missing or cannot be read."""
    with suppress(OSError, ValueError):
        return parse_place(layout.place.read_text(encoding="utf-8"))
    return None


def recorded_place(transaction: Transaction) -> StudyLocation | None:
    """Return the study's recorded place; None in a ledger that only releases without this record have opened."""
    text = transaction.setting(_SETTING)
    return None if text is None else parse_place(text)


def restore_place(transaction: Transaction, layout: StudyLayout) -> None:
    """Record in a rebuilt ledger the place that the lost one had: the directory may be a copy."""
    found = read_place(layout)
    if found is not None:
        transaction.set_setting(_SETTING, found.to_json())


def keep_place(layout: StudyLayout, recorded: StudyLocation | None) -> None:
    """Keep the recorded place beside runs.db. Call it once the transaction that recorded it is committed."""
    if recorded is not None and recorded != read_place(layout):
        write_atomic(layout.place, recorded.to_json())


@dataclass(frozen=True)
class Arrival:
    """The lines on what opening a study in another place did. `left` is the directory that a moved study was in."""

    news: Sequence[str] = ()
    left: str = ""


def arrive(transaction: Transaction, study: StudyContext, now: float, answer: StudyOrigin | None = None) -> Arrival:
    """Record the study's place, translate the paths of a moved or copied study, and disown a copy's jobs.

    `answer` is the user's answer for a place that is unclear: MOVED or COPIED. `now` is in seconds since the epoch.

    Raises:
        PlaceUnclear: the user has to answer first.
        LvjobsError: runs.db was copied in the middle of a write.
    """
    here = _place_of(study.root)
    recorded = recorded_place(transaction)
    if recorded is None:
        transaction.set_setting(_SETTING, here.to_json())
        return Arrival()
    verdict = judge(recorded, here)
    if verdict is StudyOrigin.UNCLEAR:
        stake = stake_of(transaction)
        if answer is None and any(stake):
            _ask(study, recorded, here, stake)
        verdict = answer or StudyOrigin.MOVED
    if verdict is StudyOrigin.HERE:
        if recorded.path == here.path and recorded.inode != here.inode:
            now_here = replace(recorded, device=here.device, inode=here.inode)
            transaction.set_setting(_SETTING, now_here.to_json())
        return Arrival()
    relocate(transaction, study, Path(recorded.path))
    names = dict.fromkeys((*recorded.former, recorded.path))
    former = tuple(name for name in names if name != here.path)
    if verdict is StudyOrigin.MOVED:
        here = replace(here, study=recorded.study)
        text = news = f"the study was moved here from {recorded.path}; its jobs are followed from here"
    else:
        _check_sound(study)
        stake = disown(transaction, study, recorded.path, now)
        text, news = _disowned(recorded.path, stake), _disowned(recorded.path, stake, study.where)
    transaction.set_setting(_SETTING, replace(here, former=former).to_json())
    transaction.add_event(Event(now, "place", text))
    return Arrival([news], recorded.path if verdict is StudyOrigin.MOVED else "")


def other_place(transaction: Transaction, study: StudyContext) -> Iterator[Finding]:
    """Yield a note if the study is not in its recorded place."""
    recorded = recorded_place(transaction)
    if recorded is not None and (verdict := judge(recorded, _place_of(study.root))) is not StudyOrigin.HERE:
        yield finding(verdict.value, "runs.db", study.where, path=recorded.path)


def _place_of(root: Path) -> StudyLocation:
    path = root.resolve()
    status = path.stat()
    return StudyLocation(secrets.token_hex(8), str(path), status.st_dev, status.st_ino)


def _ask(study: StudyContext, recorded: StudyLocation, here: StudyLocation, stake: Stake) -> NoReturn:
    raise PlaceUnclear(
        f"the study was in {recorded.path}, now in {here.path}; lvjobs cannot see whether it was moved or copied "
        f"({stake}). Nothing is submitted here until you type {remedies.STUDY_MOVED(*study.where)}, or "
        f"{remedies.STUDY_COPIED(*study.where)} if the original is still in use"
    )


def _disowned(original: str, stake: Stake, where: Sequence[str] = ()) -> str:
    resume, start = remedies.RESUME_RUN(*where, run="RUN"), remedies.DRIVER_START(*where)
    return (
        f"this study is a copy of {original}, whose jobs belong to the original ({stake}); nothing starts here "
        f"automatically: {resume} trains a run here, {start} starts a driver"
    )


def _check_sound(study: StudyContext) -> None:
    database = study.layout.database
    problems = examine(database).problems
    if problems:
        raise LvjobsError(
            f"{database} was copied in the middle of a write ({problems[0]}); copy the study again, or rebuild the "
            f"file from the run directories: {remedies.LEDGER_REBUILD_ASIDE(*study.where)}"
        )


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
    write_run_files(study, [run for run in moved if study.layout.run(run.name).config.exists()])
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
