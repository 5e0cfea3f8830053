"""Charts as files for print, the same bytes from the same data; and a directory of figures with its index."""

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lvjobs.files import write_atomic, write_json
from lvjobs.report.figures.draw import DASHES, box, draw_panel, style
from lvjobs.report.figures.elements import Chart, Key
from lvjobs.report.figures.palette import INK, PALETTE
from lvjobs.report.figures.study import charts
from lvjobs.report.material import Material
from lvjobs.report.outputs import claim

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


MARKER = "index.json"
_KIND = {"kind": "lvjobs figures", "schema": 1}


def write_figures(material: Material, directory: Path) -> dict[str, Any]:
    """Draw everything into `directory`, write `index.json` and `index.md`, and return the index.

    Files of an earlier drawing that this one does not draw are removed, so that no figure is out of date.

    Raises:
        UsageError: the directory holds something else.
    """
    before = claim(directory, MARKER, _KIND)
    drawn, missing = [], []
    for each in charts(material):
        if each.missing:
            missing.append({"stem": each.id, "shows": each.shows, "why": each.missing})
        else:
            drawn.append({"stem": each.id, "shows": each.shows, "files": save(each, directory, each.id)})
    index = {**_KIND, "drawn": drawn, "missing": missing}
    kept = {name for each in drawn for name in each["files"]}
    for name in {name for each in before.get("drawn", ()) for name in each["files"]} - kept:
        (directory / Path(name).name).unlink(missing_ok=True)
    write_json(directory / MARKER, index)
    write_atomic(directory / "index.md", _markdown(index))
    return {**index, "directory": str(directory)}


def _markdown(index: dict[str, Any]) -> str:
    lines = ["# Figures", ""]
    for each in index["drawn"]:
        shows = f"{each['shows'][0].upper()}{each['shows'][1:]}"
        lines += [f"## {each['stem']}", "", f"{shows}.", "", f"![{each['stem']}]({each['files'][0]})", ""]
    if index["missing"]:
        lines += ["## Not drawn", ""]
        lines += [f"- {each['stem']} ({each['shows']}): {each['why']}" for each in index["missing"]]
        lines.append("")
    return "\n".join(lines)
