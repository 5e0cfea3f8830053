"""The page as one HTML file, and the tables beside it. Equal pages give equal bytes."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lvjobs.files import private, write_atomic, write_json
from lvjobs.report.figures.draw import draw_panel, style
from lvjobs.report.figures.elements import Cells, Chart, Key, Panel
from lvjobs.report.figures.palette import GRID, INK, MODEL, QUIET, stroke
from lvjobs.report.outputs import claim
from lvjobs.report.page.pieces import Page, Piece, Section, Text
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
_WIDTHS = {"full": (900, 380), "half": (430,), "third": (320,)}
"""The widths in pixels for which a panel is drawn; full-width panels are drawn once more for a phone."""
_PIXELS = 104
"""Pixels per inch of the drawing, at which its text is as large as the page's captions."""
_COLOURS = {INK: "var(--ink)", QUIET: "var(--quiet)", GRID: "var(--line)", MODEL: "var(--blue)"}
_SVG = "{http://www.w3.org/2000/svg}"
_NAMED = {f"{_SVG}path", f"{_SVG}clipPath", f"{_SVG}pattern"}
"""Elements that other elements of the drawing refer to."""
_LINK = "{http://www.w3.org/1999/xlink}href"
_DRAWN = {"Date": None, "Creator": None, "Format": None, "Type": None}
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


# -- panels as SVG: in the page's own colours, with values that a reader can point at --------------------------------


def drawings(chart: Chart, panel: Panel) -> Iterator[tuple[str, Markup, Markup]]:
    """Yield the panel for each width: its class in the page, its SVG, and the points with values as JSON."""
    widths = _WIDTHS[chart.width]
    for name, width in zip(("wide", "narrow") if len(widths) > 1 else ("",), widths, strict=True):
        salt = f"{chart.id} {panel.label} {name}"
        with style(svg_fonttype="none", svg_hashsalt=salt):
            inches, file = width / _PIXELS, io.StringIO()
            figure = Figure(figsize=(inches, panel.height / _PIXELS), layout="constrained")
            axes = figure.subplots()
            draw_panel(axes, panel, chart.keys, inches)
            figure.savefig(file, format="svg", transparent=True, metadata=_DRAWN)
        yield name, _tidied(file.getvalue()), as_json([*_spots(axes, panel, chart.keys)])


def as_json(value: Any) -> Markup:
    """Return JSON for a script element, escaped so that it cannot end that element or begin another."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))  # noqa: S704 - escaped just now


def _spots(axes: Axes, panel: Panel, keys: Sequence[Key]) -> Iterator[list[Any]]:
    """Yield each point as [key's number, from x, to x, y, words], in thousandths of the drawing's width and height."""
    to_page = axes.transData - axes.figure.transFigure
    inside = axes.get_position().padded(0.01)
    for mark in panel.marks:
        place = -1 if isinstance(mark, Cells) else keys.index(mark.key)
        for start, end, at, words in mark.spots():
            (left, _), (right, y) = to_page.transform([(start, at), (end, at)])
            if np.isfinite([left, right, y]).all() and inside.y0 <= y <= inside.y1:
                yield [place, round(1000 * left), round(1000 * right), round(1000 * (1 - y)), words]


def _tidied(text: str) -> Markup:
    """Return the drawing as an element of the page: without ids that other drawings have too, in the page's colours."""
    ET.register_namespace("", _SVG[1:-1])
    root = ET.fromstring(text)  # noqa: S314 - matplotlib wrote it just now
    root.remove(root[0])  # a style for the whole page
    for each in root.iter():
        name = each.attrib.pop("id", "")
        if re.fullmatch(r"k\d+|cells", name):
            each.set("class", name)
        elif name and each.tag in _NAMED:
            each.set("id", name)
        if _LINK in each.attrib:
            each.set("href", each.attrib.pop(_LINK))
        look = each.get("style", "")
        for colour, ours in _COLOURS.items():
            look = look.replace(colour.lower(), ours)
        if look:
            each.set("style", re.sub(r"font-family: [^;]*;? ?", "", look))
        for key in {"d", "x", "y", "transform"} & each.attrib.keys():
            each.set(key, " ".join(re.sub(r"(\.\d\d)\d+", r"\1", each.attrib[key]).split()))
        if each.tag == f"{_SVG}g":
            each.text = each.tail = None
    root.attrib = {"viewBox": root.attrib["viewBox"], "aria-hidden": "true"}
    return Markup(ET.tostring(root, encoding="unicode", short_empty_elements=True))  # noqa: S704 - escaped there
