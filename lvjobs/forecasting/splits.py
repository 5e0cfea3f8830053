"""The division of systems into training, validation and scoring, and of series into history and horizon.

It is fixed by a seed and stored with the run. A split is 80:20 twice: over systems (800 train, 200 are scored) and over
time (80 steps are seen, the next 20 are forecast). Of the systems that may train, some are held out for validation.
Choosing a checkpoint, a cell or the end of a training by validation loss therefore does not use the scored systems.

All scoring code takes history and truth from here, by the systems' own indices, so that neither can be off by a step or
belong to another series. The published study's 21 steps of truth began with the last step of the input; these are the
20 that follow it.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import UsageError
from lvjobs.forecasting.codec import Floats
from lvjobs.study.params import TrainingConfig

SplitName = Literal["last200", "random", "k-fold"]
HISTORY, HORIZON = 80, 20
SCORED = 5
"""One system in so many is scored: 20 %."""
VALIDATED = 10
"""Of the systems that may train, one in so many is held out for validation by default."""


@dataclass(frozen=True)
class Split:
    """Systems by their index in the file, each at most once, and steps.

    Attributes:
        name: `last200`, the last 20 % of the file; `random`, a fifth of it; or `k-fold`, one of several parts.
        seed: The seed of the order from which a `random` or `k-fold` split is cut; without effect on the other.
        train: The systems that may be trained on.
        test: The systems that are scored, in the order in which they are forecast.
        history: Steps that a forecaster sees.
        horizon: Steps, right after those, that it must forecast.
        validation: The systems that are held out of training and not scored; empty if the scored ones validate.

    Raises:
        UsageError: the split leaks, or is invalid.
    """

    name: SplitName
    seed: int
    train: tuple[int, ...]
    test: tuple[int, ...]
    history: int = HISTORY
    horizon: int = HORIZON
    validation: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in get_args(SplitName):
            raise UsageError(f"there is no split {self.name!r}: choose {' or '.join(get_args(SplitName))}")
        numbers = (self.seed, self.history, self.horizon, *self.seen, *self.test)
        if any(type(number) is not int for number in numbers):
            raise UsageError("a split holds whole numbers only: seed, steps and the systems' indices")
        if self.seed < 0 or min(self.history, self.horizon) < 1:
            raise UsageError("a split needs a seed of 0 or more and at least one step of history and of horizon")
        if not self.train or not self.test:
            raise UsageError("a split needs at least one system to train on and one to score")
        if (low := min(self.seen + self.test)) < 0:
            raise UsageError(f"a split cannot name system {low}: indices begin at 0")
        for what, systems in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if len(set(systems)) < len(systems):
                raise UsageError(f"a split names a system twice under {what!r}")
        if both := sorted(set(self.train) & set(self.validation)):
            raise UsageError(f"{len(both)} system(s) would train and validate, system {both[0]} first")
        self.reject_seen(self.seen)

    @property
    def seen(self) -> tuple[int, ...]:
        """Return the systems that influenced a model: those it was trained on and those held out for validation."""
        return self.train + self.validation

    @property
    def validating(self) -> tuple[int, ...]:
        """Return the systems of the validation windows: the held-out ones, or if there are none, the scored ones."""
        return self.validation or self.test

    def reject_seen(self, seen: Collection[int]) -> None:
        """Refuse to score systems that a model was trained on, or chosen by: `seen` is that of the model's own split.

        Raises:
            UsageError: one of them is scored.
        """
        if both := sorted(set(seen) & set(self.test)):
            raise UsageError(
                f"{len(both)} system(s) that were trained or validated on would be scored, system {both[0]} first: "
                f"score with the split that the run was trained with: leave out --split"
            )

    def histories(self, trajectories: NDArray[Any]) -> Floats:
        """Return the histories of the scored systems: (S, history, V) of a file's (N, T, V), original units.

        Raises:
            UsageError: the file has too few systems or steps for this split.
        """
        return self._series(trajectories, self.test)[:, : self.history]

    def truths(self, trajectories: NDArray[Any]) -> Floats:
        """Return the truths of the scored systems: (S, horizon, V), from the first step after the history.

        Raises:
            UsageError: the file has too few systems or steps for this split.
        """
        return self._series(trajectories, self.test)[:, self.history : self.history + self.horizon]

    def training(self, trajectories: NDArray[Any]) -> Floats:
        """Return all steps of the training systems: (len(train), T, V). Raises UsageError as `histories` does."""
        return self._series(trajectories, self.train)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def _series(self, trajectories: NDArray[Any], systems: Sequence[int]) -> Floats:
        """Return all steps of these systems. Raises UsageError as `histories` does."""
        if trajectories.ndim != 3:  # noqa: PLR2004
            raise UsageError(
                f"trajectories have the shape {trajectories.shape}", "it must be (systems, steps, variables)"
            )
        held, steps, _ = trajectories.shape
        if held <= (last := max(self.seen + self.test)):
            raise UsageError(f"the split names system {last}, but the file holds {held}: name the run's own file")
        if steps < self.history + self.horizon:
            raise UsageError(
                f"the file has {steps} steps", f"{self.history} of history and {self.horizon} of horizon need more"
            )
        return trajectories[list(systems)].astype(np.float64)


def make_split(
    systems: int,
    name: SplitName = "last200",
    *,
    seed: int = 0,
    history: int = HISTORY,
    horizon: int = HORIZON,
    folds: int = 5,
    fold: int = 0,
) -> Split:
    """Split a file of `systems` systems 80:20; at least one is scored.

    `random` and `k-fold` order the systems by the SHA-256 of `seed:index`, not by a random generator: a generator's
    stream may change with numpy's version, while hashes are the same on every machine, forever. Equal seeds give equal
    splits. `k-fold` cuts the order into `folds` parts, and scores part `fold` (from 0 on): over all parts each system
    is scored once.

    Raises:
        UsageError: there are too few systems, or an argument is invalid.
    """
    if systems < 2:  # noqa: PLR2004
        raise UsageError(
            f"{systems} system(s) cannot be split, for one must train and one be scored", "give the file more"
        )
    order = list(range(systems))
    if name != "last200":
        order.sort(key=lambda index: hashlib.sha256(f"{seed}:{index}".encode()).digest())
    first, last = systems - max(1, systems // SCORED), systems
    if name == "k-fold":
        if not 0 <= fold < folds <= systems:
            raise UsageError(
                f"fold = {fold} of folds = {folds}, and the file has {systems} systems: each fold has one at least",
                f"set folds to {systems} at most, and fold below it",
            )
        first, last = (place * systems // folds for place in (fold, fold + 1))
    # Those before the scored ones come last: the last of them validate, which are then others in each fold.
    return Split(name, seed, tuple(order[last:] + order[:first]), tuple(order[first:last]), history, horizon)


def whole_split(systems: int, config: TrainingConfig) -> Split:
    """Return how a training divides a file of so many systems into those that may train and those that are scored.

    Raises:
        UsageError: there are too few systems for that.
    """
    return make_split(
        systems,
        config.split,
        seed=config.split_seed,
        history=config.history_steps,
        horizon=config.horizon_steps,
        folds=config.folds,
        fold=config.fold,
    )


def training_split(systems: int, config: TrainingConfig) -> Split:
    """Return how a training divides a file of so many systems into training, validation and scoring.

    The last of those that may train validate, whatever else is set, so that all cells of a study that have the same
    split, and fold, are validated on the same systems.

    Raises:
        UsageError: there are too few systems for that.
    """
    whole = whole_split(systems, config)
    held = config.validation_systems
    if held is None:
        held = max(1, len(whole.train) // VALIDATED)
    left = len(whole.train) - held
    if left < 1:
        raise UsageError(
            f"{len(whole.train)} of {systems} systems may train, and {held} of them are to validate: give "
            "the file more systems, or set validation_systems lower (0 validates on the scored ones)"
        )
    if (train := config.train_systems or left) > left:
        raise UsageError(
            f"train_systems = {train}, but only {left} of {systems} systems may train: {held} validate, and "
            f"{len(whole.test)} are scored",
            f"set it to {left} at most",
        )
    return replace(whole, train=whole.train[:train], validation=whole.train[left:])
