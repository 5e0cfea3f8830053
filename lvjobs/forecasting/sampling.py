"""Sampled forecasts: temperature and top_p over the characters that the grammar allows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import Floats


@dataclass(frozen=True)
class Sampling:
    """The settings of sampling.

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
        chance = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        if self.top_p < 1:
            order = np.argsort(-chance, axis=1, kind="stable")
            ranked = np.take_along_axis(chance, order, axis=1)
            # Keep the likeliest until they have top_p together, and drop all after that.
            ranked[ranked.cumsum(axis=1) - ranked >= self.top_p] = 0
            np.put_along_axis(chance, order, ranked, axis=1)
            chance /= chance.sum(axis=1, keepdims=True)
        result: Floats = chance
        return result
