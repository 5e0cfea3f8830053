"""How figures look, and how they are saved: the same bytes from the same data."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

FORMATS = ("png", "svg")

_STYLE: Any = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib: text is as wide on every machine
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
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "grid.linewidth": 0.4,
    "grid.color": "#DDDDDD",
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.hashsalt": "lvjobs",
    "svg.fonttype": "path",
    "axes.unicode_minus": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in this style, whatever the user's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that keeps room for all its labels; it belongs to no window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, directory: Path, stem: str) -> list[str]:
    """Write the figure in each of FORMATS; the files' names. Equal figures give equal bytes."""
    names = []
    with style():
        for suffix in FORMATS:
            name = f"{stem}.{suffix}"
            figure.savefig(directory / name, metadata={"Date": None} if suffix == "svg" else {"Software": None})
            names.append(name)
    return names


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """One legend for all axes, under them, where it hides nothing; equal labels once.

    At most so many columns; fewer where the labels are long.
    """
    found: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    columns = min(columns, len(found))
    while columns > 1 and _legend_width(list(found), columns) > figure.get_figwidth():
        columns -= 1
    if found:
        figure.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=columns,
            handlelength=2.6,
            columnspacing=1.4,
        )


def _legend_width(labels: Sequence[str], columns: int) -> float:
    """In inches, about: text of 8 points, and the lines beside it. matplotlib fills column after column."""
    rows, more = divmod(len(labels), columns)
    width, start = 0.0, 0
    for column in range(columns):
        end = start + rows + (column < more)
        width += 0.57 + 0.06 * max(map(len, labels[start:end]))
        start = end
    return width


def log_axis(axis: Any) -> None:
    """Ticks of a logarithmic axis as plain numbers, as many as there is room for."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if _decades(axis) < 2 else (1.0,), numticks=12))  # noqa: PLR2004
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _decades(axis: Any) -> float:
    low, high = axis.get_view_interval()
    return math.log10(high / low)
