"""Copies of the submitted code, named by the hash of their content. Each job has its copy on the search path."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.files import aside_of, json_text
from lvjobs.study.settings import find_beside
from lvjobs.tasks.copy_limits import Limits
from lvjobs.tasks.working_copy import KINDS, find_files

PROGRAM = "_program"
"""The directory in a copy that has the files of a program."""

ORIGIN = "_origin.json"
"""The file in a copy that says where its program comes from (`lvjobs.tasks.origin`)."""

_SKIPPED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".git", ".lvjobs"}
"""Directories that no import reads. `.lvjobs` holds earlier copies: each copy would otherwise contain them."""

_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg", "study.toml")
"""A directory that has one of these is a project's root."""

_NAMED = 8
"""The most paths left out that are named."""


@dataclass(frozen=True)
class ProgramFiles:
    """A program's directory, which is copied but for the paths `linked` into the copy; and how much may be copied."""

    directory: Path
    linked: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class CodeCopy:
    """A copy of the code: its `name` is the hash of its content; `left_out` says which paths are not in it, and why."""

    name: str
    left_out: Sequence[str] = ()

    @property
    def note(self) -> str:
        """Return one line that names the paths left out; empty where there are none."""
        if not self.left_out:
            return ""
        named = ", ".join(self.left_out[:_NAMED])
        more = f" and {len(self.left_out) - _NAMED} more" if len(self.left_out) > _NAMED else ""
        return f"left out of the code that jobs run: {named}{more}"


def snapshot_code(
    store: Path, task: str, program: ProgramFiles | None = None, origin: Mapping[str, Any] | None = None
) -> CodeCopy:
    """Copy everything that a job imports into `store`/<hash>/, a program's files into `PROGRAM`, its `origin` beside.

    These are the lvjobs package and the package (or module) that `task` (`package.module:function`) lives in. A copy
    that exists already is used again: its name is the hash of its content.

    Raises:
        UsageError: the task's package cannot be found, or too much would be copied.
    """
    found = _find_files(task, program)
    found.origin = dict(origin or {})
    name = _name_of(found.contents())
    if not (store / name).exists():
        name = _copy(found, store)
    return CodeCopy(name, found.left_out)


def find_tasks(root: Path, tasks: Iterable[str]) -> None:
    """Let Python find the modules of these tasks beside the study in `root`, and in the current directory."""
    if any(_top_of(task) != "lvjobs" for task in tasks):
        find_beside(root)


def state_of(task: str) -> str:
    """Return a text that changes when a file of the task's package (or module) does; "" where there is none."""
    found = _Found()
    try:
        found.add(_top_of(task))
    except UsageError:
        return ""
    stats = [(relative, path.stat()) for relative, path in sorted(found.files.items()) if path.exists()]
    return "\n".join(f"{relative} {stat.st_size} {stat.st_mtime_ns}" for relative, stat in stats)


def drift(store: Path, name: str, task: str, program: ProgramFiles | None = None) -> list[str]:
    """Return the relative paths of files that differ between the copy called `name` and the code as it is now.

    The list is also empty where the copy no longer exists, or the task's package cannot be found.
    """
    copy = store / name
    if not copy.is_dir():
        return []
    try:
        now = dict(_find_files(task, program).contents())
    except UsageError:
        return []
    made = copy.rglob("*")  # with what Python compiled of it
    then = {str(path.relative_to(copy)): path for path in made if path.is_file() and path.parent.name not in _SKIPPED}
    then.pop(ORIGIN, None)
    return sorted(
        file
        for file in now.keys() | then.keys()
        if file not in now or file not in then or now[file] != then[file].read_bytes()
    )


def _name_of(contents: Iterable[tuple[str, bytes]]) -> str:
    """Return the name of a copy with these files: the hash of their relative paths and contents."""
    digest = hashlib.sha256()
    for relative, content in contents:
        digest.update(os.fsencode(f"{relative}\0{len(content)}\0"))
        digest.update(content)
    return digest.hexdigest()[:16]


@dataclass
class _Found:
    """The files that a job imports, by their relative paths, and the paths that are left out, with the reason.

    Links are followed if they stay in `projects`, which are those of the package that is being searched.
    """

    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    projects: Sequence[Path] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    def add(self, top: str) -> None:
        """Add a top-level module, or the files of a package.

        Raises:
            UsageError: it cannot be found.
        """
        spec = find_spec(top)
        if spec is None or spec.origin is None:
            raise UsageError(f"the task's package {top!r} cannot be found; run lvjobs where `import {top}` works")
        origin = Path(spec.origin)
        if spec.submodule_search_locations:  # a package; `origin` is its `__init__`
            self.projects = _projects_of(origin)
            self._enter(origin.parent, top, ())
        else:
            self.files[origin.name] = origin

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield the files' paths and contents, ordered by path. A file that was removed in the meantime is skipped."""
        if self.origin:
            yield ORIGIN, json_text(self.origin).encode()
        for relative, path in sorted(self.files.items()):
            content = _read(path)
            if content is not None:
                yield relative, content

    def _enter(self, directory: Path, relative: str, within: Sequence[Path]) -> None:
        """Add the files of `directory`; `within` are the real paths of the directories on the way to it."""
        within = (*within, directory.resolve())
        try:
            names = sorted(path.name for path in directory.iterdir())
        except OSError as error:
            self.left_out.append(f"{relative} ({error.strerror})")
            return
        for name in names:
            path, inner = directory / name, f"{relative}/{name}"
            reason = self._add(path, inner, within) if name not in _SKIPPED else ""
            if reason:
                self.left_out.append(f"{inner} ({reason})")

    def _add(self, path: Path, relative: str, within: Sequence[Path]) -> str:
        """Add the file or directory `path`. Return why it is left out, or nothing."""
        is_link = path.is_symlink()
        try:
            if is_link and (reason := self._refuse(Path(os.path.realpath(path, strict=True)), within)):
                return reason
            mode = path.stat().st_mode
        except FileNotFoundError:
            return "dangling link" if is_link else ""  # else the file was removed a moment ago
        except OSError as error:
            return f"link: {error.strerror}" if is_link else str(error.strerror)
        if stat.S_ISDIR(mode):
            self._enter(path, relative, within)
        elif not stat.S_ISREG(mode):
            return KINDS.get(stat.S_IFMT(mode), "no regular file")
        elif not os.access(path, os.R_OK):
            return "not readable"
        else:
            self.files[relative] = path
        return ""

    def _refuse(self, target: Path, within: Sequence[Path]) -> str:
        """Return why a link to `target` is not followed, or nothing."""
        if any(directory.is_relative_to(target) for directory in within):
            return "link to a directory that it is in"
        if not any(target.is_relative_to(project) for project in self.projects):
            return "link out of the project"
        return ""


def _find_files(task: str, program: ProgramFiles | None) -> _Found:
    """Find what a job imports, and the files of its program.

    Raises:
        UsageError: the task's package cannot be found, or a program has too many files.
    """
    found = _Found()
    for top in sorted({"lvjobs", _top_of(task)}):
        found.add(top)
    if program is not None:
        own = find_files(program.directory, program.linked, program.limits)
        found.files |= {f"{PROGRAM}/{relative}": path for relative, path in own.files.items()}
        found.left_out += [*own.left_out, *([own.problem] if own.problem else [])]
    return found


def _top_of(task: str) -> str:
    """Return the top-level package (or module) that a task lives in."""
    return task.partition(":")[0].partition(".")[0]


def _projects_of(origin: Path) -> list[Path]:
    """Return the directories in which the targets of a package's links must lie; `origin` is its `__init__`.

    There are several where the package is a link itself, or where an installer made a link of each of its files.
    """
    places, real = {origin.parent.parent.resolve(), origin.parent.resolve().parent}, origin.resolve()
    if real.parts[-2:] == origin.parts[-2:]:
        places.add(real.parent.parent)
    return [
        next((each for each in (place, *place.parents) if any((each / mark).exists() for mark in _MARKS)), place)
        for place in places
    ]


def _read(path: Path) -> bytes | None:
    """Read a regular file; return None where there is none any more. A path that became a FIFO does not block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _copy(found: _Found, store: Path) -> str:
    """Copy the files into `store` and return the copy's name: the hash of what was written.

    The hash may differ from the one that was computed before, because a file may be saved at any moment.
    """
    aside = aside_of(store / "copy")
    aside.mkdir(parents=True)

    def written() -> Iterator[tuple[str, bytes]]:
        for relative, content in found.contents():
            destination = aside / relative
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_bytes(content)
            if relative.startswith(f"{PROGRAM}/"):  # programs look at the times of files, and execute some
                _copy_status(found.files[relative], destination)
            yield relative, content

    try:
        name = _name_of(written())
        _publish(aside, store / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return name


def _copy_status(path: Path, copy: Path) -> None:
    """Give a copy the times and permissions of its original, but for those to write."""
    with suppress(FileNotFoundError):
        shutil.copystat(path, copy)
        copy.chmod(copy.stat().st_mode & 0o555 | 0o400)


def _publish(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:  # the same content exists: another command was faster, or it was copied before
        if not target.exists():
            raise
