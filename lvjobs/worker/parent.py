"""The checkpoint that a run begins from: its own newest one, or that of the run that it continues.

The parent's checkpoint is taken into the run directory, as a hard link where that is possible, before the first step.
From then on the run does not depend on the other run's files.

    parent/000003-00000450.safetensors    the other run's checkpoint, under the name that it has there
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from lvjobs import files, remedies
from lvjobs.errors import LvjobsError
from lvjobs.records.run_files import CheckpointName
from lvjobs.study.layout import RunLayout
from lvjobs.study.parent import Parent
from lvjobs.study.run import RunConfig
from lvjobs.worker.checkpoints import (
    Checkpoint,
    checkpoints_in,
    find_newest_valid,
    published,
    temporary,
    verify_patiently,
)
from lvjobs.worker.saved_files import take


class ParentUnusable(LvjobsError):
    """The checkpoint that the run continues is gone, damaged, or another one: without it, nothing may be trained."""


def find_start(layout: RunLayout, config: RunConfig) -> tuple[Checkpoint | None, dict[CheckpointName, str]]:
    """Return the checkpoint that an attempt begins from, and what is damaged in each newer one. None: there is none.

    That of a parent has the generation 0.

    Raises:
        LvjobsError: a checkpoint cannot be read, even some seconds later.
        ParentUnusable: that of the parent is gone or damaged.
    """
    found, invalid = find_newest_valid(layout)
    if found is None and config.parent is not None:
        found = _taken(layout, config.parent)
    return found, invalid


def _taken(layout: RunLayout, parent: Parent) -> Checkpoint:
    """Return the parent's checkpoint as it lies in the run directory; take it there the first time."""
    other = layout.study.run(parent.run)
    try:
        if not checkpoints_in(layout.parent):
            _take(layout, _find(other, parent), parent.step)
        (path,) = checkpoints_in(layout.parent).values()
        found = verify_patiently(path, layout.root.name)
        _check(found, parent)
    except (OSError, ValueError) as error:
        raise ParentUnusable(
            f"the checkpoint of step {parent.step} of {parent.run}, which this run continues, cannot be used "
            f"({error}); restore it in {other.root}, or submit a run from the beginning; then: "
            f"{remedies.RESUME_RUN(run=layout.root.name)}"
        ) from None
    # The run goes on from it, though the parent may have ended with it.
    name = CheckpointName(0, found.name.step)
    return replace(found, name=name, manifest=replace(found.manifest, final=False))


def _check(found: Checkpoint, parent: Parent) -> None:
    if found.sha256 != parent.sha256:
        raise ValueError(f"{found.path} is another one than when the run was declared")


def _find(other: RunLayout, parent: Parent) -> Path:
    """Return the path of the parent's checkpoint in its own run directory, verified.

    Raises:
        LvjobsError: see `verify_patiently`.
        ValueError: it is not there, or damaged.
    """
    problems = []
    for path in [path for name, path in published(other).items() if name.step == parent.step]:
        try:
            _check(verify_patiently(path, parent.run), parent)
        except ValueError as error:  # noqa: PERF203 - a few
            problems.append(f"{path.name}: {error}")
        else:
            return path
    raise ValueError("; ".join(problems) or f"{other.root} has none")


def _take(layout: RunLayout, source: Path, step: int) -> None:
    """Put a link to a checkpoint, or a copy of it, into the run directory, durably and all at once.

    The files of a program's checkpoint are copied: its program may write into them again.
    """
    aside, link = temporary(layout, CheckpointName(0, step)), source.is_file()
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        for file in [source] if link else [each for each in source.rglob("*") if each.is_file()]:
            take(file, aside / file.relative_to(source.parent), link=link)
        for directory, _, _ in os.walk(aside):
            files.fsync_directory(Path(directory))
        try:
            aside.rename(layout.parent)
        except OSError:
            if not checkpoints_in(layout.parent):  # else another attempt was sooner
                raise
        files.fsync_directory(layout.root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
