"""The adapter in a checkpoint, copied to a directory of its own: PEFT reads directories."""

import shutil
from pathlib import Path

from lvjobs.errors import UsageError
from lvjobs.files import aside_of
from lvjobs.study.layout import RunLayout
from lvjobs.worker.checkpoints import verify
from lvjobs.worker.saved_files import copy_saved


def unpack_adapter(checkpoint: Path, adapters: Path) -> Path:
    """Return a directory below `adapters` with what the checkpoint file holds. It is copied once.

    Raises:
        UsageError: the file is no checkpoint, or is damaged.
    """
    try:
        found = verify(checkpoint)
    except ValueError as error:
        raise UsageError(f"{checkpoint} is not a checkpoint that can be used: {error}") from None
    directory = adapters / f"{found.name}-{found.sha256[:16]}"
    if not directory.exists():
        aside = aside_of(directory)
        try:
            aside.mkdir(parents=True)
            copy_saved(RunLayout(checkpoint.parent), found, aside)
            aside.rename(directory)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return directory / "adapter"
