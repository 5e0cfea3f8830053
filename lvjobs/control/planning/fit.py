"""Proposals that fit when the budget refuses: less frequent validation, then fewer steps; never fewer runs. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

from lvjobs.study.run import RunConfig

PriceOfAll = Callable[[Sequence[RunConfig]], int]
"""The FLOPs that are reserved for new runs of these configurations together."""


@dataclass(frozen=True)
class Proposal:
    """Runs that fit: `configs`, in the order of the requested ones (`asked`).

    `price` is what they take of the `free` FLOPs. `wanted` is what the requested runs would take.
    """

    asked: Sequence[RunConfig]
    configs: Sequence[RunConfig]
    wanted: int
    price: int
    free: int

    @property
    def is_change(self) -> bool:
        """Return whether the proposal differs from the request."""
        return list(self.configs) != list(self.asked)

    def as_dict(self) -> dict[str, Any]:
        """Return the request and the proposal with their FLOPs. Runs of equal steps and validation are one group."""
        return {
            "free": self.free,
            "asked": {"flops": self.wanted, "runs": _groups(self.asked)},
            "proposed": {"flops": self.price, "runs": _groups(self.configs)},
        }


def propose(configs: Sequence[RunConfig], price: PriceOfAll, free: int) -> Proposal | None:
    """Return the least change of `configs` that fits into `free` FLOPs; None if not even one interval of each fits.

    Validation is reduced first, because a run learns nothing from it: it is halved repeatedly, down to one at the end.
    If that is not enough, all runs are cut to the largest common multiple of their checkpoint_every that fits (a
    shorter run keeps its steps), and validate as often as then fits.
    """
    wanted = price(configs)

    def fits(changed: Sequence[RunConfig]) -> bool:
        return price(changed) <= free

    def proposal(cut: Sequence[RunConfig]) -> Proposal:
        """Return the proposal with the most frequent validation that fits. The least frequent is known to fit."""
        most = max(map(_halvings, cut))
        found = next(changed for times in range(most + 1) if fits(changed := _rarer(cut, times)) or times == most)
        return Proposal(configs, found, wanted, price(found), free)

    def rarest(steps: int) -> Sequence[RunConfig]:
        return [config.model_copy(update={"validate_every": config.steps}) for config in _cut(configs, steps)]

    longest = max(config.steps for config in configs)
    if fits(rarest(longest)):
        return proposal(configs)
    interval, start = lcm(*(config.checkpoint_every for config in configs)), max(map(_start, configs))
    steps = largest_multiple(interval, longest, lambda steps: fits(rarest(steps)))
    return proposal(_cut(configs, steps)) if steps > start else None


@dataclass(frozen=True)
class Relief:
    """Two changes of a single run, each of which makes it fit; 0 where that change is not enough.

    `checkpoint_every`: a shorter checkpoint interval, because the reservation holds one interval of replay.
    `steps`: a shorter run.
    """

    checkpoint_every: int
    steps: int


def relieve(config: RunConfig, price: PriceOfAll, free: int) -> Relief:
    """Return the changes that make a run fit into `free` FLOPs for which `propose` has no proposal.

    The run is taken to validate once, at its end, as `propose` may have it: less validation is not possible.
    """

    def fits(**changes: int) -> bool:
        rarest = {"validate_every": changes.get("steps", config.steps)}
        return price([config.model_copy(update={**rarest, **changes})]) <= free

    return Relief(
        largest_multiple(1, min(config.checkpoint_every, config.steps), lambda every: fits(checkpoint_every=every)),
        _beyond(_start(config), largest_multiple(1, config.steps, lambda steps: fits(steps=steps))),
    )


def _beyond(start: int, steps: int) -> int:
    return steps if steps > start else 0


def largest_multiple(interval: int, below: int, fits: Callable[[int], bool]) -> int:
    """Return the largest multiple of `interval` below `below` that `fits`, 0 if not even one interval does.

    `fits` has to be monotone: if a number of steps fits, every smaller number fits too.
    """
    low, high = 0, max(0, (below - 1) // interval)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * interval) else (low, middle - 1)
    return low * interval


def _start(config: RunConfig) -> int:
    """Return the last step that a run need not train, because it continues another."""
    return config.parent.step if config.parent else 0


def _cut(configs: Sequence[RunConfig], steps: int) -> list[RunConfig]:
    return [config.model_copy(update={"steps": min(config.steps, steps)}) for config in configs]


def _halvings(config: RunConfig) -> int:
    """Return how often validation can be halved until it happens once, at the end."""
    return max(0, (-(-config.steps // config.validate_every) - 1).bit_length())


def _rarer(configs: Sequence[RunConfig], times: int) -> list[RunConfig]:
    """Return the configurations with validation 2 ** `times` less frequent, but at least at the end.

    A run that validates only at its end is returned unchanged, so that its fingerprint stays the same.
    """
    return [
        config.model_copy(update={"validate_every": min(config.validate_every * 2**times, config.steps)})
        if config.validate_every < config.steps
        else config
        for config in configs
    ]


def _groups(configs: Sequence[RunConfig]) -> list[dict[str, int]]:
    counted = Counter((config.steps, config.validate_every) for config in configs)
    return [
        {"count": count, "steps": steps, "validate_every": min(every, steps)}
        for (steps, every), count in counted.items()
    ]
