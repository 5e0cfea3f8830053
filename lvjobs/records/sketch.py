"""A curve as a few means, which fit into one line of text; updated as a journal grows. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST = 16
"""The most means that a sketch has."""


@dataclass(frozen=True)
class Sketch:
    """Means of a curve over stretches of `width` steps each: stretch 0 has the steps 1 to `width`.

    `means` are (mean, number of values) by stretch. The width doubles whenever there would be more than `MOST`
    stretches. Values that are NaN or infinite are skipped.
    """

    width: int = 1
    means: Mapping[int, tuple[float, int]] = field(default_factory=dict)

    def with_points(self, points: Iterable[tuple[int, float]]) -> "Sketch":
        """Return the sketch with more of the curve: (step, value), steps from 1 on."""
        width, means = self.width, dict(self.means)
        for step, value in points:
            if not math.isfinite(value):
                continue
            while (stretch := (step - 1) // width) not in means and len(means) == MOST:
                width, means = 2 * width, _halved(means)
            _add(means, stretch, value, 1)
        return Sketch(width, means)

    def until(self, step: int) -> "Sketch":
        """Return the sketch without the stretches that begin after `step`."""
        return Sketch(self.width, {at: mean for at, mean in self.means.items() if at * self.width < step})

    def joined(self, later: "Sketch") -> "Sketch":
        """Return this sketch joined with a later one, in at most `MOST` means."""
        if not self.means or not later.means:
            return later if later.means else self
        width = max(self.width, later.width)
        parts = [each.widened(width).means for each in (self, later)]
        while len(parts[0].keys() | parts[1].keys()) > MOST:
            width, parts = 2 * width, [_halved(part) for part in parts]
        means = dict(parts[0])
        for stretch, (mean, count) in parts[1].items():
            _add(means, stretch, mean, count)
        return Sketch(width, means)

    def widened(self, width: int) -> "Sketch":
        """Return the sketch in stretches of `width`, which must be its own width times a power of two."""
        own, means = self.width, self.means
        while own < width:
            own, means = 2 * own, _halved(means)
        return Sketch(own, means)

    @property
    def values(self) -> list[float]:
        """Return the means, in the order of steps."""
        return [self.means[stretch][0] for stretch in sorted(self.means)]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"width": self.width, "means": [[at, *self.means[at]] for at in sorted(self.means)]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Sketch":
        """Return the sketch that `to_json` gave; an empty sketch for an empty mapping."""
        if not value:
            return cls()
        return cls(int(value["width"]), {at: (mean, count) for at, mean, count in value["means"]})


def _halved(means: Mapping[int, tuple[float, int]]) -> dict[int, tuple[float, int]]:
    halved: dict[int, tuple[float, int]] = {}
    for stretch, (mean, count) in means.items():
        _add(halved, stretch // 2, mean, count)
    return halved


def _add(means: dict[int, tuple[float, int]], stretch: int, mean: float, count: int) -> None:
    before, number = means.get(stretch, (0.0, 0))
    total = number + count
    means[stretch] = (before + (mean - before) * count / total, total)
