"""Panels as SVG inside the page: in the page's own colours, with values that a reader can point at."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lvjobs.report.figures.draw import draw_panel, style
from lvjobs.report.figures.elements import Cells, Chart, Key, Panel
from lvjobs.report.figures.palette import GRID, INK, MODEL, QUIET

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
