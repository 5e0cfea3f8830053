"""Panels drawn by matplotlib, the one renderer, for print and for the page; and charts as files for print.

Only the commands that draw import this module: matplotlib takes half a second that `lvjobs status` can save.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timezone
from functools import singledispatch
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.dates as untyped_dates
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lvjobs.report.figures.elements import (
    Axis,
    Band,
    Bars,
    Cells,
    Chart,
    Estimates,
    Key,
    Line,
    Mark,
    Panel,
    ReferenceLine,
)
from lvjobs.report.figures.palette import GRID, INK, PALETTE, QUIET, stroke

dates: Any = untyped_dates
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib, so text is equally wide on every machine
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "grid.linewidth": 0.4,
    "grid.color": GRID,
    "hatch.linewidth": 0.7,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.hashsalt": "lvjobs",
    "svg.fonttype": "path",
    "axes.unicode_minus": False,
    "text.parse_math": False,  # a run's name may hold any characters
}
DASHES: dict[str, Any] = {
    "solid": "-",
    "dash": (0, (5, 2)),
    "dot": (0, (1, 1.2)),
    "dashdot": (0, (5, 1.5, 1, 1.5)),
    "longdash": (0, (6, 3)),
}
_LETTER, _ROW = 0.062, 0.17
"""The approximate width of a letter and height of a row of an axis' names, in inches."""


@contextmanager
def style(**more: Any) -> Iterator[None]:
    """Draw in this style, whatever the user's own matplotlibrc sets."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE | {key.replace("_", ".", 1): value for key, value in more.items()})
        yield


def draw_panel(axes: Axes, panel: Panel, keys: Sequence[Key], width: float) -> None:
    """Draw a panel into axes of about `width` inches; each artist's gid is the number of its key in `keys`."""
    met: set[str] = set()
    for mark in panel.marks:
        name, group = ("", "cells") if isinstance(mark, Cells) else (mark.key.name, f"k{keys.index(mark.key)}")
        for artist in _draw(mark, axes):
            artist.set_gid(group)
            artist.set_label("_" if name in met else name)
            met.add(name)
    axes.set_title(panel.title)
    if panel.note:
        axes.text(0.5, 0.5, panel.note, ha="center", va="center", transform=axes.transAxes)
    _lay_out(axes, "x", panel.x, width, panel.height / 100)
    _lay_out(axes, "y", panel.y, width, panel.height / 100)


def _lay_out(axes: Axes, name: str, wanted: Axis, width: float, height: float) -> None:
    """Set scale, limits and ticks, with as many tick labels as fit."""
    length = width if name == "x" else height
    room = max(2, int(width / (10 * _LETTER) if name == "x" else height / _ROW))
    label = "\n".join(textwrap.fill(part, max(12, int(length / _LETTER))) for part in wanted.label.splitlines())
    axis: Any = getattr(axes, f"{name}axis")
    scale = "log" if wanted.kind == "log" else "linear"
    axes.set(**{f"{name}scale": scale, f"{name}label": label, f"{name}lim": wanted.limits})
    axes.set_axisbelow(True)
    axis.grid(visible=wanted.grid)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.8g}".replace("e+", "e")))
    if wanted.kind == "names":
        shown = range(0, len(wanted.names), -(-len(wanted.names) // room))
        axis.set_ticks(list(shown), [_short(wanted.names[place], max(14, int(width / _LETTER / 3))) for place in shown])
        axis.set_tick_params(length=0)
    elif wanted.kind == "time":
        locator = dates.AutoDateLocator(tz=timezone.utc, minticks=2, maxticks=room + 1)
        axis.set_major_locator(locator)
        axis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=timezone.utc))
    elif wanted.kind == "log":
        first, last = axis.get_view_interval()
        few = math.log10(last / first) < 2  # noqa: PLR2004 - decades
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=min(12, room)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=wanted.kind == "whole"))


def _short(text: str, most: int) -> str:
    """Return a name shortened in its middle, so that it leaves room for the plot."""
    half = (most - 1) / 2
    return text if len(text) <= most else f"{text[: math.ceil(half)]}…{text[-math.floor(half) :]}"


@singledispatch
def _draw(mark: Mark, axes: Axes) -> Sequence[Artist]:
    """Draw a mark, and return all artists that belong to its key."""
    raise TypeError(f"{type(mark).__name__} on {axes}")


@_draw.register
def _(mark: Line, axes: Axes) -> Sequence[Artist]:
    marker = mark.marker or mark.key.marker or "o"
    look: dict[str, Any] = {"color": mark.key.colour, "ls": DASHES[mark.key.dash] if mark.width else "none"}
    if mark.size:
        look |= {"marker": "o" if marker == "ring" else marker, "ms": mark.size}
        look |= {"mfc": "none", "mew": 1.1} if marker == "ring" else {"mew": 1.6} if marker == "x" else {}
    shape = "steps-post" if mark.steps else "default"
    return axes.plot(mark.x, mark.y, lw=mark.width, alpha=mark.opacity, drawstyle=shape, **look)


@_draw.register
def _(mark: Estimates, axes: Axes) -> Sequence[Artist]:
    values, low, high = zip(*((point.value, point.low, point.high) for point in mark.points), strict=True)
    upright, places, colour = mark.along == "y", mark.places, mark.key.colour
    look: Any = {"color": colour, "marker": mark.key.marker, "ms": 5, "lw": 1.3 if upright else 0}
    caps: Any = {"color": colour, "marker": "_" if upright else "|", "ls": "none", "ms": 6}
    bars = (axes.vlines if upright else axes.hlines)(places, low, high, color=colour, lw=1.1)
    ends = [*places, *places], [*low, *high]
    middle = (places, values) if upright else (values, places)
    return [*axes.plot(*middle, **look), *axes.plot(*(ends if upright else ends[::-1]), **caps), bars]


@_draw.register
def _(mark: Band, axes: Axes) -> Sequence[Artist]:
    step: Any = "mid" if mark.steps else None
    return [axes.fill_between(mark.x, mark.low, mark.high, step=step, lw=0, **box(mark.key))]


@_draw.register
def _(mark: Bars, axes: Axes) -> Sequence[Artist]:
    corners = [
        [(start, row - 0.36), (end, row - 0.36), (end, row + 0.36), (start, row + 0.36)]
        for row, start, end in zip(mark.rows, mark.start, mark.end, strict=True)
    ]
    made = axes.add_collection(PolyCollection(corners, lw=0.4, **box(mark.key)))
    axes.autoscale_view()
    return [made]


@_draw.register
def _(mark: ReferenceLine, axes: Axes) -> Sequence[Artist]:
    across = axes.axvline if mark.along == "x" else axes.axhline
    return [across(mark.at, color=mark.key.colour, ls=DASHES[mark.key.dash], lw=1.0, zorder=1.5)]


@_draw.register
def _(mark: Cells, axes: Axes) -> Sequence[Artist]:
    edges = [np.arange(count + 1) - 0.5 for count in reversed(mark.values.shape)]
    mesh = axes.pcolormesh(*edges, np.ma.masked_invalid(mark.values), cmap="cividis")
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row, column in np.ndindex(*mark.values.shape) if mark.written else ():
        red, green, blue, _ = mesh.to_rgba(mark.values[row, column])
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5  # noqa: PLR2004 - luma by ITU-R BT.601
        colour = QUIET if np.isnan(mark.values[row, column]) else "#FFFFFF" if dark else "#010101"
        axes.text(column, row, mark.written[row][column], ha="center", va="center", color=colour)
    place, size = (mark.best[1] - 0.48, mark.best[0] - 0.48), 0.96
    axes.add_patch(Rectangle(place, size, size, fill=False, edgecolor=PALETTE[1], linewidth=2.2))
    axes.figure.colorbar(mesh, ax=axes, label=mark.quantity, aspect=12).outline.set_visible(False)
    return [mesh]


def box(key: Key) -> dict[str, Any]:
    """Return matplotlib's fill settings for an entry of the legend."""
    edge = stroke(key.colour) if key.pattern else INK
    return {"facecolor": key.colour, "edgecolor": edge, "alpha": key.opacity, "hatch": 3 * key.pattern or None}


# -- files, the same bytes from the same data ------------------------------------------------------------------------

FORMATS = {"png": "Software", "svg": "Date"}
"""The formats, each with what is left out of its metadata, so that the same data give the same bytes."""
_WIDTH = 7.2
"""The width of a page's text, in inches."""
_COLUMNS = {"full": 1, "half": 2, "third": 3}


def save(chart: Chart, directory: Path, stem: str) -> list[str]:
    """Write the chart in each of FORMATS, and return the files' names."""
    figure = figure_of(chart)
    with style():
        for suffix, unknown in FORMATS.items():
            figure.savefig(directory / f"{stem}.{suffix}", metadata={unknown: None})
    return [f"{stem}.{suffix}" for suffix in FORMATS]


def figure_of(chart: Chart) -> Figure:
    """Return the chart's panels in as many columns as it has, one legend below them."""
    columns = min(_COLUMNS[chart.width], len(chart.panels))
    rows, width = -(-len(chart.panels) // columns), _WIDTH * columns / _COLUMNS[chart.width]
    longest = max((len(key.name) for key in chart.keys), default=0)
    across = max(1, min(4, int(width / (0.57 + 0.06 * longest))))
    beside = textwrap.wrap(chart.beside, int(width * 17))
    extra = 0.2 * bool(chart.heading) + 0.17 * (len(beside) + -(-len(chart.keys) // across))
    with style():
        figure = Figure(
            figsize=(width, rows * max(panel.height for panel in chart.panels) / 100 + extra), layout="constrained"
        )
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, panel in zip(grid, chart.panels, strict=False):
            draw_panel(axes, panel, chart.keys, width / columns)
        for axes in grid[len(chart.panels) :]:
            axes.set_axis_off()
        title, colour = chart.heading, INK
        if chart.warning:
            title, colour = f"{title}: {chart.warning}", PALETTE[1]
        figure.suptitle(title, fontsize=9.5, x=0.01, ha="left", color=colour)
        figure.supxlabel("\n".join(beside), fontsize=7.5)
        if chart.keys:
            handles = [_swatch(key) for key in chart.keys]
            figure.legend(
                handles=handles, loc="outside lower center", ncols=across, handlelength=2.6, columnspacing=1.4
            )
    return figure


def _swatch(key: Key) -> Any:
    if key.kind == "box":
        return Patch(label=key.name, lw=0, **box(key))
    dash = "none" if key.kind == "dot" else DASHES[key.dash]
    return Line2D([], [], color=key.colour, ls=dash, marker=key.marker, ms=4, lw=1.4, label=key.name)
