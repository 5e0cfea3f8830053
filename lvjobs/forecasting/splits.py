"""Which systems train and which are scored, and where a series' history ends: fixed by a seed, stored with the run.

A split is 80:20 twice: over systems (800 train, 200 are scored) and over time (80 steps are seen, the next 20 are to
be forecast). Whatever scores a forecast takes history and truth from here, by the systems' own indices, so that neither
can be off by a step nor belong to another series. The report's 21 steps of truth began with the last step of the input;
these are the 20 that follow it.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import UsageError
from lvjobs.forecasting.codec import Floats

SplitName = Literal["last200", "random"]
HISTORY, HORIZON = 80, 20
SCORED = 5
"""One system in so many is scored: 20 %."""


@dataclass(frozen=True)
class Split:
    """Systems by their index in the file, none of them twice, and steps.

    Attributes:
        name: `last200`, the last 20 % of the file, or `random`.
        seed: What drew a `random` split; it says nothing of the other.
        train: The systems that may be trained on.
        test: The systems that are scored, in the order in which they are forecast.
        history: Steps that a forecaster sees.
        horizon: Steps, right after those, that it must forecast.

    Raises:
        UsageError: the split leaks, or makes no sense.
    """

    name: SplitName
    seed: int
    train: tuple[int, ...]
    test: tuple[int, ...]
    history: int = HISTORY
    horizon: int = HORIZON

    def __post_init__(self) -> None:
        if self.name not in get_args(SplitName):
            raise UsageError(f"there is no split {self.name!r}: choose {' or '.join(get_args(SplitName))}")
        numbers = (self.seed, self.history, self.horizon, *self.train, *self.test)
        if any(type(number) is not int for number in numbers):
            raise UsageError("a split holds whole numbers only: seed, steps and the systems' indices")
        if self.seed < 0 or min(self.history, self.horizon) < 1:
            raise UsageError("a split needs a seed of 0 or more and at least one step of history and of horizon")
        if not self.train or not self.test:
            raise UsageError("a split needs at least one system to train on and one to score")
        if (low := min(self.train + self.test)) < 0:
            raise UsageError(f"a split cannot name system {low}: indices begin at 0")
        for what, systems in (("train", self.train), ("test", self.test)):
            if len(set(systems)) < len(systems):
                raise UsageError(f"a split names a system twice under {what!r}")
        self.reject_seen(self.train)

    def reject_seen(self, trained: Collection[int]) -> None:
        """Refuse to score what was trained on; `trained` holds the systems that a model has seen.

        Raises:
            UsageError: one of them is scored.
        """
        if both := sorted(set(trained) & set(self.test)):
            raise UsageError(
                f"{len(both)} system(s) that were trained on would be scored, system {both[0]} first: "
                f"score with the split that the run was trained with"
            )

    def histories(self, trajectories: NDArray[Any]) -> Floats:
        """What forecasters see of the scored systems: (S, history, V) of a file's (N, T, V), original units.

        Raises:
            UsageError: the file has too few systems or steps for this split.
        """
        return self._scored(trajectories)[:, : self.history]

    def truths(self, trajectories: NDArray[Any]) -> Floats:
        """What they must forecast: (S, horizon, V), beginning at the first step that is not in the history.

        Raises:
            UsageError: the file has too few systems or steps for this split.
        """
        return self._scored(trajectories)[:, self.history : self.history + self.horizon]

    def training(self, trajectories: NDArray[Any]) -> Floats:
        """All steps of the training systems: (len(train), T, V). Raises UsageError as `histories` does."""
        self._check(trajectories)
        chosen: Floats = trajectories[list(self.train)].astype(np.float64)
        return chosen

    def gather(self, forecasts: Mapping[int, Floats]) -> Floats:
        """Forecasts by system, (horizon, V) each, made one array (S, horizon, V) in the order of `truths`.

        A forecast is known by its system and never by its place in a list, so no shuffle can part it from its truth.

        Raises:
            UsageError: a scored system has no forecast, another one has, or one has not the whole horizon.
        """
        if missing := [system for system in self.test if system not in forecasts]:
            raise UsageError(f"{len(missing)} scored system(s) have no forecast, system {missing[0]} first")
        if foreign := sorted(set(forecasts) - set(self.test)):
            raise UsageError(f"system {foreign[0]} has a forecast, but this split does not score it")
        for system, values in forecasts.items():
            if np.ndim(values) != 2 or len(values) != self.horizon:  # noqa: PLR2004
                raise UsageError(
                    f"the forecast of system {system} has the shape {np.shape(values)}; "
                    f"it must be ({self.horizon}, variables): the whole horizon is scored"
                )
        return np.stack([np.asarray(forecasts[system], dtype=np.float64) for system in self.test])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return asdict(self) | {"train": list(self.train), "test": list(self.test)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Split":
        """The split that `to_dict` stored, checked anew. Raises UsageError when it is none."""
        try:
            return cls(**{**stored, "train": tuple(stored["train"]), "test": tuple(stored["test"])})
        except (KeyError, TypeError) as error:
            raise UsageError(f"not a stored split: {error}") from None

    def _scored(self, trajectories: NDArray[Any]) -> Floats:
        self._check(trajectories)
        chosen: Floats = trajectories[list(self.test)].astype(np.float64)
        return chosen

    def _check(self, trajectories: NDArray[Any]) -> None:
        if trajectories.ndim != 3:  # noqa: PLR2004
            raise UsageError(
                f"trajectories have the shape {trajectories.shape}; it must be (systems, steps, variables)"
            )
        systems, steps, _ = trajectories.shape
        if systems <= (last := max(self.train + self.test)):
            raise UsageError(f"the split names system {last}, but the file holds {systems}: name the run's own file")
        if steps < self.history + self.horizon:
            raise UsageError(
                f"the file has {steps} steps; {self.history} of history and {self.horizon} of horizon need more"
            )


def make_split(
    systems: int, name: SplitName = "last200", *, seed: int = 0, history: int = HISTORY, horizon: int = HORIZON
) -> Split:
    """Split a file of `systems` systems 80:20; at least one is scored.

    `random` orders the systems by the SHA-256 of `seed:index`, in place of a random generator: whose stream may change
    from one numpy to the next, while these are the same on every machine, forever. Equal seeds give equal splits.

    Raises:
        UsageError: there are fewer than two systems, or an argument makes no sense.
    """
    if systems < 2:  # noqa: PLR2004
        raise UsageError(f"{systems} system(s) cannot be split: one must train and one be scored")
    scored = max(1, systems // SCORED)
    order = list(range(systems))
    if name == "random":
        order.sort(key=lambda index: hashlib.sha256(f"{seed}:{index}".encode()).digest())
    return Split(name, seed, tuple(order[:-scored]), tuple(order[-scored:]), history, horizon)
