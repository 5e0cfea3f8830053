"""Charts as files for print: the same bytes from the same data."""

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lvjobs.report.figures.draw import DASHES, box, draw_panel, style
from lvjobs.report.figures.elements import Chart, Key
from lvjobs.report.figures.palette import INK, PALETTE

FORMATS = ("png", "svg")
_WIDTH = 7.2
"""The width of a page's text, in inches."""
_COLUMNS = {"full": 1, "half": 2, "third": 3}


def save(chart: Chart, directory: Path, stem: str) -> list[str]:
    """Write the chart in each of FORMATS, and return the files' names."""
    names = []
    figure = figure_of(chart)
    with style():
        for suffix in FORMATS:
            name = f"{stem}.{suffix}"
            figure.savefig(directory / name, metadata={"Date": None} if suffix == "svg" else {"Software": None})
            names.append(name)
    return names


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
