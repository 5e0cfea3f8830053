"""The choice of checkpoints to keep: the last ones and the best. The newest is durable before any other is deleted."""

import math
import re
import shutil
from collections.abc import Collection, Mapping

from lvjobs.records.curves import LOSSES
from lvjobs.records.run_files import MANIFEST, CheckpointName, Manifest
from lvjobs.study.layout import RunLayout
from lvjobs.worker.checkpoints import published, temporary
from lvjobs.worker.generation import check_fence

VALIDATION_LOSSES = tuple(f"validation_{name}" for name in LOSSES)
"""The manifest's metrics that rank checkpoints: of the validation at the same step. The first one present counts."""

_LEFTOVER = re.compile(r"\.(\d{6})-\d{8}\.tmp\.")


def decide_prune(
    names: Collection[CheckpointName],
    losses: Mapping[CheckpointName, float],
    invalid: Collection[CheckpointName],
    *,
    keep_last: int,
    keep_best: bool,
) -> list[CheckpointName]:
    """Return the checkpoints to delete. Damaged ones do not count among the last `keep_last`. Pure."""
    sound = sorted(set(names) - set(invalid))
    keep = set(sound[-keep_last:])
    scored = [(losses[name], name) for name in sound if name in losses and math.isfinite(losses[name])]
    if keep_best and scored:
        keep.add(min(scored)[1])
    return sorted(set(names) - keep)


def _validation_loss(layout: RunLayout, name: CheckpointName) -> float | None:
    try:
        text = (layout.steps / str(name) / MANIFEST).read_text(encoding="utf-8")
        metrics = Manifest.from_json(text).metrics
    except (OSError, ValueError, AttributeError):
        return None
    return next((metrics[metric] for metric in VALIDATION_LOSSES if metric in metrics), None)


def prune(
    layout: RunLayout, generation: int, invalid: Collection[CheckpointName], *, keep_last: int, keep_best: bool
) -> None:
    """Delete what `decide_prune` returns. Call it after a checkpoint of `generation` was published.

    Raises:
        Superseded: a newer generation has claimed the run; nothing was deleted.
    """
    names = [name for name in published(layout) if name.generation <= generation]
    losses = {name: loss for name in names if (loss := _validation_loss(layout, name)) is not None}
    surplus = decide_prune(names, losses, invalid, keep_last=keep_last, keep_best=keep_best)
    if surplus:
        check_fence(layout, generation)
    for name in surplus:
        aside = temporary(layout, name)
        try:
            # Moved first: a checkpoint that is half deleted would look damaged.
            (layout.steps / str(name)).rename(aside)
        except OSError:
            continue  # gone already, or owned by another user: leftover files are no reason to end a run
        shutil.rmtree(aside, ignore_errors=True)


def sweep_leftovers(layout: RunLayout, generation: int) -> None:
    """Delete what older generations left half written or half deleted. An orphan that still writes then fails."""
    if not layout.steps.is_dir():
        return
    for path in layout.steps.iterdir():
        match = _LEFTOVER.match(path.name)
        if match and int(match[1]) < generation:
            shutil.rmtree(path, ignore_errors=True)
