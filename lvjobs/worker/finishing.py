"""The end of a run: the final weights, then the done marker. Each step is durable, fenced and repeatable.

If the worker is killed in between, the newest checkpoint is the run's last step: the next attempt executes no step and
only repeats this.
"""

import os
import shutil
import time
from pathlib import Path

from lvjobs import files, remedies
from lvjobs.errors import LvjobsError
from lvjobs.records.run_files import Done
from lvjobs.study.layout import RunLayout
from lvjobs.worker.checkpoints import Checkpoint, seal, sha256_of, verify
from lvjobs.worker.generation import check_fence


def _saved_files(checkpoint: Checkpoint) -> list[str]:
    # Trees lie at the checkpoint's top level; directories hold the files of Savers.
    return [file for file in checkpoint.manifest.files if "/" in file]


def _is_published(final: Path, checkpoint: Checkpoint) -> bool:
    try:
        manifest = verify(final)
    except (ValueError, OSError):
        return False
    return manifest.step == checkpoint.name.step and set(manifest.files) == set(_saved_files(checkpoint))


def _stage(aside: Path, checkpoint: Checkpoint) -> None:
    aside.mkdir()
    for file in _saved_files(checkpoint):
        copy = aside / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint.path / file, copy)
        if sha256_of(copy) != checkpoint.manifest.files[file]:
            raise LvjobsError(
                f"{checkpoint.path / file} changed after it was written. The run is not finished from it; the next "
                f"attempt begins from an older checkpoint: {remedies.RESUME_RUN(run=aside.parent.name)}"
            )
    seal(aside, checkpoint.name, checkpoint.manifest.metrics)


def publish_final(layout: RunLayout, generation: int, checkpoint: Checkpoint) -> None:
    """Copy the Savers' files to `final/` (with a manifest that names the checkpoint), all at once.

    Raises:
        Superseded: a newer generation has claimed the run; nothing was published.
        LvjobsError: the file system refused, or a file of the checkpoint changed after it was written.
    """
    if _is_published(layout.final, checkpoint):
        return
    owner = f"{generation:06d}.{os.uname().nodename}.{os.getpid()}"
    aside, old = layout.root / f".final.tmp.{owner}", layout.root / f".final.old.{owner}"
    try:
        _stage(aside, checkpoint)
        check_fence(layout, generation)
        if layout.final.exists():  # damaged, or of a configuration that had no Savers: a good one is never replaced
            layout.final.rename(old)
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
        shutil.rmtree(old, ignore_errors=True)


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
    done = Done(generation, checkpoint.name.step, str(checkpoint.name), time.time(), checkpoint.manifest.metrics)
    files.create_exclusive(layout.done, done.to_json())
    return done
