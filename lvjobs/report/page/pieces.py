"""The parts of a page, as plain values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from lvjobs.report.figures.elements import Chart
from lvjobs.report.page.answer import StudyAnswer
from lvjobs.report.table import Table


@dataclass(frozen=True)
class Text:
    """Literal lines: of a file, or commands."""

    title: str
    lines: str
    folds: bool = True


@dataclass(frozen=True)
class Section:
    """A part of the page, or of such a part, with a heading of its own. A `badge` stands beside the heading."""

    id: str
    title: str
    pieces: "Sequence[Piece]"
    badge: str = ""


Piece: TypeAlias = Chart | Table | Text | Section | str


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
    answer: StudyAnswer
    figures: Sequence[KeyFigure]
    sections: Sequence[Section]
    made: str
    """The time of the last pass, in words: the age of the page's data."""
    version: str
    lead: Sequence[Piece] = ()


def numbered(pieces: Sequence[Any], numbers: Iterator[int]) -> list[Any]:
    """Return the pieces with their figures numbered in the order in which they stand; one that is missing has none."""
    found: list[Any] = []
    for piece in pieces:
        if isinstance(piece, Section):
            found.append(replace(piece, pieces=numbered(piece.pieces, numbers)))
        elif isinstance(piece, Chart):
            found.append(replace(piece, number="" if piece.missing else f"Figure {next(numbers)}"))
        else:
            found.append(piece)
    return found
