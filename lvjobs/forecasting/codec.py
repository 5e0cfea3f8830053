"""Series as text and back: the LLMTime encoding (Gruver et al., 2023, arXiv:2310.07820), for thousands at a time.

Each series and variable is shifted and scaled by its *history* alone, never by what is to be forecast. Then every value
is written with a fixed number of decimals, `,` between the variables of a step and `;` after every step:

    2.31,4.05;2.47,3.98;

With a power of 0.5 or 0, the square roots or the logarithms of the values are written in their place (Box and Cox,
1964): small values then keep their digits beside large ones.

Signs and the number of leading digits are not fixed: a value outside the usual range (`-0.12`, `10.30`) is written as
it is.

The error of `decode(encode(x))` is at most (0.5 + 1e-6) units of the last decimal, scaled back; with a power, that of
the power of x. Doubles could not hold
that everywhere, so there are two exceptions. A history whose width is tiny beside its level (1e15, 1e15 + 1) is scaled
by a little more than its width. And a value that lies millions of widths outside its history is refused (`Unwritable`),
since no double near it is as fine as the last decimal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError

Floats: TypeAlias = NDArray[np.float64]

VALUE_SEPARATOR = ","
STEP_SEPARATOR = ";"
ALPHABET = "0123456789.-" + VALUE_SEPARATOR + STEP_SEPARATOR
"""Every character that an encoded series may hold."""
SLACK = 1e-6
"""The error that doubles may add to the half unit of the last decimal, in such units."""
_ROUNDOFF = 2.0**-53
_SMALLEST = 1e-290
"""The smallest unit: below it doubles lose digits (they have none left at 5e-324)."""
_WIDEST = 1e300


class Undecodable(LvjobsError):
    """A text that is no encoded series."""


class Unwritable(LvjobsError):
    """Values that cannot be written so that they can be read back."""


@dataclass(frozen=True)
class Scale:
    """The scale of series: `offset` and `unit` have the shape (..., variables), in the data's own units.

    A value x is written as (x ** power - offset) / unit, with the logarithm of x for a power of 0; offset and unit are
    in units of that. The shape (variables,) is one scale for all series.
    """

    offset: Floats
    unit: Floats
    power: float = 1.0

    def apply(self, values: Floats) -> Floats:
        """Return scaled values; `values` has the shape (..., steps, variables). NaN where a value has no such power."""
        return (powers(values, self.power) - self.offset[..., None, :]) / self.unit[..., None, :]

    def invert(self, scaled: Floats) -> Floats:
        """Return values in the data's own units; same shapes as `apply`."""
        values = scaled * self.unit[..., None, :] + self.offset[..., None, :]
        if self.power == 1:
            return values
        if self.power == 0:
            return np.exp(np.minimum(values, np.log(_WIDEST)))
        clipped: Floats = np.clip(values, 0, _WIDEST**self.power) ** (1 / self.power)
        return clipped


def _named(power: float) -> str:
    return f"power of {power:g}" if power else "logarithm"


def powers(values: Floats, power: float) -> Floats:
    """Return values ** power, or logarithms for a power of 0, in the same shape; NaN or -inf where there is none."""
    if power == 1:
        return values
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.log(values) if power == 0 else values**power
    return found


@dataclass(frozen=True)
class Codec:
    """The settings of LLMTime.

    The offset is min - beta (max - min); the alpha-quantile of the values above it is mapped to `target`. LLMTime maps
    it to 1; with 6 nearly every value has exactly one digit before the point (up to 1.66 x the quantile), so that a
    step of two variables and two decimals is ten tokens. `scaling` is by each series' own history ("series"), or one
    scale per variable from all histories that `fit` gets ("global"). `power` is that in which values are scaled and
    written.
    """

    decimals: int = 2
    target: float = 6.0
    alpha: float = 0.99
    beta: float = 0.3
    scaling: Literal["series", "global"] = "series"
    power: float = 1.0

    def __post_init__(self) -> None:
        if not (
            1 <= self.decimals <= 9  # noqa: PLR2004 - as many as the text's integers hold
            and 0 <= self.alpha <= 1
            and 0 <= self.beta < np.inf
            and 0 < self.target < np.inf
            and 0 <= self.power <= 1
        ):
            raise LvjobsError(
                f"{self}: decimals are 1 to 9, alpha and power in [0, 1], beta at least 0, target above 0"
            )

    def fit(self, history: Floats) -> Scale:
        """Return the scale of each series and variable, from history of shape (..., steps, variables) alone.

        Returns:
            A scale of shape (..., variables); of (variables,) when `scaling` is "global".

        Raises:
            Unwritable: the history holds NaN, infinity, or numbers beyond 1e300; or one that has no such power.
        """
        history = np.asarray(history, dtype=np.float64)
        if not (np.abs(history) <= _WIDEST).all():
            where = ", ".join(map(str, np.argwhere(~(np.abs(history) <= _WIDEST))[0]))
            raise Unwritable(f"the history has NaN, infinity or a number beyond {_WIDEST:g} at [{where}]: repair it")
        history = powers(history, self.power)
        if not (found := np.isfinite(history)).all():
            where = ", ".join(map(str, np.argwhere(~found)[0]))
            raise Unwritable(f"the history at [{where}] has no {_named(self.power)}; set scale_power = 1")
        if self.scaling == "global":
            history = history.reshape(-1, history.shape[-1])
        low, high = history.min(axis=-2), history.max(axis=-2)
        offset = low - self.beta * (high - low)
        unit = np.quantile(history - offset[..., None, :], self.alpha, axis=-2) / self.target
        # A history that is nearly constant beside its level has a width that doubles cannot resolve. Its unit is then
        # as wide as the bound needs for it and for ten times its width.
        finest = (60 * (high - offset) + 2 * np.abs(offset)) / self._reach
        # With beta = 0 the quantile may be zero; then the width is used. A constant history has no width; its own size
        # (or 1) keeps later values writable.
        own = np.where(offset == 0, 1.0, np.abs(offset))
        fallback = np.where(high > low, (high - low) / self.target, own)
        unit = np.maximum(np.where(unit > 0, unit, fallback), np.maximum(finest, _SMALLEST))
        if not (np.isfinite(offset) & np.isfinite(unit)).all():
            raise Unwritable(f"beta = {self.beta:g} leaves the range of doubles: choose a smaller one")
        return Scale(offset, unit, self.power)

    @property
    def _reach(self) -> float:
        """Return the largest (6 |x - offset| + |offset|) / unit: six roundings of the one and one of the other."""
        return 0.99 * SLACK * 10.0**-self.decimals / _ROUNDOFF

    def write(self, scaled: Floats) -> list[str]:
        """Return the texts of series that are scaled already, of shape (series, steps, variables).

        Raises:
            Unwritable: a value is not finite, or so large that its last decimal is beyond doubles.
        """
        series, steps, variables = scaled.shape
        decimals = self.decimals
        with np.errstate(over="ignore"):
            whole = np.rint(scaled.ravel() * 10.0**decimals)
        if not (np.abs(whole) < 1 / _ROUNDOFF).all():
            bad = np.flatnonzero(~(np.abs(whole) < 1 / _ROUNDOFF))[0]
            where = ", ".join(map(str, np.unravel_index(bad, scaled.shape)))
            raise Unwritable(
                f"{scaled.ravel()[bad]:g} at [{where}] cannot be written with {decimals} decimals; drop the series, "
                "or write fewer decimals"
            )
        negative, rest = whole < 0, np.abs(whole).astype(np.int64)  # no `-0.00`: what rounds to zero has no sign
        top = int(rest.max(initial=0))
        before = max(1, len(str(top)) - decimals)
        if top < 2**31:
            rest = rest.astype(np.int32)  # three times as fast to divide
        # One row per value: sign, digits, point, decimals, separator; characters that a value does not need are left
        # out.
        text = np.empty((rest.size, before + decimals + 3), dtype=np.uint8)
        text[:, 0], text[:, before + 1] = ord("-"), ord(".")
        text[:, -1].reshape(-1, variables)[:] = [ord(VALUE_SEPARATOR)] * (variables - 1) + [ord(STEP_SEPARATOR)]
        needed = np.ones(text.shape, dtype=bool)
        needed[:, 0] = negative
        for place, column in enumerate((*range(before + decimals + 1, before + 1, -1), *range(before, 0, -1))):
            if place > decimals:
                needed[:, column] = rest > 0
            tens = rest // 10
            text[:, column] = rest - 10 * tens + ord("0")
            rest = tens
        if before == 1 and not negative.any():
            characters, ends = text[:, 1:].tobytes(), np.arange(series + 1) * (steps * variables * (decimals + 3))
        else:
            lengths = needed.sum(axis=1).reshape(series, -1).sum(axis=1)
            characters, ends = text[needed].tobytes(), np.concatenate([[0], np.cumsum(lengths)])
        written = characters.decode("ascii")
        return [written[start:end] for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]

    def parse(self, text: str, variables: int) -> Floats:
        """Return scaled values of shape (steps, variables); the last step may lack its separator.

        Raises:
            Undecodable: the text is not a list of steps of `variables` numbers.
        """
        number = rf"-?[0-9]+\.[0-9]{{{self.decimals}}}"
        step = VALUE_SEPARATOR.join([number] * variables)
        if not re.fullmatch(f"{step}(?:{STEP_SEPARATOR}{step})*{STEP_SEPARATOR}?", text):
            raise Undecodable(
                f"not an encoded series of {variables} variable(s) with {self.decimals} decimals: {text[:60]!r}"
            )
        values = text.removesuffix(STEP_SEPARATOR).replace(STEP_SEPARATOR, VALUE_SEPARATOR).split(VALUE_SEPARATOR)
        numbers = np.array(list(map(float, values))).reshape(-1, variables)
        if not np.isfinite(numbers).all():
            raise Undecodable(f"a number beyond doubles: {text[:60]!r}")
        return numbers

    def encode(self, values: Floats, scale: Scale) -> list[str]:
        """Return the text of each series: `values` has the shape (series, steps, variables), `scale` fits it.

        Raises:
            Unwritable: a value is not finite, or too far outside its history to be read back as exactly.
        """
        values = np.asarray(values, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = scale.apply(values)
            reach = 6 * np.abs(scaled) + np.abs(scale.offset / scale.unit)[..., None, :]
        if not (fits := reach <= self._reach).all():
            series, step, variable = np.argwhere(~fits)[0]
            lacks = "" if self.power == 1 else f"has no {_named(self.power)}, "
            raise Unwritable(
                f"series {series}, step {step}, variable {variable}: {values[series, step, variable]:g} is no number, "
                f"{lacks}or lies too far outside its history: {self.decimals} decimals reach {self._reach / 6:.1g} "
                f"times the scale of a history; drop the series, or write fewer decimals"
            )
        return self.write(scaled)

    def decode(self, texts: Sequence[str], scale: Scale) -> Floats:
        """Return values of shape (series, steps, variables), in the data's own units.

        Raises:
            Undecodable: a text is no encoded series, or they do not all have the same number of steps.
        """
        variables = scale.offset.shape[-1]
        parsed = [self.parse(text, variables) for text in texts]
        if len({len(rows) for rows in parsed}) > 1:
            raise Undecodable(f"series of {min(map(len, parsed))} to {max(map(len, parsed))} steps: decode one by one")
        return scale.invert(np.stack(parsed))
