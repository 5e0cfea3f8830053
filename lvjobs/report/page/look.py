"""How the page's plots look: the frame that all share, and colours and patterns of what attempts and FLOPs were."""

import html
import json
import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, Literal

from plotly import graph_objects as go

from lvjobs.report.page.parts import Key, Plot
from lvjobs.report.palette import DASHES, INK, QUIET, baseline_style

GRID = "#DDDDDD"
"""INK, QUIET and GRID are exchanged in the browser where the page is dark."""
MARKERS = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down"}
_DASHES: dict[Any, str] = dict(zip(DASHES, ("solid", "dash", "dot", "dashdot"), strict=True))
_BRIGHT = 190.0
"""Luma, of 255, from which on white cannot be seen."""
CAUSES: dict[str, tuple[str, str]] = {
    "completed": ("#009E73", ""),
    "preempted": ("#E69F00", "/"),
    "timeout": ("#56B4E9", "\\"),
    "node_fail": ("#D55E00", "x"),
    "killed": ("#CC79A7", "-"),
    "out_of_memory": ("#0072B2", "|"),
    "hung": ("#F0E442", "+"),
    "launch_failed": ("#F0E442", "x"),
    "code_error": ("#D55E00", ""),
    "cancelled": ("#7F7F7F", ""),
    "lost": ("#7F7F7F", "/"),
    "running": ("#56B4E9", "."),
}
"""Colour and pattern of each end of an attempt: no two have both in common."""
KINDS: dict[str, tuple[str, str]] = {
    "useful": ("#009E73", ""),
    "replayed": ("#D55E00", "/"),
    "validation": ("#56B4E9", "\\"),
    "generation": ("#CC79A7", "-"),
}


def dash(matplotlib_dash: Any) -> str:
    """The same dashes as matplotlib draws, by plotly's name."""
    return _DASHES[matplotlib_dash]


def baseline_key(name: str) -> Key:
    """A baseline's entry in a legend; its line looks like that."""
    colour, dashes = baseline_style(name)
    return Key(name, colour, dash=dash(dashes))


def words(text: str) -> str:
    """A text that somebody else wrote, for plotly: it reads a little HTML in all that it draws."""
    return html.escape(text, quote=False)


def moment(time: float) -> str:
    """As plotly takes a date; UTC."""
    return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def numbers(values: Any) -> list[float | None]:
    """To six digits: more cannot be seen, and the page has to be read by a phone. Null where it is no number."""
    return [float(f"{value:.6g}") if value is not None and value == value else None for value in values]  # noqa: PLR0124


def named(names: Sequence[str], most: int = 50) -> dict[str, Any]:
    """What makes an axis one of names, from 0; the browser shortens them to what there is room for.

    Of more than `most` only every so many are written.
    """
    places = range(0, len(names), -(-len(names) // most) or 1)
    return {"tickvals": list(places), "ticktext": [words(names[place]) for place in places], "zeroline": False}


def log(values: Iterable[float]) -> dict[str, Any]:
    """What makes an axis logarithmic: plain numbers, more of them where there are few decades."""
    drawn = [value for value in values if value > 0]
    decades = math.log10(max(drawn) / min(drawn)) if drawn else 0.0
    ticks = {"dtick": "D2"} if decades < 2 else {"dtick": 1, "minor": {"ticks": "outside", "dtick": "D2"}}  # noqa: PLR2004
    return {"type": "log", "tickformat": "~g", **ticks}


def stroke(colour: str) -> str:
    """What a pattern is drawn in on this colour."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#333333" if 0.299 * red + 0.587 * green + 0.114 * blue > _BRIGHT else "#FFFFFF"


def filled(colour: str, pattern: str) -> dict[str, Any]:
    """A filled area that looks as its entry in the legend says."""
    look = {"shape": pattern, "fgcolor": stroke(colour), "bgcolor": colour, "size": 6, "solidity": 0.25}
    return {"fillcolor": colour, **({"fillpattern": look} if pattern else {})}


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis, with its title in words of ours."""
    quiet = {"gridcolor": GRID, "linecolor": QUIET, "zerolinecolor": GRID, "tickcolor": QUIET}
    return {"title": {"text": title, "standoff": 8}, "automargin": True, "ticks": "outside", **quiet, **more}


def plot(
    traces: Sequence[Any],
    x: dict[str, Any],
    y: dict[str, Any],
    title: str = "",
    **layout: Any,
) -> Plot:
    """A figure of plotly in JSON, with no legend of its own: the page has one for all panels of a chart."""
    frame = {
        "template": go.layout.Template(),
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "title": {
            "text": title,
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 6},
            "font": {"size": 13},
        },
        "margin": {"l": 12, "r": 14, "t": 32 if title else 12, "b": 10},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": x,
        "yaxis": y,
    }
    figure = go.Figure(data=list(traces), layout={**frame, **layout})
    found: dict[str, Any] = json.loads(figure.to_json(engine="json"))
    return found


def line(
    key: Key,
    x: Sequence[Any],
    y: Sequence[Any],
    mode: Literal["lines", "lines+markers", "markers"] = "lines",
    width: float = 1.6,
    **more: Any,
) -> Any:
    """A line that looks as its entry in the legend says."""
    hover = more.pop("hovertemplate", "%{x}, %{y:.4g}<extra>%{fullData.name}</extra>")
    marker = {"color": key.colour, "symbol": key.marker or "circle", "size": 6, **more.pop("marker", {})}
    shape = {"color": key.colour, "dash": key.dash, "width": width, **more.pop("line", {})}
    return go.Scatter(
        x=list(x),
        y=list(y),
        mode=mode,
        name=words(key.name),
        meta=key.name,
        line=shape,
        marker=marker,
        hovertemplate=hover,
        **more,
    )


def upright(x: float, colour: str = QUIET, style: str = "dot") -> dict[str, Any]:
    """A line across the plot's height."""
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "opacity": 0.6,
        "line": {"color": colour, "width": 1, "dash": style},
    }
