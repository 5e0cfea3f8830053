"""What a page is made of: sections with sentences, tables and charts, as plain values. Nothing here knows HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lvjobs.report.figures.marks import Chart


@dataclass(frozen=True)
class PageTable:
    """Rows as printed. `marked` ones stand out, those from `rule` on stand below a line; `files` have the same."""

    id: str
    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    files: Sequence[str] = ()
    marked: frozenset[int] = frozenset()
    rule: int | None = None
    words: int = 1
    """How many columns, from the left, are words and not numbers."""
    missing: str = ""

    @property
    def folds(self) -> bool:
        """Whether it is too long to be shown before it is asked for."""
        return len(self.rows) > _LONG


_LONG = 50


@dataclass(frozen=True)
class Text:
    """Lines as they are: a file's, or what to type."""

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
    """A number that matters, with what it is and what belongs to it."""

    value: str
    name: str
    detail: str = ""


@dataclass(frozen=True)
class Page:
    """All of it."""

    title: str
    question: str
    verdict: Literal["answered", "open"]
    answer: Sequence[str]
    notes: Sequence[str]
    figures: Sequence[KeyFigure]
    sections: Sequence[PageSection]
    made: str
    """When the last pass was made, in words: how old what is shown is."""
    version: str
    lead: Sequence[Piece] = field(default_factory=tuple)
