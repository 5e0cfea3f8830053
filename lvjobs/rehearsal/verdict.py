"""The comparison of two runs, bit for bit, and their differences. Pure, except that it reads the directories."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from lvjobs.records.curves import Curves, curves
from lvjobs.records.run_files import MANIFEST
from lvjobs.study.layout import RunLayout

IGNORED = frozenset({"seconds"})
"""The metrics that depend on the machine, and not on the training."""


@dataclass(frozen=True)
class Difference:
    """The first step at which a metric of the two differs; a value is None if that run has none.

    `step` is None for a file of the final weights.
    """

    what: str
    step: int | None
    alone: float | str | None
    disturbed: float | str | None

    def __str__(self) -> str:
        """Return the difference in words."""
        if self.step is None:
            return f"{self.what} differs"
        return f"{self.what} at step {self.step}: {_shown(self.alone)} undisturbed, {_shown(self.disturbed)} disturbed"


def differences(alone: RunLayout, disturbed: RunLayout) -> list[Difference]:
    """Return each metric's first difference, earliest step first, then the differing files of the final weights."""
    found = _of_curves(_curves(alone), _curves(disturbed))
    ours, theirs = _files(alone), _files(disturbed)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            found.append(Difference(f"final/{name}", None, ours.get(name), theirs.get(name)))
    return found


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


def _curves(run: RunLayout) -> Curves:
    return curves(path.read_bytes() for path in sorted(run.journals.glob("*.jsonl")))


def _files(run: RunLayout) -> Mapping[str, str]:
    """Return the final weights' files with their SHA-256, computed without the path of their study."""
    study = str(run.root.parent.parent.absolute()).encode()
    return {
        str(path.relative_to(run.final)): hashlib.sha256(path.read_bytes().replace(study, b"")).hexdigest()
        for path in run.final.rglob("*")
        if path.is_file() and path.name != MANIFEST  # the manifest names its generation
    }


def _shown(value: float | str | None) -> str:
    return "nothing" if value is None else repr(value)
