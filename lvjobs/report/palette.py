"""Colours, dashes and names that all figures of a report share, whoever draws them."""

from collections.abc import Sequence
from typing import Any

INK, QUIET = "#000000", "#666666"
MODEL = "#0072B2"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's colours, which people of every colour vision can tell apart (Wong, Nature Methods 8, 2011)."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""So that lines differ in a black-and-white print too, and colours may come round again. As matplotlib has them."""
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


def variable_names(count: int) -> list[str]:
    """`prey` and `predator`, as the study's file has them; numbers where there are not two."""
    return ["prey", "predator"] if count == 2 else [f"variable {number + 1}" for number in range(count)]  # noqa: PLR2004
