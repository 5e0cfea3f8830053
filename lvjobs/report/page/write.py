"""The page as one HTML file, and the tables beside it. Equal pages give equal bytes."""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lvjobs.files import private, write_atomic, write_json
from lvjobs.report.figures.elements import Chart
from lvjobs.report.figures.embedded import drawings
from lvjobs.report.figures.palette import stroke
from lvjobs.report.outputs import claim
from lvjobs.report.page.parts import Page, Piece, Section, Text
from lvjobs.report.table import Table

MARKER, TABLES = "report.json", "tables"
_KIND = {"kind": "lvjobs report", "schema": 1}
_PATTERNS = {
    "/": "M4 12 L10 0 M11 12 L17 0 M18 12 L24 0",
    "\\": "M4 0 L10 12 M11 0 L17 12 M18 0 L24 12",
    "x": "M5 0 L11 12 M11 0 L5 12 M17 0 L23 12 M23 0 L17 12",
    "-": "M4 3 L24 3 M4 9 L24 9",
    "|": "M9 0 L9 12 M14 0 L14 12 M19 0 L19 12",
    "+": "M4 6 L24 6 M10 0 L10 12 M18 0 L18 12",
    ".": "M8 3 h2 M14 3 h2 M20 3 h2 M8 9 h2 M14 9 h2 M20 9 h2",
}
_DASHES = {"dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 4"}
_MARKERS = {
    "o": "M14 2 a4 4 0 1 0 .01 0 z",
    "s": "M10 2 h8 v8 h-8 z",
    "D": "M14 1 L19 6 L14 11 L9 6 z",
    "^": "M14 1 L19 10 L9 10 z",
    "v": "M14 11 L19 2 L9 2 z",
}


_MACROS = {Chart: "chart", Table: "table", Text: "text", Section: "group", str: "sentence"}
"""The macro of page.html.j2 for each class of a page's pieces."""


def write_report(page: Page, tables: dict[str, str], directory: Path) -> dict[str, Any]:
    """Write `index.html` and `tables/`, and return what was written and which figures could not be drawn.

    Tables of an earlier report that this one does not have are removed.

    Raises:
        UsageError: the directory holds something else.
    """
    with private():
        claim(directory, MARKER, _KIND)
        (directory / TABLES).mkdir(exist_ok=True)
        for path in (directory / TABLES).iterdir():
            if path.suffix in (".md", ".tex") and path.name not in tables:
                path.unlink()
        for name, text in tables.items():
            write_atomic(directory / TABLES / name, text)
        write_atomic(directory / "index.html", render(page))
        charts = list(_charts([*page.lead, *page.sections]))
        index = {
            **_KIND,
            "answer": list(page.answer.sentences),
            "verdict": page.answer.verdict,
            "files": ["index.html", *(f"{TABLES}/{name}" for name in sorted(tables))],
            "drawn": [each.id for each in charts if not each.missing],
            "missing": [{"figure": each.id, "why": each.missing} for each in charts if each.missing],
        }
        write_json(directory / MARKER, index)
    return {**index, "directory": str(directory)}


def render(page: Page) -> str:
    """Return the whole HTML file."""
    environment = Environment(
        loader=PackageLoader("lvjobs.report.page", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    filters: dict[str, Any] = {"slug": slug, "kind": _kind, "drawings": drawings}
    environment.filters |= filters
    script = _own("page.js")
    # The page's policy allows this script, and no other script and no network.
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        page=page,
        style=Markup(_own("page.css")),  # noqa: S704 - our own file
        policy=Markup(f"'sha256-{allowed}'"),  # noqa: S704 - a hash
        patterns=_PATTERNS,
        dashes=_DASHES,
        stroke=stroke,
        markers=_MARKERS,
        script=Markup(script),  # noqa: S704 - our own file
    )


def slug(identity: str) -> str:
    """Return a name as an anchor: other characters become `-`."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", identity)


def _charts(pieces: Sequence[Piece]) -> Iterator[Chart]:
    for piece in pieces:
        if isinstance(piece, Section):
            yield from _charts(piece.pieces)
        elif isinstance(piece, Chart):
            yield piece


def _kind(piece: Any) -> str:
    """Return which macro of the template draws a piece. A KeyError names a class that no macro draws."""
    return _MACROS[type(piece)]


def _own(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
