"""Whether two runs are one and the same, bit for bit; and where they part. Pure but for reading the two directories."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from lvjobs.records.checkpoint import MANIFEST
from lvjobs.records.curves import Curves, curves
from lvjobs.study.layout import RunLayout

IGNORED = frozenset({"seconds"})
"""Metrics that tell of the machine, and not of the training."""


@dataclass(frozen=True)
class Difference:
    """The first step at which a metric of the two is not the same; None of what one of them lacks.

    `step` is None for a file of the final weights.
    """

    what: str
    step: int | None
    alone: float | str | None
    disturbed: float | str | None

    def __str__(self) -> str:
        """In words."""
        if self.step is None:
            return f"{self.what} differs"
        return f"{self.what} at step {self.step}: {_shown(self.alone)} undisturbed, {_shown(self.disturbed)} disturbed"


def differences(alone: RunLayout, disturbed: RunLayout) -> list[Difference]:
    """Where the two part: each metric's first step, earliest first; then files of the final weights. Empty: nowhere."""
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
            parted = [step for step in sorted(one.keys() | other.keys()) if _differ(one.get(step), other.get(step))]
            if parted:
                step = parted[0]
                found.append(Difference(f"{kind}'s {name}", step, one.get(step), other.get(step)))
    return sorted(found, key=lambda difference: difference.step or 0)


def _differ(one: float | None, other: float | None) -> bool:
    return repr(one) != repr(other)  # a NaN is the same as a NaN here


def _curves(run: RunLayout) -> Curves:
    return curves(path.read_bytes() for path in sorted(run.journals.glob("*.jsonl")))


def _files(run: RunLayout) -> Mapping[str, str]:
    """The final weights' files, by their SHA-256; each as if its study lay nowhere in particular."""
    study = str(run.root.parent.parent.absolute()).encode()
    return {
        str(path.relative_to(run.final)): hashlib.sha256(path.read_bytes().replace(study, b"")).hexdigest()
        for path in run.final.rglob("*")
        if path.is_file() and path.name != MANIFEST  # which names its generation
    }


def _shown(value: float | str | None) -> str:
    return "nothing" if value is None else repr(value)
