"""Checkpoints: written as a whole or not at all.

A checkpoint is one file, or a directory if another program wrote it (see lvjobs.worker.stored). It is written aside and
fsynced. If no newer generation has claimed the run, it is then renamed to `<generation>-<step>.safetensors`, or to
`<generation>-<step>`. A resume uses the newest checkpoint whose checksums hold. The newest is durable before any other
is deleted (`lvjobs.worker.pruning`).

    000002-00000500.safetensors       a checkpoint
    .000002-00000750.tmp.HOST.PID/    one that is being written, or left over from a process that was killed
"""

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvjobs import files, remedies
from lvjobs.errors import LvjobsError
from lvjobs.records.run_files import CHECKPOINT_SUFFIX, MANIFEST, CheckpointName, Manifest, parse_checkpoint_name
from lvjobs.study.layout import RunLayout
from lvjobs.worker.generation import check_fence
from lvjobs.worker.interface import State
from lvjobs.worker.journal import Chain
from lvjobs.worker.stored import open_checkpoint, write_file

RNG = "_rng"

_STATE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
"""Errors about the file itself. Any other error means that the file system is not available."""

_READS, _READ_AGAIN_SECONDS = 4, 5.0

_LEFTOVER = re.compile(r"\.(\d{6})-\d{8}\.tmp\.")


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint whose checksums held when it was verified."""

    name: CheckpointName
    path: Path
    manifest: Manifest
    sha256: str = ""
    """The hash that the next checkpoint's manifest names as its parent."""


def temporary(layout: RunLayout, name: CheckpointName) -> Path:
    """Return a directory in which files are written before they are published, or moved before they are deleted.

    It is for a checkpoint, for a copy of its files, and for `final/`. `sweep_leftovers` deletes what is left of it.
    """
    return layout.steps / f".{name}.tmp.{os.uname().nodename}.{os.getpid()}"


def published(layout: RunLayout) -> dict[CheckpointName, Path]:
    """Return the names and paths of all checkpoints of a run, valid or not, oldest first."""
    return checkpoints_in(layout.steps)


def checkpoints_in(directory: Path) -> dict[CheckpointName, Path]:
    """Return the names and paths of the checkpoints in a directory, oldest first; none if there is no directory."""
    try:
        named = {parse_checkpoint_name(path.name): path for path in directory.iterdir()}
    except FileNotFoundError:
        return {}
    return {name: named[name] for name in sorted(name for name in named if name is not None)}


def verify(path: Path) -> Checkpoint:
    """Return the checkpoint at `path` if every byte is what was written.

    Raises:
        ValueError: something is missing, unexpected or changed; the message names it.
        OSError: the file system does not hand out a file now, so nothing is known.
    """
    name = parse_checkpoint_name(path.name)
    try:
        with open_checkpoint(path) as stored:
            manifest = stored.manifest
            digest = stored.verify(manifest.files)
    except (OSError, UnicodeDecodeError, AttributeError, TypeError, KeyError) as error:
        if isinstance(error, OSError) and error.errno not in _NOT_THERE:
            raise
        raise ValueError(f"{type(error).__name__}: {error}") from None
    own = CheckpointName(manifest.generation, manifest.step)
    if own != name:
        raise ValueError(f"its manifest is of {own}")
    return Checkpoint(own, path, manifest, digest)


def find_newest_valid(
    layout: RunLayout, below: int | None = None
) -> tuple[Checkpoint | None, dict[CheckpointName, str]]:
    """Return the newest checkpoint whose checksums hold, and what is damaged in each newer one, which was skipped.

    With `below`, only checkpoints of earlier steps count.

    Raises:
        LvjobsError: a checkpoint cannot be read, even some seconds later. It may be good, so no step is trained without
            it.
    """
    invalid: dict[CheckpointName, str] = {}
    for name, path in reversed(published(layout).items()):
        if below is not None and name.step >= below:
            continue
        try:
            return verify_patiently(path, layout.root.name), invalid
        except ValueError as error:
            invalid[name] = str(error)
    return None, invalid


def verify_patiently(path: Path, run: str) -> Checkpoint:
    """Return the checkpoint as `verify` does; wait some seconds for a file system that does not answer.

    Raises:
        ValueError: see `verify`.
        LvjobsError: the checkpoint of `run` cannot be read, and may be good.
    """
    for _ in range(_READS - 1):
        try:
            return verify(path)
        except OSError:  # noqa: PERF203 - a few
            time.sleep(_READ_AGAIN_SECONDS)
    try:
        return verify(path)
    except OSError as error:
        raise LvjobsError(
            f"{path} cannot be read ({error.strerror}); it may be valid, so the run does not continue without it: "
            f"check the disk, then: "
            f"{remedies.RESUME_RUN(run=run)}"
        ) from None


def write_checkpoint(
    layout: RunLayout,
    name: CheckpointName,
    state: State,
    metrics: Mapping[str, float],
    chain: Chain | None = None,
    **marks: Any,
) -> tuple[Path, int]:
    """Publish `state` under `name`; return its path and its size in bytes (0 if it existed: then it is left alone).

    `chain` ties it to what came before, and is continued by it. `marks` are the manifest's `final` and `processes`.

    Raises:
        Superseded: a newer generation has claimed the run; nothing was published.
        LvjobsError: it could not be written (a full disk, a quota); the earlier checkpoints are untouched.
    """

    def write(aside: Path, manifest: Manifest) -> tuple[Path, str, int]:
        written, digest = _write_aside(aside, manifest, state)
        return written, digest, written.stat().st_size

    return _publish(
        layout, name, CHECKPOINT_SUFFIX, write, Manifest(name.generation, name.step, {}, metrics, **marks), chain
    )


def write_directory(
    layout: RunLayout,
    name: CheckpointName,
    fill: Callable[[Path], dict[str, str]],
    metrics: Mapping[str, float],
    chain: Chain,
    processes: int = 1,
) -> tuple[Path, int]:
    """Publish a checkpoint of another program, a directory with a manifest; return the same as `write_checkpoint`.

    `fill` copies the files into a new directory, durably, and returns the SHA-256 of each by its relative path.
    `processes` is how many trained together.

    Raises:
        Superseded, LvjobsError: see `write_checkpoint`.
        ValueError: from `fill`; nothing was published.
    """

    def write(aside: Path, manifest: Manifest) -> tuple[Path, str, int]:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        text = replace(manifest, files=fill(aside)).to_json()
        files.write_atomic(aside / MANIFEST, text)
        for directory, _, _ in os.walk(aside):
            files.fsync_directory(Path(directory))
        size = sum(path.stat().st_size for path in aside.rglob("*") if path.is_file())
        return aside, hashlib.sha256(text.encode()).hexdigest(), size

    return _publish(
        layout, name, "", write, Manifest(name.generation, name.step, {}, metrics, processes=processes), chain
    )


def _publish(
    layout: RunLayout,
    name: CheckpointName,
    suffix: str,
    write: Callable[[Path, Manifest], tuple[Path, str, int]],
    manifest: Manifest,
    chain: Chain | None,
) -> tuple[Path, int]:
    """Have `write` write the checkpoint aside (it returns where, its hash and its bytes), and rename it."""
    path, aside = layout.steps / f"{name}{suffix}", temporary(layout, name)
    if path.exists():
        return path, 0
    check_fence(layout, name.generation)  # before the work, so that an orphan does not fill the disk
    try:
        files.make_directory(layout.steps)
        marks = chain.marks() if chain else {}
        written, digest, size = write(aside, replace(manifest, time=time.time(), **marks))
        check_fence(layout, name.generation)
        written.rename(path)
        files.fsync_directory(layout.steps)
    except _write_errors() as error:
        # The successor may have deleted the files that an orphan was writing.
        check_fence(layout, name.generation)
        raise LvjobsError(
            f"the checkpoint of step {name.step} could not be written to {layout.steps}: {error}. The older "
            f"checkpoints are untouched, and the run continues from them. Free space or quota there (lower keep_last), "
            f"then: {remedies.RESUME_RUN(run=layout.root.name)}"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if chain:
        chain.parent = digest
    return path, size


def _write_errors() -> tuple[type[Exception], ...]:
    import safetensors  # only after an error, for Savers that use it: a task without tensors never loads it

    return (OSError, safetensors.SafetensorError)


def _write_aside(aside: Path, manifest: Manifest, state: State) -> tuple[Path, str]:
    from lvjobs.worker import determinism

    shutil.rmtree(aside, ignore_errors=True)
    saved, path = aside / "saved", aside / "checkpoint"
    saved.mkdir(parents=True)
    rng = determinism.capture_rng()
    trees = {key: value for key, value in state.items() if not callable(value)}
    for key, value in state.items():
        if not _STATE_NAME.match(key):
            raise ValueError(
                f"{key!r} cannot name a part of a checkpoint: use 1 to 64 letters, digits, '-', '_', beginning with a "
                "letter"
            )
        if callable(value):
            if hasattr(value, "state_dict"):
                raise TypeError(
                    f"{key} is a {type(value).__name__}: pass its state_dict(), or a function that saves it"
                )
            (saved / key).mkdir()
            value(saved / key)
    digest = write_file(path, manifest, {**trees, RNG: rng}, saved)
    # A Saver may draw random numbers. Without this, a run that checkpoints would differ from one that does not.
    determinism.restore_rng(rng)
    return path, digest


def sweep_leftovers(layout: RunLayout, generation: int) -> None:
    """Delete what older generations left half written or half deleted. An orphan that still writes then fails."""
    if not layout.steps.is_dir():
        return
    for path in layout.steps.iterdir():
        match = _LEFTOVER.match(path.name)
        if match and int(match[1]) < generation:
            shutil.rmtree(path, ignore_errors=True)
