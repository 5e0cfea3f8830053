"""The grammar of a forecast, derived from the codec's settings, and the draw of a character among those it allows.

It is a small state machine over characters:

    value   = ["-"] digits "." digit{decimals}
    series  = (value ("," value){variables - 1} ";"){steps}

A sign is possible only if signs are allowed, and there are at most `digits` digits before the point. A number has no
leading zeros: the codec writes none. Everything that this produces parses (`Codec.parse`), and it ends by itself after
the last step: nothing is ever cut, and no forecast can be too short.

It is a table rather than a library's engine: a dozen states over fourteen characters, at a few microseconds per token
for a whole batch (llguidance 0.1 ms, xgrammar 0.6 ms per token and row).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import ALPHABET, STEP_SEPARATOR, VALUE_SEPARATOR, Codec, Floats

POINT, SIGN, DIGITS = ".", "-", "0123456789"
START = 0
"""The state before each series' first character, and after each step."""


@dataclass(frozen=True)
class Grammar:
    """The layout of a forecast.

    Attributes:
        decimals: Digits after each point.
        variables: Values per step.
        digits: The most digits before a point.
        signed: Whether a value may be negative.
    """

    decimals: int
    variables: int
    digits: int = 1
    signed: bool = False

    @cached_property
    def next(self) -> NDArray[np.int64]:
        """Return the state after each character of ALPHABET in each state, -1 if not allowed: (states, characters).

        Per variable: before a value, after its sign, after a leading zero, after 1 .. `digits` digits, after the point
        and 0 .. `decimals` decimals.
        """
        per_value = 3 + self.digits + 1 + self.decimals
        table = np.full((self.variables * per_value, len(ALPHABET)), -1, dtype=np.int64)
        zero, others = _places("0"), _places(DIGITS[1:])
        for variable in range(self.variables):
            first = variable * per_value
            sign, leading, whole, fraction = first + 1, first + 2, first + 2, first + 3 + self.digits
            for before in (first, sign):
                table[before, others] = whole + 1
                # With one digit before the point a zero leads to the same state as any other digit, so that all rows of
                # a batch are always in the same state.
                table[before, zero] = leading if self.digits > 1 else whole + 1
            if self.signed:
                table[first, _places(SIGN)] = sign
            table[leading, _places(POINT)] = fraction
            for count in range(1, self.digits + 1):
                table[whole + count, _places(POINT)] = fraction
                if count < self.digits:
                    table[whole + count, _places(DIGITS)] = whole + count + 1
            for count in range(self.decimals):
                table[fraction + count, _places(DIGITS)] = fraction + count + 1
            last = variable == self.variables - 1
            separator = STEP_SEPARATOR if last else VALUE_SEPARATOR
            table[fraction + self.decimals, _places(separator)] = START if last else first + per_value
        return table

    @cached_property
    def allowed(self) -> NDArray[np.bool_]:
        """Return which characters of ALPHABET are allowed in each state: (states, characters)."""
        return self.next >= 0

    @cached_property
    def forced(self) -> NDArray[np.int64]:
        """Return the only allowed character (its place in ALPHABET) in each state, -1 if there are more: (states,)."""
        return np.where(self.allowed.sum(axis=1) == 1, self.allowed.argmax(axis=1), -1)

    @cached_property
    def ends(self) -> NDArray[np.bool_]:
        """Return whether a character of ALPHABET ends a value: (characters,)."""
        return np.isin(np.arange(len(ALPHABET)), _places(VALUE_SEPARATOR + STEP_SEPARATOR))

    def longest(self, steps: int) -> int:
        """Return the most characters that so many steps can take: the room that a forecast needs."""
        return steps * self.variables * (self.signed + self.digits + 1 + self.decimals + 1)

    def pairs(self) -> Iterator[str]:
        """Yield every two characters that can be adjacent, each pair once."""
        seen = set()
        for state, character in np.argwhere(self.allowed):
            for following in np.flatnonzero(self.allowed[self.next[state, character]]):
                seen.add(ALPHABET[character] + ALPHABET[following])
        yield from sorted(seen)


def grammars(codec: Codec, scaled: Floats, digits: int = 1, signed: bool = False) -> list[Grammar]:
    """Return the grammar of each series' forecast: as wide as its own history, or wider if requested.

    Args:
        codec: The format of series.
        scaled: Their histories, scaled: (series, steps, variables).
        digits: Digits before the point that every forecast may have, whatever its history has.
        signed: Whether every forecast may be negative, even if nothing in its history is.

    Returns:
        One grammar per series; equal ones are the same object.
    """
    whole = np.rint(scaled * 10.0**codec.decimals)
    top: Floats = np.abs(whole).max(axis=(1, 2))
    negative = whole.min(axis=(1, 2)) < 0
    needed = [len(str(int(largest))) - codec.decimals for largest in top.tolist()]
    return [
        _grammar(codec.decimals, scaled.shape[-1], max(digits, before), signed or below)
        for before, below in zip(needed, negative.tolist(), strict=True)
    ]


_grammar = cache(Grammar)  # equal ones are the same object, with tables that are computed once


def _places(characters: str) -> list[int]:
    return [ALPHABET.index(character) for character in characters]


@dataclass(frozen=True)
class Sampling:
    """The settings of sampled forecasts: temperature and top_p over the characters that the grammar allows.

    Attributes:
        samples: The number of forecasts per series.
        temperature: The divisor of the logits.
        top_p: The share of probability that is kept, of the likeliest characters (Holtzman et al., 2020,
            arXiv:1904.09751); 1 keeps all.
        seed: Equal seeds give equal samples, whatever the batch.
    """

    samples: int = 20
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.samples > 0 and 0 < self.temperature < np.inf and 0 < self.top_p <= 1 and self.seed >= 0):
            raise LvjobsError(
                f"{self}: samples and temperature are above 0, top_p in (0, 1], the seed not negative "
                f"(for no randomness at all, forecast greedily)"
            )

    def uniforms(self, numbers: Sequence[int], length: int) -> Floats:
        """Return one number in [0, 1) for every character of every sample: (series * samples, length).

        Each sample has a generator of its own, seeded by its series' number, so nothing depends on the batch.
        """
        rows = [(number, sample) for number in numbers for sample in range(self.samples)]
        return np.stack([np.random.default_rng([self.seed, *row]).random(length) for row in rows])

    def choose(self, logits: Floats, allowed: NDArray[np.bool_], uniforms: Floats) -> NDArray[np.int64]:
        """Draw a character for each row: `logits` and `allowed` are (rows, characters), `uniforms` (rows,)."""
        chance = self.chances(logits, allowed)
        ends = chance.cumsum(axis=1)
        # Scaled to the rounded sum. The first end beyond the number never belongs to a character with probability 0.
        places: NDArray[np.int64] = (uniforms[:, None] * ends[:, -1:] < ends).argmax(axis=1)
        return places

    def chances(self, logits: Floats, allowed: NDArray[np.bool_]) -> Floats:
        """Return the probability of each character: (rows, characters), rows sum to 1."""
        scaled = np.where(allowed, logits / self.temperature, -np.inf)
        chance: Floats = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        if self.top_p < 1:
            order = np.argsort(-chance, axis=1, kind="stable")
            ranked = np.take_along_axis(chance, order, axis=1)
            # Keep the likeliest until they have top_p together, and drop all after that.
            ranked[ranked.cumsum(axis=1) - ranked >= self.top_p] = 0
            np.put_along_axis(chance, order, ranked, axis=1)
            chance /= chance.sum(axis=1, keepdims=True)
        return chance
