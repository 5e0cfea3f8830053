"""`lvjobs archive`: the directories of finished runs, each packed into one file, and unpacked again.

A site's quota counts files. The archive is complete on the disk before the directory is removed, and the directory is
complete before the archive is removed, so a crash leaves one of the two, and the same command continues.
"""

import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lvjobs import remedies
from lvjobs.control.reconcile.run_commands import find_runs
from lvjobs.control.session import Session
from lvjobs.errors import UsageError
from lvjobs.files import aside_of, create_new, fsync_directory
from lvjobs.ledger.records import RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.words import MemberState, StageState

_BEGUN = (StageState.ASKED, StageState.RUNNING, StageState.HELD)
_TO_COME = (StageState.ASKED, StageState.HELD)


def archive_runs(session: Session, wanted: Sequence[str]) -> list[str]:
    """Pack the directories of finished runs; return a line for each.

    Raises:
        UsageError: A run is not finished, or its files are still needed. Nothing was packed.
        OSError: A file cannot be read or written. Runs that were packed before it stay so.
    """
    layout, lines = session.study.layout, []
    with session.ledger.transaction() as transaction:
        runs = find_runs(transaction, wanted, session.study.where)
        for run in runs:
            if reason := _needed(transaction, run):
                raise UsageError(f"{run.name} {reason}, so its files are still needed; nothing was archived")
            if other := next(_of_another_kind(layout.run(run.name).root), None):
                raise UsageError(
                    f"{other} is neither a file, a directory nor a link; remove it, then archive {run.name} again"
                )
    for run in runs:
        directory, path = layout.run(run.name).root, layout.archive(run.name)
        _remove(_leftover(directory))
        if not directory.is_dir():
            lines.append(f"{run.name}: " + ("is archived already" if path.exists() else "has no files"))
            continue
        files = sum(1 for each in directory.rglob("*") if each.is_file())
        _pack(directory, path)
        lines.append(f"{run.name}: {files} files packed into {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return lines


def unpack_runs(session: Session, wanted: Sequence[str]) -> list[str]:
    """Unpack the directories of archived runs; return a line for each.

    Raises:
        UsageError: A run does not exist, is not archived, or its archive is damaged.
        OSError: A file cannot be read or written. The archive stays as it is.
    """
    layout, lines = session.study.layout, []
    for run in session.ledger.call(find_runs, wanted, session.study.where):
        directory, path = layout.run(run.name).root, layout.archive(run.name)
        if not path.exists():
            raise UsageError(
                f"{run.name} is not archived; list archived runs with: {remedies.ARCHIVE(*session.study.where)}"
            )
        if not directory.is_dir():
            _unpack(path, directory)
        path.unlink()
        fsync_directory(path.parent)
        lines.append(f"{run.name}: unpacked into {directory}")
    return lines


def _needed(transaction: Transaction, run: RunRecord) -> str:
    """Return why a run's files are still needed; empty if they are not."""
    if not run.state.is_final:
        return f"is {run.state.value}"
    if any(member.run_id == run.id and member.state is not MemberState.SETTLED for member in transaction.members()):
        return "has a job that is not settled yet"
    if waiting := next((each.name for each in transaction.runs(only_open=True) if each.after == run.id), ""):
        return f"is evaluated by {waiting}, which is not finished"
    continuing = (each for each in transaction.runs(only_open=True) if each.configuration.parent is not None)
    if child := next((each.name for each in continuing if each.config["parent"]["run"] == run.name), ""):
        return f"is continued by {child}, which is not finished"
    stages = {each.name: each for each in transaction.stages()}
    later = (each for each in stages.values() if each.state in _TO_COME and each.stage.continues)
    if after := next((each.name for each in later if stages[each.stage.origin or ""].winner == run.id), ""):
        return f"is continued by stage {after}, which has not begun"
    open_stages = {stage.name for stage in transaction.stages() if stage.state in _BEGUN}
    compared = next((name for name, ids in transaction.cells().items() if run.id in ids and name in open_stages), "")
    return f"is compared in stage {compared}, which is not decided" if compared else ""


def _of_another_kind(directory: Path) -> Iterator[Path]:
    """Yield what an archive would not hold, or what reading would block: sockets, pipes, devices."""
    for each in directory.rglob("*"):
        if not (each.is_symlink() or each.is_file() or each.is_dir()):
            yield each


def _leftover(directory: Path) -> Path:
    """Return the name under which a directory is removed: a crash may leave it."""
    return directory.with_name(f".{directory.name}.archived")


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


def _pack(directory: Path, path: Path) -> None:
    """Pack a directory into a file, durably, and remove it."""
    aside = aside_of(path)
    try:
        with os.fdopen(create_new(aside), "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", encoding="utf-8") as archive:
                archive.add(directory, arcname=directory.name)
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(path)
        fsync_directory(path.parent)
    finally:
        aside.unlink(missing_ok=True)
    gone = _leftover(directory)
    directory.rename(gone)
    _remove(gone)


def _unpack(path: Path, directory: Path) -> None:
    """Unpack a file into a directory, durably."""
    aside = directory.with_name(f".{directory.name}.unpacked")
    _remove(aside)
    try:
        with tarfile.open(path) as archive:
            # This study wrote it, and only its user can write there: links lead where they led. Python before 3.10.12
            # has no filters.
            trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
            archive.extractall(aside, **trusted)  # type: ignore[arg-type] # noqa: S202
    except (tarfile.TarError, EOFError) as error:
        raise UsageError(
            f"{path} is damaged ({error}); its run cannot be unpacked, and the file was not changed"
        ) from error
    for each in sorted(path for path in aside.rglob("*") if not path.is_symlink()):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    (aside / directory.name).rename(directory)
    aside.rmdir()
    fsync_directory(directory.parent)
