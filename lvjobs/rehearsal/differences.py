"""The comparison of the results of two runs, bit for bit. Pure, except that it reads the directories."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lvjobs.foreign import cleaned
from lvjobs.records.curves import Curves, curves
from lvjobs.records.run_files import MANIFEST
from lvjobs.study.layout import RunLayout

IGNORED = frozenset({"seconds"})
"""The metrics that depend on the machine, and not on the training."""

_NUMBER = re.compile(r"\d{4,}")
"""Times and process ids in the names of files."""

_LARGEST_LOG = 10**7
"""Bytes up to which a file is read as lines."""

_BEGINNING = 2**16
"""Bytes at the beginning of a file in which one that is no text has a zero."""

_BLOCK = 2**22


@dataclass(frozen=True)
class Difference:
    """The first step at which a metric of the two differs; a value is None if that run has none.

    `step` is None for a file of the result.
    """

    what: str
    step: int | None
    alone: float | str | None
    disturbed: float | str | None

    @property
    def is_of_a_loss(self) -> bool:
        """Return whether a loss differs, and not a file or another metric, such as a speed."""
        return self.step is not None and "loss" in self.what

    def __str__(self) -> str:
        """Return the difference in words."""
        if self.step is None:
            return f"{self.what} differs"
        return f"{self.what} at step {self.step}: {_shown(self.alone)} undisturbed, {_shown(self.disturbed)} disturbed"


@dataclass(frozen=True)
class RunResult:
    """The result of a run: what it reported, and the files that it left."""

    run: RunLayout

    @cached_property
    def curves(self) -> Curves:
        """Return the values that count at the end, by step."""
        return curves(path.read_bytes() for path in sorted(self.run.journals.glob("*.jsonl")))

    @property
    def metrics(self) -> set[str]:
        """Return the metrics that are compared, named as a difference names them."""
        return {f"{kind}'s {name}" for kind, values in self.curves.values.items() for name in values.keys() - IGNORED}

    @cached_property
    def files(self) -> Mapping[str, tuple[Path, str]]:
        """Return the files of the result with their SHA-256, computed without the path of their study.

        A long number in a name is replaced by `#`: it is a time, or a process id. Where several names would become the
        same, such as those of a model in parts, they are kept.
        """
        study, found = str(self.run.root.parent.parent.absolute()).encode(), {}
        paths = [
            path for path in sorted(self.run.final.rglob("*")) if path.is_file() and path != self.run.final / MANIFEST
        ]
        names = [str(path.relative_to(self.run.final)) for path in paths]  # the manifest names its generation
        short = Counter(_NUMBER.sub("#", name) for name in names)
        for path, name in zip(paths, names, strict=True):
            digest = _sha256_without(study, path)
            key = _NUMBER.sub("#", name)
            found[cleaned(key if short[key] == 1 else name)] = path, digest
        return found

    def equal_files(self, other: "RunResult") -> set[str]:
        """Return the names of the files that are equal in both."""
        return {name for name in self.files.keys() & other.files.keys() if self.files[name][1] == other.files[name][1]}

    def share_of(self, names: Collection[str]) -> float:
        """Return the share of the result's bytes that these files have. Texts count only if there is nothing else.

        The files of a tokenizer are texts. They are equal in all runs, and may be larger than the weights.
        """
        sizes = {name: path.stat().st_size for name, (path, _) in self.files.items()}
        counted = {name for name, (path, _) in self.files.items() if not _is_text(path)} or sizes.keys()
        return sum(sizes[name] for name in counted & set(names)) / max(1, sum(sizes[name] for name in counted))


def _sha256_without(words: bytes, path: Path) -> str:
    """Return a file's SHA-256, computed without some words. Only a block is in memory: checkpoints are large."""
    digest, rest = hashlib.sha256(), b""
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            block = (rest + block).replace(words, b"")
            ready = max(0, len(block) - len(words) + 1)  # the words may begin in this block, and end in the next one
            digest.update(block[:ready])
            rest = block[ready:]
    digest.update(rest)
    return digest.hexdigest()


def _is_text(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"\0" not in stream.read(_BEGINNING)


def differences(alone: RunResult, disturbed: RunResult, *, is_program: bool) -> tuple[list[Difference], list[str]]:
    """Return the differences, and notes on files that were not compared.

    The differences are each metric's first one, earliest step first, then the files that differ. A program's log that
    has only lines of the other one's, and a file that only one of the two has, are notes: a resumed program begins new
    logs, and may not write again what it wrote at its start.
    """
    found, notes = _of_curves(alone.curves, disturbed.curves), []
    ours, theirs = alone.files, disturbed.files
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one and other and one[1] == other[1]:
            continue
        if is_program and (one is None or other is None):
            notes.append(f"final/{name} is only in the {'disturbed' if one is None else 'undisturbed'} run")
        elif is_program and one and other and _is_part_of(other[0], one[0]):
            notes.append(f"final/{name} lacks lines that were written before the last resume")
        else:
            found.append(Difference(f"final/{name}", None, one and one[1], other and other[1]))
    return found, notes


def _is_part_of(shorter: Path, longer: Path) -> bool:
    """Return whether all lines of a text are in the other one, in their order, and fewer."""
    if max(shorter.stat().st_size, longer.stat().st_size) > _LARGEST_LOG:
        return False
    try:
        some, every = (path.read_text(encoding="utf-8").splitlines() for path in (shorter, longer))
    except UnicodeDecodeError:
        return False
    rest = iter(every)
    return len(some) < len(every) and all(line in rest for line in some)


def _of_curves(ours: Curves, theirs: Curves) -> list[Difference]:
    found = []
    for kind in ours.values:
        for name in sorted((ours.values[kind].keys() | theirs.values[kind].keys()) - IGNORED):
            one, other = ours.values[kind].get(name, {}), theirs.values[kind].get(name, {})
            steps = sorted(one.keys() | other.keys())
            parted = [step for step in steps if repr(one.get(step)) != repr(other.get(step))]  # a NaN equals a NaN
            if parted:
                step = parted[0]
                found.append(Difference(f"{kind}'s {name}", step, one.get(step), other.get(step)))
    return sorted(found, key=lambda difference: difference.step or 0)


def _shown(value: float | str | None) -> str:
    return "nothing" if value is None else repr(value)
