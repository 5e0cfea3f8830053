"""The parts of a page: sections with sentences, tables and charts, as plain values. Nothing here depends on HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lvjobs.report.figures.marks import Chart


@dataclass(frozen=True)
class PageTable:
    """A table as printed. Rows in `marked` stand out, rows from `rule` on stand below a line; `files` have the same."""

    id: str
    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    files: Sequence[str] = ()
    marked: frozenset[int] = frozenset()
    rule: int | None = None
    words: int = 1
    """The number of columns, from the left, that hold words and not numbers."""
    missing: str = ""

    @property
    def folds(self) -> bool:
        """Return whether the table is too long to be shown unfolded."""
        return len(self.rows) > _LONG


_LONG = 50


@dataclass(frozen=True)
class Text:
    """Literal lines: of a file, or commands."""

    title: str
    lines: str
    folds: bool = True


Piece: TypeAlias = Chart | PageTable | Text | str


@dataclass(frozen=True)
class Subsection:
    """Pieces under a heading of their own, such as a stage's."""

    id: str
    title: str
    pieces: Sequence[Piece]
    badge: str = ""


@dataclass(frozen=True)
class PageSection:
    """A part of the page that the table of contents names."""

    id: str
    title: str
    pieces: Sequence[Piece | Subsection]


@dataclass(frozen=True)
class KeyFigure:
    """An important number, with its name and a detail."""

    value: str
    name: str
    detail: str = ""


@dataclass(frozen=True)
class Page:
    """The whole page."""

    title: str
    question: str
    verdict: Literal["answered", "open"]
    answer: Sequence[str]
    notes: Sequence[str]
    figures: Sequence[KeyFigure]
    sections: Sequence[PageSection]
    made: str
    """The time of the last pass, in words: the age of the page's data."""
    version: str
    lead: Sequence[Piece] = field(default_factory=tuple)
