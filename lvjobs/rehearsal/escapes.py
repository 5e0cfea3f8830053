"""The writes of a program outside of its working directory, where no fence keeps an old attempt from writing."""

import tempfile
import time
from contextlib import suppress
from pathlib import Path

from lvjobs.foreign import cleaned
from lvjobs.processes import files_written_by
from lvjobs.records.journal import parse_entries
from lvjobs.records.run_files import parse_generation
from lvjobs.rehearsal.processes import RunProcesses, kill
from lvjobs.study.layout import RunLayout

_SECONDS = 0.5
"""Seconds between two looks."""

_SHOWN = 5
"""The most findings of each kind."""

_NO_OUTPUT = ("/dev", "/proc", "/sys", tempfile.gettempdir())
"""Directories whose files are no output."""


class EscapeWatch:
    """The watch over a run: writes into directories of ended attempts, processes of those, and output elsewhere."""

    def __init__(self, run: RunLayout) -> None:
        self._run, self._processes = run, RunProcesses(run)
        self._looked = 0.0
        self._dead: dict[str, None] = {}
        self._alive: dict[str, None] = {}
        self._outside: dict[str, None] = {}

    def look(self) -> None:
        """Look, but not too often."""
        if time.monotonic() - self._looked > _SECONDS:
            self._look()
            self._looked = time.monotonic()

    def close(self) -> None:
        """Look for the last time, and end the processes that ended attempts left behind."""
        self._look()
        generations = self._generations()
        kill(self._processes.left_behind(max(generations, default=0) + 1))

    @property
    def breaches(self) -> list[str]:
        """Return what an ended attempt, or one that follows it, does to an ended attempt's directory, in words."""
        return [*self._dead, *self._alive]

    @property
    def outside(self) -> list[str]:
        """Return the files outside of the working directory that the program writes."""
        return list(self._outside)

    def _look(self) -> None:
        newest = max(self._generations(), default=0)
        if not self._has_begun(newest):
            return
        for number in range(1, newest):  # deleted before the program of a newer one began
            work = self._run.root / f"{number:06d}.work"
            for path in sorted(work.rglob("*")) if work.exists() else ():
                if path.is_file() and not path.is_symlink():
                    self._note(self._dead, f"a later attempt writes to the directory of attempt {number}: {path.name}")
        for pid in self._processes.left_behind(newest):
            self._note(self._alive, f"a process of an ended attempt survives: {pid} {_words(pid)}")
        for pid in self._processes.of_program(newest):
            for path in files_written_by(pid):
                if self._is_outside(path):
                    self._note(self._outside, str(path))

    def _note(self, found: dict[str, None], text: str) -> None:
        if len(found) < _SHOWN:
            found[cleaned(text)] = None

    def _is_outside(self, path: Path) -> bool:
        """Return whether a file is none of the run's, of the log, of a cache, or of the system."""
        study, home = self._run.study.root.resolve(), Path.home()
        is_hidden = path.is_relative_to(home) and path.relative_to(home).parts[0].startswith(".")
        is_gone = path.name.endswith(" (deleted)")
        return not (is_hidden or is_gone or any(path.is_relative_to(place) for place in (study, *_NO_OUTPUT)))

    def _generations(self) -> list[int]:
        return [number for path in self._run.generations.glob("*") if (number := parse_generation(path.name))]

    def _has_begun(self, generation: int) -> bool:
        """Return whether a generation's program begins: older directories were deleted before."""
        with suppress(OSError):
            entries, _ = parse_entries(self._run.journal(generation).read_bytes())
            return any(entry.kind == "software" for entry in entries)
        return False


def _words(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""
