"""One table, as the terminal, the report's page and a file show it: its title, columns, rows and notes. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import rich.table
from rich.text import Text
from tabulate import tabulate

Style: TypeAlias = Literal["simple", "github", "latex_booktabs"]

FILE_STYLES: Mapping[str, Style] = {"md": "github", "tex": "latex_booktabs"}
"""The style of a table's file, by the file's suffix."""


@dataclass(frozen=True)
class Table:
    """A table as it is printed. The first columns and those without a header hold words, the others hold numbers.

    Attributes:
        title: What it shows.
        headers: The columns' headers.
        rows: The cells of each row, as printed.
        notes: Sentences below it.
        circumstances: What its rows have in common.
        values: The same rows unrounded, for JSON.
        id: Its anchor in the page, and its files' name without suffix.
        files: Its files, for the page.
        marked: The rows that stand out.
        rule: The first row below a line, in the page.
        words: The number of columns, from the left, that hold words.
        missing: The reason why there is no such table.
    """

    title: str
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    circumstances: str = ""
    values: Sequence[Mapping[str, Any]] = ()
    id: str = ""
    files: Sequence[str] = ()
    marked: Collection[int] = ()
    rule: int | None = None
    words: int = 1
    missing: str = ""

    def narrow(self) -> "Table":
        """Return the table for a terminal: only its first metric has its interval, as all of them would be too wide.

        A table without intervals stays as it is.
        """
        first = next((place + 1 for place, cell in enumerate(self.rows[0]) if " [" in cell), len(self.headers))
        rows = [(*row[:first], *(cell.partition(" [")[0] for cell in row[first:])) for row in self.rows]
        return replace(self, rows=rows)

    def body(self, style: Style) -> str:
        """Return headers and rows as text. LaTeX needs the package booktabs."""
        aligned = ["left"] * self.words + ["right"] * (len(self.headers) - self.words)
        # Without parsing, 3.386e16 stays as it is written.
        return tabulate(self.rows, self.headers, tablefmt=style, disable_numparse=True, colalign=aligned)

    def render(self, style: Style) -> str:
        """Return the table as text with title and notes; in LaTeX these are comments, so that it can be input."""
        title = f"{self.title}. {self.circumstances}." if self.circumstances else self.title
        if style == "latex_booktabs":
            return "\n".join([*(f"% {line}" for line in (title, *self.notes)), self.body(style)])
        notes = ("", *self.notes) if self.notes else ()
        return "\n".join([f"{title.removesuffix('.')}.", "", self.body(style), *notes])

    def for_terminal(self) -> rich.table.Table:
        """Return headers and rows for rich. Words are folded where the terminal is narrow, numbers never."""
        made = rich.table.Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
        for place, header in enumerate(self.headers):
            if place < self.words or not header:
                made.add_column(header, overflow="fold")
            else:
                made.add_column(header, justify="right", no_wrap=True)
        for place, row in enumerate(self.rows):
            made.add_row(*map(Text, row), style="bold" if place in self.marked else "")
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        return {
            "title": self.title,
            "circumstances": self.circumstances,
            "rows": [dict(row) for row in self.values],
            "notes": list(self.notes),
        }
