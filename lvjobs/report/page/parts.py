"""The parts of a page: sections with sentences, tables and charts, as plain values. Nothing here depends on HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lvjobs.report.figures.marks import Chart
from lvjobs.report.table import Table


@dataclass(frozen=True)
class Text:
    """Literal lines: of a file, or commands."""

    title: str
    lines: str
    folds: bool = True


Piece: TypeAlias = Chart | Table | Text | str


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
