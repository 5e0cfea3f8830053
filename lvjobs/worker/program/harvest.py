"""The checkpoints of a program, published by lvjobs: whole or not there, also where the program writes in place.

A checkpoint counts once its last file is there (if the run declares one), no process of the run has a file of it open
for writing, every file is whole as far as its format tells (`formats`), and nothing changed while it was taken. Then it
becomes a directory of the run with a manifest, fenced as every checkpoint.

A checkpoint whose name holds the step is taken by hard links, because a program does not write it again. One that is
written in place is copied: the next save would alter a hard link.

    000002-00000500/manifest.json
    000002-00000500/work/out/ckpt.pt       its path in the program's working directory
"""

import os
import shutil
import stat
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from lvjobs.errors import LvjobsError
from lvjobs.records.run_files import CheckpointName, Manifest
from lvjobs.study.program.command import CommandConfig
from lvjobs.study.program.pattern import Pattern
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.program.end import ProgramFailed, wrong_step
from lvjobs.worker.program.formats import flaw_of, shows_its_end
from lvjobs.worker.program.process import files_being_written
from lvjobs.worker.pruning import discard_damaged
from lvjobs.worker.saved_files import take

WORK = "work"
"""The directory in a checkpoint whose files have their paths in the program's working directory."""

_REST_SECONDS = 2.0
"""Seconds for which a directory must not change, if no file in it is known to be the last. After a kill, too: each of
its files may be whole, and the next one missing."""

_SLACK_SECONDS = 0.01
"""Seconds by which a line may be read after it was printed."""

Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""The files of a checkpoint: path in the working directory, bytes, time of the last change (ns), inode."""


def signature_of(work: Path, path: Path) -> Signature:
    """Return the files of a checkpoint, sorted, without the links in a directory. Raises OSError if it goes away."""
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = []
    for each in paths:
        status = each.stat() if each == path else each.lstat()
        if stat.S_ISREG(status.st_mode):
            found.append((each.relative_to(work).as_posix(), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)


def lay_out(checkpoint: Path, manifest: Manifest, work: Path) -> None:
    """Copy the files of a published checkpoint back to where the program wrote them, which may write to them again."""
    for file in manifest.files:
        target = work / Path(file).relative_to(WORK)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkpoint / file, target)


class Harvest:
    """The checkpoints that one attempt takes from its program."""

    def __init__(self, attempt: Attempt, config: CommandConfig, work: Path, values: Mapping[str, Any]) -> None:
        self.pattern = Pattern.of(config, values)
        self._attempt, self._complete, self._work = attempt, config.complete, work
        self._taken: dict[Path, Signature] = {}
        self._resting: dict[Path, tuple[float, Signature]] = {}
        self._reached: deque[tuple[float, int]] = deque([(0.0, attempt.step)], maxlen=10_000)
        self._reports_steps = False
        self.files_being_written: Callable[[Path], set[Path]] = files_being_written  # of this node, or of all
        self.read_reports: Callable[[], None] = lambda: None
        """Journal what the program has reported: the steps in a checkpoint are journaled before it is published."""
        self.is_waiting = False
        """True if the last scan found a checkpoint that was still being written."""
        self.problem = ""
        """Why the newest checkpoint was not taken, if it was not."""

    def note_step(self, when: float, step: int) -> None:
        """Note that a step was reported at `when` (seconds since the epoch)."""
        self._reached.append((when, step))
        self._reports_steps = True

    def adopt(self, origin: Path) -> None:
        """Publish a checkpoint that exists already, a file or a directory, as the run's first one, and begin from it.

        Raises:
            LvjobsError: it cannot be read, or is not whole.
        """
        assert self.pattern is not None
        place = self.pattern.place_of(origin.name)
        found = self.pattern.expression.fullmatch(place)
        step = (self.pattern.step(found) if found else None) or 0
        copy = self._work / place
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if origin.is_dir() else shutil.copy2)(origin, copy)
            before = signature_of(self._work, copy)
            self._attempt.publish_harvested(step, partial(self._copy, path=copy, before=before, link=False))
        except (OSError, ValueError) as error:
            raise LvjobsError(
                f"the run cannot begin from {origin}: {error}. Correct from_checkpoint, and submit it again"
            ) from None
        remove(copy)
        self._attempt.begin_from_newest()

    def lay_out(self) -> Path | None:
        """Lay out the checkpoint that the attempt resumes from; return its path in the working directory."""
        found = self._attempt.found
        if found is None or self.pattern is None:
            return None
        lay_out(found.path, found.manifest, self._work)
        for _, path in self.pattern.paths(self._work):
            self._taken[path] = signature_of(self._work, path)
            return path.relative_to(self._work)
        return None

    def scan(self, *, finished: bool = False, killed: bool = False) -> bool:
        """Publish the whole checkpoints that are new; return whether there was one.

        `finished`: all processes of the program have ended, so nothing changes any more. `killed`: it may have been
        in the middle of a checkpoint, and no open file tells any more.

        Raises:
            Superseded, LvjobsError: see `Attempt.checkpoint`.
        """
        found = self.is_waiting = False
        for step, path in self.pattern.paths(self._work) if self.pattern else ():
            with suppress(FileNotFoundError):  # the program deleted or replaced it
                now = signature_of(self._work, path)
                is_new = now and now != self._taken.get(path)
                if is_new and self._is_settled(path, now, finished=finished, killed=killed):
                    found |= self._take(path, step, now)
        return found

    def _is_settled(self, path: Path, now: Signature, *, finished: bool, killed: bool) -> bool:
        """Return whether a checkpoint shows by itself where it ends, or has not changed for some time."""
        rests = self._rests(path, now)
        if self._complete or (finished and not killed):
            return True
        if path.is_dir():
            return rests
        if killed and not rests and not shows_its_end(path):
            self.problem = f"{path.name} was written just before the program was killed, and may be torn"
            return False
        return True

    def _rests(self, path: Path, now: Signature) -> bool:
        since, before = self._resting.setdefault(path, (time.monotonic(), now))
        if before != now:
            self._resting[path] = time.monotonic(), now
            return False
        return time.monotonic() - since >= _REST_SECONDS

    def _take(self, path: Path, step: int | None, now: Signature) -> bool:
        if self._complete and not (path / self._complete).exists():
            self.problem = f"{path.name} has no {self._complete}"
            return False
        if open_files := self.files_being_written(path.resolve()):  # /proc shows no symbolic links
            self.problem, self.is_waiting = f"{min(open_files).name} is still being written", True
            self._resting.pop(path, None)
            return False
        self.read_reports()
        in_place = self.pattern is not None and self.pattern.is_in_place
        if step is None:
            step = self._step_at(max(changed for *_, changed, _ in now))
        elif step > (most := self._attempt.config.steps + self._attempt.config.checkpoint_every):
            raise ProgramFailed(wrong_step(path.name, step, most))
        elif not self._reports_steps and step > self._attempt.logged:  # nothing else shows that they were executed
            self._attempt.advance(step, {})
        if step <= 0:
            self.problem = f"{path.name} was written before a step was reported, so its step is unknown"
            return False

        if {inode for *_, inode in now} & {inode for *_, inode in self._taken.get(path, ())} and not in_place:
            discard_damaged(self._attempt.layout, CheckpointName(self._attempt.generation, step))
        try:
            fill_it = partial(self._copy, path=path, before=now, link=not in_place and not path.is_symlink())
            published = self._attempt.publish_harvested(step, fill_it)
        except ValueError as error:
            self.problem = str(error)
            return False
        self._taken[path], self.problem = now, ""
        return published

    def _copy(self, directory: Path, *, path: Path, before: Signature, link: bool) -> dict[str, str]:
        """Take all files of a checkpoint. Raises ValueError if it is not whole, or changed meanwhile."""
        digests = {}
        try:
            for name, *_ in before:
                target = directory / WORK / name
                digests[f"{WORK}/{name}"] = take(self._work / name, target, link=link)
                if flaw := flaw_of(target):
                    raise ValueError(f"{name} is incomplete ({flaw})")
            now = signature_of(self._work, path)
        except FileNotFoundError:
            now = ()
        if now != before:
            raise ValueError(f"{path.name} changed while it was taken")
        return digests

    def _step_at(self, changed_ns: int) -> int:
        """Return the step of a checkpoint that has none in its name: the last one reported before it changed.

        If a multiple of `checkpoint_every` comes next, it is that one: many programs save before they print. That does
        not hold once the program was asked to stop: it may save at any step.
        """
        every = self._attempt.config.checkpoint_every
        steps = [step for when, step in self._reached if when <= changed_ns / 1e9 + _SLACK_SECONDS][-2:]
        steps = steps or [self._reached[0][1]]  # older than all that is kept: a copy of a file keeps the file's time
        last, gap = steps[-1], max(1, steps[-1] - steps[0])
        due = (last // every + 1) * every
        return due if due - last <= gap and last % every and self._attempt.reason is None else last


def remove(path: Path) -> None:
    """Delete a file or a directory."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def outputs(work: Path, pattern: Pattern | None, private: Collection[str]) -> list[str]:
    """Return what a program leaves when it is done: the paths of its files in its working directory.

    Left out are links (to the code, and to data), caches, `private` names, and all of its checkpoints but the newest.
    """
    older = [path for _, path in pattern.paths(work)[:-1]] if pattern else []
    found = []
    for directory, names, files in os.walk(work):
        here = Path(directory)
        names[:] = sorted(
            name
            for name in names
            if name not in private and here / name not in older and not (here / name).is_symlink()
        )
        for name in sorted(files):
            path = here / name
            if name not in private and path not in older and stat.S_ISREG(path.lstat().st_mode):
                found.append(path.relative_to(work).as_posix())
    return found
