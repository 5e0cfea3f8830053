"""Limits on what is copied of a program's working directory, and refusals that name what is too much."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lvjobs.errors import UsageError
from lvjobs.foreign import cleaned

_NAMED = 5
"""The most files or directories that a refusal names."""
_MEGABYTE = 1_000_000
_MOST_OF_IT = 0.8
"""The part of a directory's files that one directory in it must hold to be named in its place."""


@dataclass(frozen=True)
class Limits:
    """The most that a copy of a working directory may have: files, their size in bytes, and the size of one of them."""

    files: int = 2000
    total_bytes: int = 50_000_000
    file_bytes: int = 10_000_000

    @property
    def most_paths(self) -> int:
        """Return after how many paths a search ends: enough to name the directories that have the most files."""
        return 10 * self.files + 10_000


DEFAULT_LIMITS = Limits()


def check_limits(place: str, sizes: Mapping[str, int], limits: Limits, *, by_git: bool, stopped: bool) -> None:
    """Check that files may be copied.

    Args:
        place: the directory, as a message shows it.
        sizes: sizes in bytes by relative path.
        limits: how much may be copied.
        by_git: whether git listed the files, so that .gitignore counts.
        stopped: whether the search ended early, after `limits.most_paths` paths.

    Raises:
        UsageError: there are more files than allowed, or too large ones.
    """
    problem = _problem(sizes, limits, stopped)
    if problem:
        raise UsageError(f"{place} cannot be copied for a run: {problem}", _remedy(sizes, limits, by_git, stopped))


def shown(name: str) -> str:
    """Return a file's name as a message shows it, in one line."""
    return cleaned(name).replace("\n", "\\n")


def _problem(sizes: Mapping[str, int], limits: Limits, stopped: bool) -> str:
    """Return the first limit that is exceeded, with evidence; empty where there is none."""
    if stopped or len(sizes) > limits.files:
        count = f"{len(sizes):,} files"
        if stopped:
            count = f"{count} among its first {limits.most_paths:,} paths, and more paths than these"
        found = ", ".join(f"{shown(name)} ({files:,} {_plural(files)})" for name, files in _crowded(sizes))
        return f"it has {count}, and the limit is {limits.files:,} {_plural(limits.files)}; most of them: {found}"
    large = {name: size for name, size in sizes.items() if size > limits.file_bytes}
    if large:
        more = f" and {len(large) - _NAMED:,} more" if len(large) > _NAMED else ""
        count = f"{len(large):,} {_plural(len(large))}"
        return f"{count} above the limit of {_size(limits.file_bytes)} for one file: {_largest(large)}{more}"
    total = sum(sizes.values())
    if total > limits.total_bytes:
        limit = _size(limits.total_bytes)
        return f"its files have {_size(total)} in all, and the limit is {limit}; the largest: {_largest(sizes)}"
    return ""


def _remedy(sizes: Mapping[str, int], limits: Limits, by_git: bool, stopped: bool) -> str:
    """Return the ways out, in one sentence."""
    largest, total = max(sizes.values(), default=0), sum(sizes.values())
    needed = {
        "files": len(sizes) if len(sizes) > limits.files else 0,
        "total_mb": math.ceil(total / _MEGABYTE) if total > limits.total_bytes else 0,
        "file_mb": math.ceil(largest / _MEGABYTE) if largest > limits.file_bytes else 0,
    }
    raised = ", ".join(f"{key} = {value}" for key, value in needed.items() if value)
    ways = ["name what need not be copied in `link = [...]` under [train]"]
    if by_git:
        ways.append("add what git does not track to .gitignore")
    if raised and not stopped:
        ways.append(f"set `snapshot = {{ {raised} }}` under [train]")
    return ", or ".join(ways)


def _largest(sizes: Mapping[str, int]) -> str:
    """Return the largest files with their sizes."""
    found = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_NAMED]
    return ", ".join(f"{shown(name)} ({_size(size)})" for name, size in found)


def _crowded(sizes: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    """Return the directories that hold the most files, and how many.

    Each stands for all that is below it. A directory whose files are nearly all in one directory of its own is no help:
    then that one is named.
    """
    counts: Counter[str] = Counter()
    inner: dict[str, set[str]] = {}
    for name in sizes:
        parts = name.split("/")[:-1]
        places = ["/".join(parts[: depth + 1]) + "/" for depth in range(len(parts))] or ["./"]
        counts.update(places)
        for outer, place in zip(["", *places], places, strict=False):
            inner.setdefault(outer, set()).add(place)
    found = []
    for place in inner.get("", set()):
        named, fullest = place, place
        while counts[fullest] >= _MOST_OF_IT * counts[named]:
            named, below = fullest, inner.get(fullest)
            if not below:
                break
            fullest = max(below, key=lambda each: (counts[each], each))
        found.append((named, counts[named]))
    return sorted(found, key=lambda item: (-item[1], item[0]))[:_NAMED]


def _plural(count: int) -> str:
    return "file" if count == 1 else "files"


def _size(count: int) -> str:
    """Return a size with its unit, rounded up: a size above a limit never looks equal to it."""
    value, units = count, ["bytes", "kB", "MB", "GB", "TB"]
    scale = min(len(units) - 1, (len(str(value)) - 1) // 3)
    return f"{math.ceil(value * 10 / 1000**scale) / 10:g} {units[scale]}"
