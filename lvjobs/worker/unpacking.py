"""The files that Savers wrote, copied out of a checkpoint: for a task that resumes, and for `final/`."""

import hashlib
import os
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import LvjobsError
from lvjobs.records.run_files import CheckpointName
from lvjobs.study.layout import RunLayout
from lvjobs.worker.checkpoints import Checkpoint, temporary
from lvjobs.worker.stored import open_checkpoint


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
