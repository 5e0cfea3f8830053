"""Checkpoints: written as a whole or not at all; the last ones and the best are kept.

A checkpoint is written aside, every file fsynced and hashed, the manifest last. If no newer generation has claimed the
run, it is then renamed to `<generation>-<step>`. A resume uses the newest checkpoint whose checksums hold. The newest
is durable before any other is deleted.

    steps/000002-00000500/
      manifest.json
      adapter/...                       files of the Saver called `adapter`
      _state.tree.json, .safetensors    the trees, and the RNG states (see lvjobs.worker.state)
    steps/.000002-00000750.tmp.HOST.PID being written, or left over from a process that was killed
"""

import errno
import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs import files, remedies
from lvjobs.errors import LvjobsError
from lvjobs.records.curves import LOSSES
from lvjobs.records.run_files import MANIFEST, CheckpointName, Manifest, parse_checkpoint_name
from lvjobs.study.layout import RunLayout
from lvjobs.worker.generation import check_fence
from lvjobs.worker.interface import State

RNG = "_rng"

_STATE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")
_BLOCK = 1 << 20

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
"""Errors about the file itself. Any other error means that the file system is not available."""

_READS, _READ_AGAIN_SECONDS = 4, 5.0

VALIDATION_LOSSES = tuple(f"validation_{name}" for name in LOSSES)
"""The manifest's metrics that rank checkpoints: of the validation at the same step. The first one present counts."""

_LEFTOVER = re.compile(r"\.(\d{6})-\d{8}\.tmp\.")


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint whose checksums held when it was verified."""

    name: CheckpointName
    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class InvalidCheckpoint:
    """A checkpoint that was published and is damaged now."""

    name: CheckpointName
    problem: str


def temporary(layout: RunLayout, name: CheckpointName) -> Path:
    """Return the directory in which a checkpoint is written before it is published, or moved before it is deleted."""
    return layout.steps / f".{name}.tmp.{os.uname().nodename}.{os.getpid()}"


def published(layout: RunLayout) -> list[CheckpointName]:
    """Return the names of all checkpoints, valid or not, oldest first."""
    try:
        names = [parse_checkpoint_name(path.name) for path in layout.steps.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name is not None)


def _files(directory: Path) -> Iterator[str]:
    for root, directories, names in os.walk(directory):
        for name in sorted(names + directories):
            path = Path(root, name)
            if path.is_symlink():
                raise ValueError(f"{path}: a checkpoint holds no symbolic links; write a file")
            if path.is_file():
                yield path.relative_to(directory).as_posix()


def sha256_of(path: Path, *, sync: bool = False) -> str:
    """Return the file's SHA-256 in hex; with `sync`, make the file durable as well."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
        if sync:
            os.fsync(stream.fileno())
    return digest.hexdigest()


def seal(
    directory: Path, name: CheckpointName, metrics: Mapping[str, float], *, final: bool = False, processes: int = 1
) -> None:
    """Make everything in `directory` durable and write the manifest last."""
    hashes = {file: sha256_of(directory / file, sync=True) for file in sorted(_files(directory))}
    manifest = Manifest(name.generation, name.step, hashes, metrics, time.time(), final, processes)
    for parent, _, _ in os.walk(directory):
        files.fsync_directory(Path(parent))
    files.write_atomic(directory / MANIFEST, manifest.to_json())


def verify(directory: Path) -> Manifest:
    """Return the manifest of `directory` if every file exists and has the hash that was written.

    Raises:
        ValueError: a file is missing, unexpected or changed; the message names it.
        OSError: the file system does not hand out a file now, so nothing is known.
    """
    try:
        manifest = Manifest.from_json((directory / MANIFEST).read_text(encoding="utf-8"))
        there = set(_files(directory)) - {MANIFEST}
        if there != set(manifest.files):
            odd = sorted(there ^ set(manifest.files))
            raise ValueError(f"{odd[0]} is {'not in the manifest' if odd[0] in there else 'missing'}")
        for file, digest in manifest.files.items():
            if sha256_of(directory / file) != digest:
                raise ValueError(f"{file} is not what was written (its SHA-256 differs)")
    except (OSError, UnicodeDecodeError, AttributeError, TypeError) as error:
        if isinstance(error, OSError) and error.errno not in _NOT_THERE:
            raise
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return manifest


def find_newest_valid(layout: RunLayout) -> tuple[Checkpoint | None, list[InvalidCheckpoint]]:
    """Return the newest checkpoint whose checksums hold, and the newer ones that were skipped as damaged.

    Raises:
        LvjobsError: a checkpoint cannot be read, even some seconds later. It may be good, so no step is trained without
            it.
    """
    invalid: list[InvalidCheckpoint] = []
    for name in reversed(published(layout)):
        path = layout.steps / str(name)
        try:
            manifest = _verify_patiently(path)
            if (manifest.generation, manifest.step) != (name.generation, name.step):
                raise ValueError(f"its manifest is of {CheckpointName(manifest.generation, manifest.step)}")  # noqa: TRY301
            return Checkpoint(name, path, manifest), invalid
        except ValueError as error:
            invalid.append(InvalidCheckpoint(name, str(error)))
    return None, invalid


def _verify_patiently(path: Path) -> Manifest:
    for _ in range(_READS - 1):
        try:
            return verify(path)
        except OSError:  # noqa: PERF203 - a few
            time.sleep(_READ_AGAIN_SECONDS)
    try:
        return verify(path)
    except OSError as error:
        raise LvjobsError(
            f"{path} cannot be read ({error.strerror}); it may be good, so the run does not go on without it: see that "
            f"the disk is there, then: {remedies.RESUME_RUN(run=path.parent.parent.name)}"
        ) from None


def write_checkpoint(
    layout: RunLayout, name: CheckpointName, state: State, metrics: Mapping[str, float], **marks: Any
) -> tuple[Path, int]:
    """Publish `state` under `name`; return its path and its size in bytes (0 if it existed: then it is left alone).

    `marks` are the manifest's `final` and `processes`.

    Raises:
        Superseded: a newer generation has claimed the run; nothing was published.
        LvjobsError: it could not be written (a full disk, a quota); the earlier checkpoints are untouched.
    """
    path, aside = layout.steps / str(name), temporary(layout, name)
    if path.exists():
        return path, 0
    check_fence(layout, name.generation)  # before the work, so that an orphan does not fill the disk
    try:
        files.make_directory(layout.steps)
        size = _write_aside(aside, name, state, metrics, marks)
        check_fence(layout, name.generation)
        aside.rename(path)
        files.fsync_directory(layout.steps)
    except _write_errors() as error:
        # The successor may have deleted the files that an orphan was writing.
        check_fence(layout, name.generation)
        raise LvjobsError(
            f"the checkpoint of step {name.step} could not be written to {layout.steps}: {error}. The older "
            f"checkpoints are untouched and the run goes on from them. Free space or quota there (lower keep_last), "
            f"then: {remedies.RESUME_RUN(run=layout.root.name)}"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path, size


def _write_errors() -> tuple[type[Exception], ...]:
    import safetensors  # only after an error: a task without tensors never loads it

    return (OSError, safetensors.SafetensorError)


def _write_aside(
    aside: Path, name: CheckpointName, state: State, metrics: Mapping[str, float], marks: Mapping[str, Any]
) -> int:
    from lvjobs.worker import determinism
    from lvjobs.worker.state import save_trees

    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    rng = determinism.capture_rng()
    trees = {key: value for key, value in state.items() if not callable(value)}
    for key, value in state.items():
        if not _STATE_NAME.match(key):
            raise ValueError(
                f"{key!r} cannot name a part of a checkpoint: use 1 to 64 letters, digits, '-', '_', beginning with a "
                "letter"
            )
        if callable(value):
            _call_saver(key, value, aside / key)
    save_trees(aside, {**trees, RNG: rng})
    # A Saver may draw random numbers. Without this, a run that checkpoints would differ from one that does not.
    determinism.restore_rng(rng)
    seal(aside, name, metrics, **marks)
    return sum((aside / file).stat().st_size for file in _files(aside))


def _call_saver(key: str, saver: Callable[[Path], Any], directory: Path) -> None:
    if hasattr(saver, "state_dict"):
        raise TypeError(f"{key} is a {type(saver).__name__}: pass its state_dict(), or a function that saves it")
    directory.mkdir()
    saver(directory)


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
