"""The files that Savers wrote, copied out of a checkpoint: for a task that resumes, and at a run's end for `final/`.

The done marker follows `final/`. Each step of a run's end is durable, fenced and repeatable. If the worker is killed in
between, the newest checkpoint is the run's last step: the next attempt executes no step and only repeats this.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from lvjobs import files, remedies
from lvjobs.errors import LvjobsError
from lvjobs.records.run_files import MANIFEST, CheckpointName, Done
from lvjobs.study.layout import RunLayout
from lvjobs.worker.checkpoints import Checkpoint, temporary
from lvjobs.worker.generation import check_fence
from lvjobs.worker.stored import files_in, open_checkpoint
from lvjobs.worker.tensor_file import sha256_of


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
                    f"{file} in {checkpoint.path} changed after it was written. The run does not go on from it; the "
                    f"next attempt begins from an older checkpoint: {remedies.RESUME_RUN(run=layout.root.name)}"
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
    aside = temporary(layout, CheckpointName(generation, checkpoint.name.step))
    try:
        aside.mkdir()
        copy_saved(layout, checkpoint, aside, sync=True)
        for directory, _, _ in os.walk(aside):
            files.fsync_directory(Path(directory))
        check_fence(layout, generation)
        shutil.rmtree(layout.final, ignore_errors=True)  # damaged: a good one is never replaced
        aside.rename(layout.final)
        files.fsync_directory(layout.root)
    except OSError as error:
        check_fence(layout, generation)
        raise LvjobsError(
            f"the final weights could not be written to {layout.final}: {error}. The last checkpoint is whole and no "
            f"step has to be repeated. Free space or quota there, then: "
            f"{remedies.RESUME_RUN(run=layout.root.name)}"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
