"""The content of a figure as plain values: panels of marks on two axes, under one legend. Nothing here draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lvjobs.report.material import Point
from lvjobs.report.numbers import short

Values: TypeAlias = Sequence[float] | NDArray[Any]
Spot: TypeAlias = tuple[float, float, float, str]
"""A place that a reader can point at: from x to x, at y, and the value in words."""


@dataclass(frozen=True)
class Key:
    """An entry of a figure's legend, and the look of the marks that belong to it.

    In the page it switches its marks off and on, if it `switches` any.
    """

    name: str
    colour: str
    dash: Literal["solid", "dash", "dot", "dashdot", "longdash"] = "solid"
    marker: str = ""
    kind: Literal["line", "box", "dot"] = "line"
    pattern: str = ""
    opacity: float = 1.0
    switches: bool = True


@dataclass(frozen=True)
class Line:
    """Points in order, joined unless `width` is 0. Markers have a `size` in points; at 0 none are drawn.

    `texts` are the values in words, one per point; with None the numbers are used, and with an empty list there are
    none.
    """

    key: Key
    x: Values
    y: Values
    width: float = 1.3
    size: float = 0.0
    marker: str = ""
    opacity: float = 1.0
    steps: bool = False
    texts: Sequence[str] | None = None

    def spots(self) -> Iterator[Spot]:
        """Yield each point."""
        texts = [f"{x:.6g}, {y:.4g}" for x, y in zip(self.x, self.y, strict=True)] if self.texts is None else self.texts
        yield from zip(self.x, self.x, self.y, texts, strict=False)


@dataclass(frozen=True)
class Estimates:
    """Values with their intervals: along y, joined, or along x, each by itself. `names` precede the values."""

    key: Key
    places: Sequence[float]
    points: Sequence[Point]
    along: Literal["x", "y"] = "y"
    names: Sequence[str] = ()

    def spots(self) -> Iterator[Spot]:
        """Yield each value with its interval."""
        for place, point, name in zip(self.places, self.points, self.names or repeat(""), strict=False):
            words = f"{name}{short(point.value)} [{short(point.low)}, {short(point.high)}]"
            x, y = (place, point.value) if self.along == "y" else (point.value, place)
            yield x, x, y, words


@dataclass(frozen=True)
class Band:
    """A filled area between two lines. With `steps`, each pair of values holds around its x."""

    key: Key
    x: Values
    low: Values
    high: Values
    steps: bool = False
    texts: Sequence[str] = ()

    def spots(self) -> Iterator[Spot]:
        """Yield the upper edge."""
        yield from zip(self.x, self.x, self.high, self.texts, strict=False)


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from `start` to `end`, each in the row of its number."""

    key: Key
    rows: Sequence[int]
    start: Values
    end: Values
    texts: Sequence[str]

    def spots(self) -> Iterator[Spot]:
        """Yield each bar in its whole length."""
        yield from zip(self.start, self.end, self.rows, self.texts, strict=True)


@dataclass(frozen=True)
class ReferenceLine:
    """A straight line through the whole panel, at a place along x or along y."""

    key: Key
    at: float
    along: Literal["x", "y"] = "x"

    def spots(self) -> Iterator[Spot]:
        """Yield nothing."""
        yield from ()


@dataclass(frozen=True)
class Cells:
    """A coloured cell for each (row, column), NaN if it is empty; `best` is framed.

    `written` are the words in the cells, by row and column; empty if they do not fit.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    values: NDArray[Any]
    best: tuple[int, int]
    quantity: str
    written: Sequence[Sequence[str]] = ()

    def spots(self) -> Iterator[Spot]:
        """Yield each cell in its whole width."""
        for (y, x), value in np.ndenumerate(self.values):
            if not np.isnan(value):
                yield x - 0.5, x + 0.5, y, f"{self.rows[y]}, {self.columns[x]}: {value:.5g}"


Mark: TypeAlias = Line | Estimates | Band | Bars | ReferenceLine | Cells


@dataclass(frozen=True)
class Axis:
    """An axis. Limits that are None follow the marks.

    `whole` has no ticks between whole numbers; `time` is in days since 1970, UTC; for `names`, values are places in
    that list.
    """

    label: str = ""
    kind: Literal["linear", "whole", "log", "time", "names"] = "linear"
    names: Sequence[str] = ()
    limits: tuple[float | None, float | None] = (None, None)
    grid: bool = True

    @classmethod
    def of_rows(cls, names: Sequence[str]) -> "Axis":
        """Return an axis of names, with the first on top."""
        return cls(kind="names", names=names, limits=(len(names) - 0.4, -0.6), grid=False)


@dataclass(frozen=True)
class Panel:
    """One plot of a chart. `label` describes it for those who cannot see it; `height` is in pixels of the page.

    `note` is written across it.
    """

    marks: Sequence[Mark]
    x: Axis
    y: Axis
    title: str
    label: str
    height: int = 280
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure: panels side by side, as many as fit, with one legend. `missing` gives the reason if there is none.

    Attributes:
        id: Its anchor in the page, and its file's name without suffix.
        title: Its name in the page.
        shows: Its content, and the runs it covers, for an index of files.
        stage: The stage whose runs it compares.
        heading: Its subject. It stands above the figure in print, and begins the caption in the page.
        warning: A warning that follows the heading.
        caption: The explanation in the page.
        beside: Numbers that are never left out. They stand below the figure in print, and in the caption in the page.
        source: The files that have the numbers.
        number: Its number in the published study, empty if it has no counterpart there.
        width: A panel's share of the page if that is wide.
    """

    id: str
    title: str
    shows: str = ""
    stage: str = ""
    heading: str = ""
    warning: str = ""
    caption: str = ""
    beside: str = ""
    source: str = ""
    number: str = ""
    panels: Sequence[Panel] = ()
    keys: Sequence[Key] = ()
    missing: str = ""
    width: Literal["full", "half", "third"] = "half"

    @property
    def words(self) -> str:
        """Return the caption in the page."""
        parts = [self.heading, self.caption, self.beside, self.source and f"Source: {self.source}"]
        return " ".join(f"{part[0].upper()}{part[1:].rstrip('.')}." for part in parts if part)
