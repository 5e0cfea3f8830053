"""Colours, dashes and names that all figures of a report share."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from lvjobs.forecasting.baselines import KNOWING, row_name
from lvjobs.report.figures.elements import Key

INK, QUIET, GRID = "#000000", "#666666", "#DDDDDD"
MODEL = "#0072B2"
"""The page replaces INK, QUIET, GRID and MODEL by colours of its own, which suit a dark page."""
PALETTE = (MODEL, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK, "#7F7F7F")
"""Okabe and Ito's colours, which people of every colour vision can tell apart (Wong, Nature Methods 8, 2011)."""
DASHES: tuple[Any, ...] = ("solid", "dash", "dot", "dashdot")
"""Dashes, so that lines differ in a black-and-white print too, and colours may be used again."""
MARKERS = "osD^v"
BASELINE_STYLES: dict[str, tuple[str, Any]] = {
    "persistence": ("#7F7F7F", "dot"),
    "mean": ("#7F7F7F", "dashdot"),
    "seasonal-naive": ("#E69F00", "dash"),
    "var-8": ("#009E73", "dashdot"),
    "var-12-log": ("#56B4E9", "dot"),
    "var-tuned": ("#009E73", "dash"),
    "var-tuned-log": ("#56B4E9", "dash"),
    "parroting": ("#E69F00", "dashdot"),
    "sparse-growth": ("#D55E00", "dash"),
    "analogue": ("#CC79A7", "dashdot"),
    "analogue-training": ("#CC79A7", "dash"),
    "ode": ("#D55E00", "dot"),
    "auto-arima": (MODEL, "dash"),
    "auto-ets": (MODEL, "dot"),
    "auto-theta": (MODEL, "dashdot"),
}
"""Colour and dashes of each baseline, the same in every figure; a model's own lines are solid."""
_OTHERS = ((INK, "dash"), (INK, "dashdot"), (INK, "dot"), (QUIET, "dash"))
"""Colours and dashes of baselines that the user names, such as pretrained models, in turn."""
MODELS = ((MODEL, "o"), (INK, "s"), ("#CC79A7", "D"), ("#56B4E9", "^"))
"""Colours and markers of models. Their lines are solid and have markers, which no baseline's has: colours recur."""
CAUSES: dict[str, tuple[str, str]] = {
    "completed": ("#009E73", ""),
    "preempted": ("#E69F00", "/"),
    "timeout": ("#56B4E9", "\\"),
    "node_fail": ("#D55E00", "x"),
    "killed": ("#CC79A7", "-"),
    "out_of_memory": (MODEL, "|"),
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
_BRIGHT = 190.0
"""The luma, of 255, above which a white pattern cannot be seen."""


def line_keys(names: Sequence[str]) -> list[Key]:
    """Return entries for lines of equal rank. No two are alike until all combinations of colour and dash are used."""
    colours = len(PALETTE)
    return [Key(name, PALETTE[n % colours], DASHES[(n + n // colours) % len(DASHES)]) for n, name in enumerate(names)]


def model_keys(names: Iterable[str]) -> list[Key]:
    """Return an entry for each model."""
    looks = zip(names, itertools.cycle(MODELS), strict=False)
    return [Key(name, colour, marker=marker) for name, (colour, marker) in looks]


def baseline_keys(names: Iterable[str], *, needed: bool = True) -> dict[str, Key]:
    """Return an entry for each baseline, by its name; those that know the law come last, and say so.

    Raises:
        ValueError: there is none, and one is `needed`.
    """
    others = itertools.cycle(_OTHERS)
    ordered = sorted(names, key=lambda name: name in KNOWING)
    keys = {name: Key(row_name(name), *(BASELINE_STYLES.get(name) or next(others))) for name in ordered}
    if needed and not keys:
        raise ValueError("forecasts and errors are never shown without a baseline beside them")
    return keys


def stroke(colour: str) -> str:
    """Return the colour of a pattern that is drawn on this colour."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#333333" if 0.299 * red + 0.587 * green + 0.114 * blue > _BRIGHT else "#FFFFFF"
