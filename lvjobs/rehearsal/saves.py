"""The moment in which a program writes a checkpoint, as another process sees it."""

import os
import re
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lvjobs.processes import files_written_by
from lvjobs.rehearsal.processes import RunProcesses, carry_on, kill, stop
from lvjobs.study.layout import RunLayout
from lvjobs.study.program.command import CommandConfig
from lvjobs.study.program.pattern import Pattern
from lvjobs.study.program.placeholders import BUILT_IN
from lvjobs.study.run import RunConfig, read_params

_LOOKS = 100
"""Looks at the open files between two searches for the program's processes, which take longer than many saves."""

_PAUSE_SECONDS = 0.0005
_SHORTEST = 2
"""The fewest characters of a checkpoint's name by which a file beside it, which is renamed later, is recognized."""


@dataclass(frozen=True)
class SavePlace:
    """The place of a program's checkpoints, and the moment in which one is written.

    `part` is the longest fixed part of a checkpoint's name, `complete` the file that a whole checkpoint has.
    """

    run: RunLayout
    pattern: Pattern
    part: str
    complete: str

    @classmethod
    def of(cls, run: RunLayout, config: RunConfig) -> "SavePlace | None":
        """Return the place of a program's checkpoints; None if it has none."""
        program = read_params(CommandConfig, config.params)
        known = {**dict.fromkeys(BUILT_IN, ""), **program.own, "run": run.root.name, "seed": config.seed}
        values = {**known, "steps": config.steps, "checkpoint_every": config.checkpoint_every}
        pattern = Pattern.of(program, {**values, "out": os.path.normpath(program.out)})
        if pattern is None:
            return None
        parts = re.split(r"\{\w+\}|\*", Path(program.checkpoint).name)
        return cls(run, pattern, max(parts, key=len), program.complete)

    def kill_inside_a_save(self, generation: int, is_over: Callable[[], bool]) -> bool:
        """Kill the program of a generation inside a save; return False if none was met until `is_over`.

        The program is stopped first, so that it cannot end the save before it is killed.
        """
        work = (self.run.root / f"{generation:06d}.work").resolve()
        processes = RunProcesses(self.run)
        open_since_before = self._written(processes.of_program(generation), work)
        while not is_over():
            pids = processes.of_program(generation)
            for _ in range(_LOOKS):
                written = self._written(pids, work)
                open_since_before &= written
                if written - open_since_before or self._is_incomplete(work):
                    stop(pids)
                    if self._written(pids, work) - open_since_before or self._is_incomplete(work):
                        return kill(pids)
                    carry_on(pids)
                time.sleep(_PAUSE_SECONDS)
        return False

    def _is_incomplete(self, work: Path) -> bool:
        """Return whether a checkpoint has begun, and lacks the file that a whole one has."""
        with suppress(OSError):  # it was renamed, or deleted
            paths = self.pattern.paths(work) if self.complete else []
            return any(path.is_dir() and not (path / self.complete).exists() for _, path in paths)
        return False

    def _written(self, pids: Collection[int], work: Path) -> set[Path]:
        return {path for pid in pids for path in files_written_by(pid) if self._is_of_a_checkpoint(path, work)}

    def _is_of_a_checkpoint(self, path: Path, work: Path) -> bool:
        """Return whether a file belongs to a checkpoint, or becomes one when it is renamed.

        Lightning writes into the directory for temporary files, and moves the file.
        """
        if not path.is_relative_to(work):
            return path.parent == Path(tempfile.gettempdir()).resolve()
        inside = path.relative_to(work)
        names = [each.as_posix() for each in (inside, *inside.parents)]
        if any(map(self.pattern.expression.fullmatch, names)):
            return True
        return len(self.part) >= _SHORTEST and any(self.part in name for name in inside.parts)
