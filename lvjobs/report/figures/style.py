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

INK, QUIET = "#000000", "#666666"
MODEL = "#0072B2"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's colours, which people of every colour vision can tell apart (Wong, Nature Methods 8, 2011)."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""So that lines differ in a black-and-white print too, and colours may come round again."""
BASELINE_STYLES: dict[str, tuple[str, Any]] = {
    "persistence": ("#7F7F7F", DASHES[2]),
    "mean": ("#7F7F7F", DASHES[3]),
    "seasonal-naive": ("#E69F00", DASHES[1]),
    "var-8": ("#009E73", DASHES[3]),
    "var-12-log": ("#56B4E9", DASHES[2]),
    "analogue": ("#CC79A7", DASHES[3]),
    "analogue-training": ("#CC79A7", DASHES[1]),
    "ode": ("#D55E00", DASHES[2]),
}
"""Colour and dashes of each baseline, the same in every figure; a model's own lines are solid."""
SHOWN = ("persistence", "mean", "seasonal-naive", "var-8", "ode")
"""Baselines that figures draw: one of each kind. The numbers beside a figure hold all of them."""
MODELS = (("#0072B2", "o"), ("#000000", "s"), ("#CC79A7", "D"), ("#56B4E9", "^"))
"""Colours and markers of models that stand beside the baselines, whose colours they are not."""
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


def line_styles(count: int) -> list[tuple[str, Any]]:
    """Colours and dashes for so many lines of equal rank, no two alike as long as there are any left."""
    colours = len(PALETTE)
    return [(PALETTE[n % colours], DASHES[(n + n // colours) % len(DASHES)]) for n in range(count)]


def baseline_style(name: str) -> tuple[str, Any]:
    """Colour and dashes of a baseline."""
    return BASELINE_STYLES.get(name, (QUIET, DASHES[1]))


def shown(names: Sequence[str]) -> list[str]:
    """Those of the baselines that are drawn: SHOWN, or all where there is none of these."""
    return [name for name in SHOWN if name in names] or list(names)


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


def variable_names(count: int) -> list[str]:
    """`prey` and `predator`, as the study's file has them; numbers where there are not two."""
    return ["prey", "predator"] if count == 2 else [f"variable {number + 1}" for number in range(count)]  # noqa: PLR2004
