"""The end of a run: the final weights, then the done marker. Each step is durable, fenced and repeatable.

If the worker is killed in between, the newest checkpoint is the run's last step: the next attempt executes no step and
only repeats this.
"""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from lvjobs import files, remedies
from lvjobs.errors import LvjobsError
from lvjobs.records.run_files import MANIFEST, Done
from lvjobs.study.layout import RunLayout
from lvjobs.worker.checkpoints import Checkpoint
from lvjobs.worker.generation import check_fence
from lvjobs.worker.stored import files_in
from lvjobs.worker.tensor_file import sha256_of
from lvjobs.worker.unpacking import copy_saved


def _is_published(final: Path, saved: Mapping[str, str]) -> bool:
    try:
        there = set(files_in(final)) - {MANIFEST}  # older releases wrote one
        return there == set(saved) and all(sha256_of(final / file) == saved[file] for file in saved)
    except (ValueError, OSError):
        return False


def _stage(layout: RunLayout, aside: Path, checkpoint: Checkpoint) -> None:
    aside.mkdir()
    copy_saved(layout, checkpoint, aside, sync=True)
    for directory, _, _ in os.walk(aside):
        files.fsync_directory(Path(directory))


def publish_final(layout: RunLayout, generation: int, checkpoint: Checkpoint) -> None:
    """Copy the Savers' files to `final/`, all at once.

    Raises:
        Superseded: a newer generation has claimed the run; nothing was published.
        LvjobsError: the file system refused, or a file of the checkpoint changed after it was written.
    """
    if _is_published(layout.final, checkpoint.manifest.saved):
        return
    aside = layout.root / f".final.tmp.{generation:06d}.{os.uname().nodename}.{os.getpid()}"
    try:
        _stage(layout, aside, checkpoint)
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


def _delete_leftovers(layout: RunLayout, generation: int) -> None:
    for path in layout.root.glob(".final.*"):
        owner = path.name.split(".")[3]
        if owner.isdecimal() and int(owner) < generation:
            shutil.rmtree(path, ignore_errors=True)


def finish(layout: RunLayout, generation: int, checkpoint: Checkpoint) -> Done:
    """Publish the final weights of `checkpoint`, then the done marker. Idempotent.

    Raises:
        Superseded: a newer generation has claimed the run.
        LvjobsError: the final weights could not be written.
    """
    _delete_leftovers(layout, generation)
    publish_final(layout, generation, checkpoint)
    check_fence(layout, generation)
    name, manifest = checkpoint.name, checkpoint.manifest
    done = Done(generation, name.step, str(name), time.time(), manifest.metrics, manifest.saved)
    files.create_exclusive(layout.done, done.to_json())
    return done
