"""The files that Savers wrote, copied out of a checkpoint: for a task that resumes, and at a run's end for `final/`.

The done marker follows `final/`. Each step of a run's end is durable, fenced and repeatable. If the worker is killed in
between, the newest checkpoint is the run's last step: the next attempt executes no step and only repeats this.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lvjobs import files, remedies
from lvjobs.errors import LvjobsError
from lvjobs.records.run_files import MANIFEST, CheckpointName, Done
from lvjobs.study.layout import RunLayout
from lvjobs.worker.checkpoints import Checkpoint, published, temporary
from lvjobs.worker.generation import check_fence
from lvjobs.worker.stored import files_in, open_checkpoint
from lvjobs.worker.tensor_file import sha256_of

Filled = TypeVar("Filled")


def take(source: Path, target: Path, *, link: bool) -> str:
    """Make `target` a hard link or a copy of a file, durably, with the same times; return its SHA-256.

    A file system without hard links gets a copy.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (link and linked(source, target)):
        shutil.copy2(source, target)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return sha256_of(target)


def linked(source: Path, target: Path) -> bool:
    """Make `target` a hard link to `source`; return False if the file system refuses."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def copy_saved(layout: RunLayout, checkpoint: Checkpoint, directory: Path, *, sync: bool = False) -> None:
    """Copy the files that Savers wrote to `directory`, and verify them again; with `sync`, make their content durable.

    Raises:
        LvjobsError: a file changed after it was written.
        OSError: a file cannot be read or written.
    """
    with open_checkpoint(checkpoint.path) as stored:
        for file, written in checkpoint.manifest.saved.items():
            copy, digest = directory / file, hashlib.sha256()
            copy.parent.mkdir(parents=True, exist_ok=True)
            with copy.open("wb") as stream:
                for block in stored.blocks(file):
                    digest.update(block)
                    stream.write(block)
                if sync:
                    stream.flush()
                    os.fsync(stream.fileno())
            if digest.hexdigest() != written:
                raise LvjobsError(
                    f"{file} in {checkpoint.path} changed after it was written. The run does not continue from it; "
                    f"the next attempt starts from an older checkpoint: "
                    f"{remedies.RESUME_RUN(run=layout.root.name)}"
                )


def unpack(layout: RunLayout, generation: int, checkpoint: Checkpoint) -> Path:
    """Return a directory with the files that Savers wrote, for the attempt that resumes from `checkpoint`.

    The files of a checkpoint that is one file are copied, unless this attempt did so before. `sweep_leftovers` deletes
    the copies.

    Raises:
        LvjobsError: a file changed after it was written, or the copy could not be written.
    """
    path, aside = checkpoint.path, temporary(layout, CheckpointName(generation, checkpoint.name.step))
    if path.is_dir():
        return path
    if aside.exists():
        return aside
    try:
        aside.mkdir()
        copy_saved(layout, checkpoint, aside)
    except OSError as error:
        raise LvjobsError(
            f"the checkpoint {path.name} could not be unpacked to {path.parent}: {error}. It is untouched. Free space "
            f"or quota there, then: {remedies.RESUME_RUN(run=layout.root.name)}"
        ) from error
    return aside


def _is_published(final: Path, saved: Mapping[str, str]) -> bool:
    try:
        there = set(files_in(final)) - {MANIFEST}  # older releases wrote one
        return there == set(saved) and all(sha256_of(final / file) == saved[file] for file in saved)
    except (ValueError, OSError):
        return False


def publish_final(layout: RunLayout, generation: int, checkpoint: Checkpoint) -> None:
    """Copy the Savers' files to `final/`, all at once.

    Raises:
        Superseded: a newer generation has claimed the run; nothing was published.
        LvjobsError: the file system refused, or a file of the checkpoint changed after it was written.
    """
    if _is_published(layout.final, checkpoint.manifest.saved):
        return

    def fill(aside: Path) -> None:
        copy_saved(layout, checkpoint, aside, sync=True)

    _publish(layout, CheckpointName(generation, checkpoint.name.step), fill)


def _publish(layout: RunLayout, name: CheckpointName, fill: Callable[[Path], Filled]) -> Filled:
    """Have `fill` write files durably into a new directory, and publish it as `final/`; return what `fill` did.

    Raises:
        Superseded, LvjobsError: see `publish_final`.
    """
    aside = temporary(layout, name)
    try:
        aside.mkdir()
        filled = fill(aside)
        for directory, _, _ in os.walk(aside):
            files.fsync_directory(Path(directory))
        check_fence(layout, name.generation)
        shutil.rmtree(layout.final, ignore_errors=True)  # damaged: a good one is never replaced
        aside.rename(layout.final)
        files.fsync_directory(layout.root)
    except OSError as error:
        check_fence(layout, name.generation)
        raise LvjobsError(
            f"the final weights could not be written to {layout.final}: {error}. The last checkpoint is whole and no "
            f"step has to be repeated. Free space or quota there, then: "
            f"{remedies.RESUME_RUN(run=layout.root.name)}"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return filled


def finish_program(
    layout: RunLayout,
    generation: int,
    step: int,
    work: Path,
    left: Sequence[str],
    metrics: Mapping[str, float],
) -> Done:
    """Publish the files that a program `left` in its directory `work` as `final/`, then the done marker.

    Raises:
        Superseded: a newer generation has claimed the run.
        LvjobsError: the files could not be published. The run's checkpoints are untouched.
    """
    name = CheckpointName(generation, step)

    def fill(aside: Path) -> dict[str, str]:
        return {file: take(work / file, aside / file, link=True) for file in left}

    digests = _publish(layout, name, fill)
    newest = max(published(layout), default=name)
    check_fence(layout, generation)
    done = Done(generation, step, str(newest), time.time(), metrics, digests)
    files.create_exclusive(layout.done, done.to_json())
    return done


def finish(layout: RunLayout, generation: int, checkpoint: Checkpoint) -> Done:
    """Publish the final weights of `checkpoint`, then the done marker. Idempotent.

    Raises:
        Superseded: a newer generation has claimed the run.
        LvjobsError: the final weights could not be written.
    """
    publish_final(layout, generation, checkpoint)
    check_fence(layout, generation)
    name, manifest = checkpoint.name, checkpoint.manifest
    done = Done(generation, name.step, str(name), time.time(), manifest.metrics, manifest.saved)
    files.create_exclusive(layout.done, done.to_json())
    return done
