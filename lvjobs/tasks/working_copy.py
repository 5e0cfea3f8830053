"""The files of a program's working directory that a copy of it gets, and the commit that they come from.

In a git repository these are the files that git tracks, or neither tracks nor ignores. Elsewhere these are all files
but caches. What a study keeps beside its study.toml is never copied, and neither is what is linked into the copy.
"""

# Paths are looked up by os.path: unlike pathlib, it takes one that may not be looked up for missing.
# ruff: noqa: PTH110, PTH112, PTH113, PTH114

import os
import posixpath
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.study.layout import StudyLayout
from lvjobs.tasks.copy_limits import DEFAULT_LIMITS, Limits, check_limits, shown
from lvjobs.tasks.git import Git, GitFailed, has_repository, repository_of

KINDS = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
"""Files that are never copied, because reading them may block, by their type."""

_NEVER = {"__pycache__", ".git"}
_CACHES = {".hg", ".svn", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".venv", "venv", "node_modules"}
"""Names that are left out where git does not list the files."""

_STUDY = StudyLayout(Path())
_MARKS = (_STUDY.config.name, _STUDY.database.name)
"""A directory that has one of these holds a study."""
_OWN = {_STUDY.checkpoints.name, _STUDY.logs.name, _STUDY.internal.name}
_OWN_PREFIXES = (_STUDY.database.name, f".{_STUDY.database.name}.")
"""What a study keeps in its directory: the database has companions and copies, whose names begin with its name."""


@dataclass(frozen=True)
class WorkingFiles:
    """The files that a copy of a working directory gets.

    Attributes:
        files: path by relative path.
        left_out: which other paths a user would miss, each with the reason.
        linked: the relative paths that are linked into the copy, without "./" and the like.
        problem: why git did not list the files of its repository, in one line; empty where it did.
    """

    files: Mapping[str, Path]
    left_out: Sequence[str] = ()
    linked: Sequence[str] = ()
    problem: str = ""


def find_files(directory: Path, linked: Collection[str] = (), limits: Limits = DEFAULT_LIMITS) -> WorkingFiles:
    """Find the files that a copy of a program's working directory gets.

    Args:
        directory: the working directory.
        linked: relative paths that are linked into the copy later. They, and all below them, are not copied.
        limits: how much may be copied.

    Raises:
        UsageError: `directory` is none, a path in `linked` cannot be linked, or there is more than `limits` allow.
    """
    if not os.path.isdir(directory):
        raise UsageError(f"{shown(str(directory))} is not a directory; name the directory in which the program runs")
    links = _check_linked(directory, linked)
    search = _Search(directory, _Excluded(directory, links), limits.most_paths)
    search.run()
    check_limits(shown(str(directory)), search.sizes, limits, by_git=search.by_git, stopped=search.is_over)
    files = {relative: directory / relative for relative in sorted(search.sizes)}
    return WorkingFiles(files, sorted(search.left_out), links, search.problem)


def provenance(directory: Path, linked: Collection[str] = ()) -> dict[str, Any]:
    """Return the commit that the directory's files come from, and whether they differ from it.

    Files that are not tracked count as a difference if they would be copied.

    Args:
        directory: the working directory.
        linked: relative paths in it that are not copied.

    Returns:
        `commit` and `dirty`; nothing where git does not know the files, or does not answer.
    """
    if repository_of(directory) is None:
        return {}
    git, excluded = Git(), _Excluded(directory, [posixpath.normpath(name) for name in linked])
    try:
        if not git.list_files(directory, excluded.large()):
            return {}
        commit, changed = git.commit(directory), git.changed_files(directory)
    except GitFailed:
        return {}
    return {"commit": commit, "dirty": not all(excluded.has(path) for path in changed)}


def _check_linked(directory: Path, linked: Collection[str]) -> list[str]:
    """Return the paths without "./" and the like.

    Raises:
        UsageError: one of them is not below the directory.
    """
    there = shown(str(directory))
    inside = f"make a symbolic link to it in {there}, and name that"
    names = {each: posixpath.normpath(each) for each in linked}
    for each, name in names.items():
        place = f'[train] link: "{shown(each)}"'
        if posixpath.isabs(name):
            raise UsageError(f"{place} is an absolute path; {inside}")
        if name.split("/")[0] == "..":
            raise UsageError(f"{place} is outside {there}; {inside}")
        if name == ".":
            raise UsageError(f"{place} is the whole working directory; name files or directories in it")
        if not os.path.exists(directory / name):
            raise UsageError(f"{place} does not exist in {there}; create it, or remove it from `link`")
    return sorted(set(names.values()))


class _Excluded:
    """The paths below a directory that are never copied."""

    def __init__(self, directory: Path, linked: Sequence[str]) -> None:
        self._directory, self._linked = directory, linked

    def has(self, relative: str) -> bool:
        """Return whether the path, or a directory on the way to it, is not copied."""
        return (
            any(relative == name or relative.startswith(f"{name}/") for name in self._linked)
            or not _NEVER.isdisjoint(relative.split("/"))
            or _is_of_a_study(self._directory, relative)
        )

    def large(self) -> list[str]:
        """Return paths that git need not search: each may hold very many files."""
        return [*self._linked, *(sorted(_OWN) if _holds_study(self._directory) else ())]


def _is_of_a_study(directory: Path, relative: str) -> bool:
    """Return whether the path below the directory is what a study keeps for itself, or lies in it."""
    parts = relative.split("/")
    return any(
        (part in _OWN or part.startswith(_OWN_PREFIXES)) and _holds_study(directory.joinpath(*parts[:depth]))
        for depth, part in enumerate(parts)
    )


def _holds_study(directory: Path) -> bool:
    return any(os.path.isfile(directory / mark) for mark in _MARKS)


@dataclass
class _Search:
    """The search below `directory`. It ends early after `most` paths.

    `sizes` has the files' sizes in bytes by relative path. `by_git` says whether git listed the directory.
    """

    directory: Path
    excluded: _Excluded
    most: int
    sizes: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    problem: str = ""
    by_git: bool = False
    _seen: int = 0

    def __post_init__(self) -> None:
        self._repository, self._git = repository_of(self.directory), Git()
        self._project = self._repository or self.directory.resolve()
        self._is_plain = lru_cache(maxsize=None)(_is_plain)
        self._pending: list[tuple[str, Sequence[Path]]] = [("", ())]

    @property
    def is_over(self) -> bool:
        """Return whether the search ended early."""
        return self._seen > self.most

    def run(self) -> None:
        """Search all directories. A link to a directory is searched as a directory of its own."""
        while self._pending and not self.is_over:
            relative, within = self._pending.pop()
            for inner in self._paths(relative):
                self._seen += 1
                if self.is_over:
                    return
                reason = "" if self.excluded.has(inner) else self._add(inner, within)
                if reason:
                    self.left_out.append(f"{shown(inner)} ({reason})")

    def _paths(self, relative: str) -> Iterator[str]:
        """Yield the paths below a directory. None of them leads through a link that lies below the directory."""
        found = self._list(relative) if self._repository is not None else []
        if relative == "":
            self.by_git = bool(found)
        if not found:  # git lists nothing where a repository around the directory ignores it
            yield from self._walk(relative)
        for path in found:
            *parents, name = path.rstrip("/").split("/")
            if not {"", ".", ".."}.isdisjoint((*parents, name)):
                self.left_out.append(f"{shown(path)} (not a path below the directory)")
            elif self._is_plain(self.directory / relative, tuple(parents)):
                yield posixpath.join(relative, *parents, name)

    def _list(self, relative: str) -> list[str]:
        """Return the paths, relative to this directory, that git lists; nothing where it does not answer."""
        try:
            return self._git.list_files(self.directory / relative, [] if relative else self.excluded.large())
        except GitFailed as error:
            place = shown(str(self.directory / relative))
            self.problem = self.problem or f"{error}; so files in {place} that .gitignore names are copied too"
            return []

    def _walk(self, relative: str) -> Iterator[str]:
        """Yield the paths below a directory without asking git: all but caches."""
        stack = [relative]
        while stack:
            place = stack.pop()
            directory = self.directory / place
            try:
                entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
            except OSError as error:
                self.left_out.append(f"{shown(place) or '.'} ({error.strerror})")
                continue
            if place and any(entry.name == "pyvenv.cfg" for entry in entries):
                continue
            for entry in entries:
                inner = posixpath.join(place, entry.name)
                if entry.name in _CACHES or entry.name.endswith(".pyc") or self.excluded.has(inner):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    self._seen += 1
                    stack.append(inner)
                else:
                    yield inner
            if self.is_over:
                return

    def _add(self, relative: str, within: Sequence[Path]) -> str:
        """Add a file, or search a directory later. Return why the path is left out, or nothing."""
        path = self.directory / relative
        is_link = os.path.islink(path)
        within = (*within, path.parent.resolve())
        try:
            if is_link and (reason := self._refuse(Path(os.path.realpath(path, strict=True)), within)):
                return reason
            status = path.stat()
        except FileNotFoundError:
            return "dangling link" if is_link else ""  # else git tracks it, and it was removed
        except OSError as error:
            return f"link: {error.strerror}" if is_link else str(error.strerror)
        if stat.S_ISDIR(status.st_mode):
            if is_link or has_repository(path):  # else a directory took the place of a tracked file
                self._pending.append((relative, within))
        elif not stat.S_ISREG(status.st_mode):
            return KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        elif not os.access(path, os.R_OK):
            return "not readable"
        else:
            self.sizes[relative] = status.st_size
        return ""

    def _refuse(self, target: Path, within: Sequence[Path]) -> str:
        """Return why a link to `target` is not followed, or nothing."""
        if any(directory.is_relative_to(target) for directory in within):
            return "link to a directory that it is in"
        if not target.is_relative_to(self._project):
            return "link out of the project"
        inside = target.relative_to(self._project).as_posix()
        if ".git" in inside.split("/"):
            return "link into .git"
        return "link into what a study keeps" if _is_of_a_study(self._project, inside) else ""


def _is_plain(directory: Path, parents: tuple[str, ...]) -> bool:
    """Return whether these directories below one another are there, and none of them is a link."""
    places = [directory.joinpath(*parents[: depth + 1]) for depth in range(len(parents))]
    return all(os.path.isdir(place) and not os.path.islink(place) for place in places)
