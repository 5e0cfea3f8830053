"""The comparison of the results of two runs, bit for bit. Pure, except that it reads the directories."""

import codecs
import hashlib
import re
import zipfile
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

_BEGINNING = 2**16
"""Bytes at the beginning of a file by which a text is recognized."""

_BLOCK = 2**22

_LARGEST_LOG = 10**7
"""Bytes up to which a file is read as lines."""


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
        """Return the names of the metrics that are compared."""
        return {f"{kind}'s {name}" for kind, named in self.curves.values.items() for name in named.keys() - IGNORED}

    @cached_property
    def files(self) -> Mapping[str, "ResultFile"]:
        """Return the files of the result.

        A long number in a name is replaced by `#`: it is a time, or a process id. Where several names would become the
        same, such as those of a model in parts, they are kept.
        """
        study, manifest = str(self.run.root.parent.parent.absolute()).encode(), self.run.final / MANIFEST
        paths = [path for path in sorted(self.run.final.rglob("*")) if path.is_file() and path != manifest]
        names = [str(path.relative_to(self.run.final)) for path in paths]  # the manifest names its generation
        short = Counter(_NUMBER.sub("#", name) for name in names)
        found = {}
        for path, name in zip(paths, names, strict=True):
            key = _NUMBER.sub("#", name)
            found[cleaned(key if short[key] == 1 else name)] = ResultFile.read(path, study)
        return found

    def equal_files(self, other: "RunResult") -> set[str]:
        """Return the names of the files whose arrays, or bytes if they hold none, are equal in both."""
        names = self.files.keys() & other.files.keys()
        return {name for name in names if self.files[name].core == other.files[name].core}

    def share_of(self, names: Collection[str]) -> float:
        """Return the share of the result's bytes that these files have. Texts count only if there is nothing else.

        The files of a tokenizer are texts. They are equal in all runs, and may be larger than the weights.
        """
        sizes = {name: each.path.stat().st_size for name, each in self.files.items()}
        counted = {name for name, each in self.files.items() if each.arrays} or sizes.keys()
        return sum(sizes[name] for name in counted & set(names)) / max(1, sum(sizes[name] for name in counted))


@dataclass(frozen=True)
class ResultFile:
    """A file of a result: the SHA-256 of its bytes, without the path of the study, and that of its arrays."""

    path: Path
    digest: str
    arrays: str

    @property
    def core(self) -> str:
        """Return the hash of the arrays, else of the bytes."""
        return self.arrays or self.digest

    @classmethod
    def read(cls, path: Path, study: bytes) -> "ResultFile":
        """Read a file; `study` is the path that is left out."""
        digest = _sha256_without(study, path)
        return cls(path, digest, _arrays(path, digest))


def _arrays(path: Path, digest: str) -> str:
    """Return a hash of the arrays in a file; empty for a text, and for an archive of torch that holds none.

    An archive of torch has its arrays in members of their own. Numbers and texts are in one more, `data.pkl`.
    """
    if not zipfile.is_zipfile(path):
        return "" if _is_text(path) else digest
    with zipfile.ZipFile(path) as archive:
        members = {each.filename.partition("/")[2]: (each.file_size, each.CRC) for each in archive.infolist()}
    if "data.pkl" not in members:
        return digest
    stored = sorted((name, size) for name, size in members.items() if name.startswith("data/"))
    return hashlib.sha256(repr(stored).encode()).hexdigest() if stored else ""


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
        beginning = stream.read(_BEGINNING)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)  # its end may be in the midst of a character
    except UnicodeDecodeError:
        return False
    return b"\0" not in beginning


def differences(alone: RunResult, disturbed: RunResult, *, is_program: bool) -> tuple[list[Difference], list[str]]:
    """Return the differences, and notes on files that were not compared.

    The differences are each metric's first one, earliest step first, then the files that differ.

    Of a program's files, those that hold arrays decide, if there are any. Notes are: other files that differ, a log
    that has only lines of the other one's, and a file that only one of the two has. A resumed program begins new
    logs. It may not write again what it wrote at its start, and may write down how it was started.
    """
    found, notes = _of_curves(alone.curves, disturbed.curves), []
    ours, theirs = alone.files, disturbed.files
    have_arrays = any(ours[name].arrays and theirs[name].arrays for name in ours.keys() & theirs.keys())
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one and other and one.digest == other.digest:
            continue
        if is_program and not (one and other):
            notes.append(f"final/{name} is only in the {'disturbed' if one is None else 'undisturbed'} run")
        elif is_program and one and other and one.arrays and one.arrays == other.arrays:
            notes.append(f"final/{name} differs, but its arrays are equal")
        elif is_program and one and other and not (one.arrays or other.arrays) and _is_part_of(other.path, one.path):
            notes.append(f"final/{name} lacks lines that were written before the last resume")
        elif is_program and have_arrays and not (one and one.arrays) and not (other and other.arrays):
            notes.append(f"final/{name} differs, and holds no arrays")
        else:
            found.append(
                Difference(f"final/{name}", None, one.digest if one else None, other.digest if other else None)
            )
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
