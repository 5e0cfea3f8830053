"""Series as text and back: a plain LLMTIME encoding (Gruver et al., 2023, arXiv:2310.07820).

Each series and variable is shifted and scaled by what its *history* shows, never by what is to be forecast; then every
value is written with a fixed number of decimals, `,` between the variables of a step and `;` after every step:

    2.31,4.05;2.47,3.98;

No signs or leading digits are fixed: a value that leaves the usual range (`-0.12`, `10.30`) is written as it is, so
`decode(encode(x))` is within half a unit of the last decimal wherever doubles are that fine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError

Floats: TypeAlias = NDArray[np.float64]

VALUE_SEPARATOR = ","
STEP_SEPARATOR = ";"
ALPHABET = "0123456789.-" + VALUE_SEPARATOR + STEP_SEPARATOR
"""Every character that an encoded series may hold."""


class Undecodable(LvjobsError):
    """The text is no encoded series."""


@dataclass(frozen=True)
class Scale:
    """How series were scaled: `offset` and `unit` have the shape (..., variables), in the data's own units.

    A value x is written as (x - offset) / unit.
    """

    offset: Floats
    unit: Floats

    def apply(self, values: Floats) -> Floats:
        """Scaled values; `values` has the shape (..., steps, variables)."""
        scaled: Floats = (values - self.offset[..., None, :]) / self.unit[..., None, :]
        return scaled

    def invert(self, scaled: Floats) -> Floats:
        """The data's own units again; same shapes as `apply`."""
        values: Floats = scaled * self.unit[..., None, :] + self.offset[..., None, :]
        return values


@dataclass(frozen=True)
class Codec:
    """LLMTIME's settings.

    The offset is min - beta (max - min); the alpha-quantile of what lies above it is mapped to `target`. LLMTime maps
    it to 1; with 6 nearly every value has exactly one digit before the point (up to 1.66 x the quantile), so that a
    step of two variables and two decimals is ten tokens.
    """

    decimals: int = 2
    target: float = 6.0
    alpha: float = 0.99
    beta: float = 0.3

    def fit(self, history: Floats) -> Scale:
        """The scale of each series and variable, from history of shape (..., steps, variables) alone."""
        history = np.asarray(history, dtype=np.float64)
        low, high = history.min(axis=-2), history.max(axis=-2)
        offset = low - self.beta * (high - low)
        unit = np.quantile(history - offset[..., None, :], self.alpha, axis=-2) / self.target
        # A constant history has no width to scale by: its own size (or 1) keeps what follows writable.
        unit = np.where(unit > 0, unit, np.where(offset == 0, 1.0, np.abs(offset)))
        return Scale(offset, unit)

    def format(self, scaled: Floats) -> str:
        """The text of one series that is scaled already, of shape (steps, variables)."""
        number = f"%.{self.decimals}f"
        step = VALUE_SEPARATOR.join([number] * scaled.shape[-1]) + STEP_SEPARATOR
        # Adding zero turns -0.0, and rounding first what would round to it, into a plain zero: no `-0.00`.
        rounded = np.round(scaled, self.decimals) + 0.0
        return (step * len(scaled)) % tuple(rounded.ravel().tolist())

    def parse(self, text: str, variables: int) -> Floats:
        """Scaled values of shape (steps, variables); the last step may lack its separator.

        Raises:
            Undecodable: the text holds something else than steps of `variables` numbers.
        """
        steps = text.removesuffix(STEP_SEPARATOR).split(STEP_SEPARATOR)
        try:
            rows = [[float(value) for value in step.split(VALUE_SEPARATOR)] for step in steps]
        except ValueError:
            raise Undecodable(f"not an encoded series: {text[:60]!r}") from None
        if any(len(row) != variables for row in rows):
            raise Undecodable(f"not every step has {variables} values: {text[:60]!r}")
        return np.array(rows, dtype=np.float64)

    def encode(self, values: Floats, scale: Scale) -> list[str]:
        """The text of each series: `values` has the shape (series, steps, variables), `scale` fits it."""
        return [self.format(series) for series in scale.apply(np.asarray(values, dtype=np.float64))]

    def decode(self, texts: Sequence[str], scale: Scale) -> Floats:
        """Values of shape (series, steps, variables), in the data's own units; all texts have the same steps."""
        variables = scale.offset.shape[-1]
        return scale.invert(np.stack([self.parse(text, variables) for text in texts]))
