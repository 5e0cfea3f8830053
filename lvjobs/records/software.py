"""The software that an attempt ran with: its packages, the code's commit, and what changed since another attempt. Pure.

A list of packages is a text, `name==version` line by line. It is kept once, under its hash; records have the hash.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lvjobs.records.journal import Entry

KIND = "software"
"""The kind of the journal's line."""

_FIRST = ("python", "torch", "numpy", "transformers", "peft", "accelerate", "lightning")
"""Packages that results depend on most: they are named first."""

_NAMED = 8
"""Changes that are named in one line; the lists have all."""

_COLUMNS = ("commit", "dirty", "locks", "packages", "image")
"""The keys of its record that a row of an attempt has; one that is not known is left out."""

_SHOWN = 12
"""Digits of a hash that are shown."""


def packages_text(packages: Mapping[str, str]) -> str:
    """Return a list of packages, given their versions by name."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))


def parse_packages(text: str) -> dict[str, str]:
    """Return the versions in a list of packages, by name. A line that is none is left out."""
    pairs = (line.strip().partition("==") for line in text.splitlines())
    return {name: version for name, equals, version in pairs if name and equals}


def digest_of(packages: Mapping[str, str]) -> str:
    """Return the hash under which a list of packages is kept."""
    return hashlib.sha256(packages_text(packages).encode()).hexdigest()[:16]


def changed_packages(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the differences in words: "torch 2.4.0 -> 2.5.1", "scipy 1.14 added"; the most important ones first."""
    names = sorted({*before, *now}, key=lambda name: (name not in _FIRST, name))
    return [_change(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]


def _change(name: str, before: str | None, now: str | None) -> str:
    if before is None:
        return f"{name} {now} added"
    return f"{name} {before} removed" if now is None else f"{name} {before} -> {now}"


def changed_code(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words where two records of code differ: commit, lock files, and the container's image."""
    found = []
    if commit_words(before) != commit_words(now) and before.get("commit") and now.get("commit"):
        found.append(f"commit {commit_words(before)} -> {commit_words(now)}")
    old, new = before.get("locks") or {}, now.get("locks") or {}
    found += [f"{name} changed" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    old, new = before.get("image") or {}, now.get("image") or {}
    is_same_path = old.get("image") == new.get("image")  # runs of one submission may have different images
    if old and new and is_same_path and old != new:
        found.append("the container's image changed")
    return found


def commit_words(record: Mapping[str, Any]) -> str:
    """Return the commit of a record in words; empty where git knew none."""
    if not record.get("commit"):
        return ""
    return str(record["commit"])[:_SHOWN] + (" (with changes)" if record.get("dirty") else "")


def shortened(changes: Sequence[str]) -> str:
    """Return the first of these changes in one line, and how many more there are."""
    more = len(changes) - _NAMED
    return ", ".join(changes[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def record_of(entries: Iterable[Entry]) -> Mapping[str, Any] | None:
    """Return the record of software in a journal; None if it has none."""
    return next((entry.fields for entry in entries if entry.kind == KIND), None)


def software_columns(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of an attempt's row that say what it ran with; None where its record does not have them."""
    return {name: record.get(name) for name in _COLUMNS}


def drift_of(generation: int, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words where the attempt of this generation had other software than the one before it, or other code."""
    since = record.get("since")
    before = f"attempt {since}" if since else "the submission"
    for key, what in (("changed_packages", "other packages"), ("changed_code", "other code")):
        if changes := record.get(key):
            yield f"attempt {generation} ran with {what} than {before}: {shortened(list(map(str, changes)))}"
