"""The deletion of old checkpoints: the last ones and the best are kept."""

import math
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from lvjobs.records.curves import LOSSES
from lvjobs.records.run_files import CheckpointName
from lvjobs.study.layout import RunLayout
from lvjobs.worker.checkpoints import published, temporary, verify
from lvjobs.worker.generation import check_fence
from lvjobs.worker.stored import open_checkpoint

VALIDATION_ERRORS = tuple(f"validation_{name}" for name in ("mae", *LOSSES))
"""The manifest's metrics that rank checkpoints: of the validation at the same step. The first one present counts."""


def decide_prune(
    names: Collection[CheckpointName],
    losses: Mapping[CheckpointName, float],
    invalid: Collection[CheckpointName],
    *,
    keep_last: int,
    keep_best: bool,
    stable: int = 0,
) -> list[CheckpointName]:
    """Return the checkpoints to delete. Damaged ones do not count among the last `keep_last`. Pure.

    Those of the step `stable` stay: a longer run may continue from them (`Task.stable_until`).
    """
    sound = sorted(set(names) - set(invalid))
    keep = set(sound[-keep_last:]) | {name for name in sound if name.step == stable}
    scored = [(losses[name], name) for name in sound if name in losses and math.isfinite(losses[name])]
    if keep_best and scored:
        keep.add(min(scored)[1])
    return sorted(set(names) - keep)


def _validation_error(path: Path) -> float | None:
    try:
        with open_checkpoint(path) as stored:
            metrics = stored.manifest.metrics
    except (OSError, ValueError, AttributeError, KeyError):
        return None
    return next((metrics[metric] for metric in VALIDATION_ERRORS if metric in metrics), None)


def prune(
    layout: RunLayout,
    generation: int,
    invalid: Collection[CheckpointName],
    *,
    keep_last: int,
    keep_best: bool,
    stable: int = 0,
) -> None:
    """Delete what `decide_prune` returns. Call it after a checkpoint of `generation` was published.

    Raises:
        Superseded: a newer generation has claimed the run; nothing was deleted.
    """
    paths = {name: path for name, path in published(layout).items() if name.generation <= generation}
    losses = {name: loss for name, path in paths.items() if (loss := _validation_error(path)) is not None}
    surplus = decide_prune(paths, losses, invalid, keep_last=keep_last, keep_best=keep_best, stable=stable)
    if surplus:
        check_fence(layout, generation)
    for name in surplus:
        # It may be gone already, or owned by another user: leftover files are no reason to end a run.
        with suppress(OSError):
            _delete(paths[name], temporary(layout, name))


def discard_damaged(layout: RunLayout, name: CheckpointName) -> None:
    """Delete a checkpoint if it is damaged: its program wrote again into files to which it has hard links.

    Raises:
        Superseded: a newer generation has claimed the run; nothing was deleted.
        OSError: the checkpoint cannot be read.
    """
    path = published(layout).get(name)
    if path is None:
        return
    try:
        verify(path)
    except ValueError:
        check_fence(layout, name.generation)
        _delete(path, temporary(layout, name))


def _delete(path: Path, aside: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    path.rename(aside)  # a directory that is half deleted would look damaged
    shutil.rmtree(aside, ignore_errors=True)
