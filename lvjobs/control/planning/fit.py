"""What would fit where the budget refuses: rarer validation, then fewer steps; never fewer runs. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

from lvjobs.study.run import RunConfig

Price = Callable[[Sequence[RunConfig]], int]
"""FLOPs that are set aside for new runs of these configurations together."""


@dataclass(frozen=True)
class Proposal:
    """Runs that fit (`configs`, in the order of those that were `asked` for), and what they take of the `free` FLOPs.

    `wanted` is what was asked for would have taken.
    """

    asked: Sequence[RunConfig]
    configs: Sequence[RunConfig]
    wanted: int
    price: int
    free: int

    @property
    def is_change(self) -> bool:
        """Whether anything has to change."""
        return list(self.configs) != list(self.asked)

    def as_dict(self) -> dict[str, Any]:
        """What was asked for and what is proposed, runs of equal length and validation together, with their sums."""
        return {
            "free": self.free,
            "asked": {"flops": self.wanted, "runs": _groups(self.asked)},
            "proposed": {"flops": self.price, "runs": _groups(self.configs)},
        }


def propose(configs: Sequence[RunConfig], price: Price, free: int) -> Proposal | None:
    """The least change of `configs` that fits into `free` FLOPs; None where not even one interval of each does.

    Validation costs a run no learning, so it gives way first: half as often, and half as often again, down to once at
    the end. Where that is not enough, all runs are cut alike to the largest multiple of checkpoint_every that fits
    (a run that is shorter stays as it is), and validate as often as then fits.
    """
    wanted = price(configs)

    def fits(changed: Sequence[RunConfig]) -> bool:
        return price(changed) <= free

    def proposal(cut: Sequence[RunConfig]) -> Proposal:
        """With the least rare validation that fits; the rarest is known to."""
        most = max(map(_halvings, cut))
        found = next(changed for times in range(most + 1) if fits(changed := _rarer(cut, times)) or times == most)
        return Proposal(configs, found, wanted, price(found), free)

    def rarest(steps: int) -> Sequence[RunConfig]:
        return [config.model_copy(update={"validate_every": config.steps}) for config in _cut(configs, steps)]

    longest = max(config.steps for config in configs)
    if fits(rarest(longest)):
        return proposal(configs)
    interval = lcm(*(config.checkpoint_every for config in configs))
    steps = largest_multiple(interval, longest, lambda steps: fits(rarest(steps)))
    return proposal(_cut(configs, steps)) if steps else None


@dataclass(frozen=True)
class Relief:
    """Two changes of a single run, each of which makes it fit; 0 where that change is not enough.

    `checkpoint_every`: a shorter checkpoint interval, because the reservation holds one interval of replay.
    `steps`: a shorter run.
    """

    checkpoint_every: int
    steps: int


def relieve(config: RunConfig, price: Price, free: int) -> Relief:
    """Return what makes a run fit into `free` FLOPs that `propose` has no proposal for.

    The run validates once, at its end, as `propose` lets it: rarer validation cannot help any more.
    """

    def fits(**changes: int) -> bool:
        rarest = {"validate_every": changes.get("steps", config.steps)}
        return price([config.model_copy(update={**rarest, **changes})]) <= free

    return Relief(
        largest_multiple(1, min(config.checkpoint_every, config.steps), lambda every: fits(checkpoint_every=every)),
        largest_multiple(1, config.steps, lambda steps: fits(steps=steps)),
    )


def largest_multiple(interval: int, below: int, fits: Callable[[int], bool]) -> int:
    """The largest multiple of `interval` under `below` that `fits`, 0 where not even one interval does.

    What fits with so many steps has to fit with fewer.
    """
    low, high = 0, max(0, (below - 1) // interval)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * interval) else (low, middle - 1)
    return low * interval


def _cut(configs: Sequence[RunConfig], steps: int) -> list[RunConfig]:
    return [config.model_copy(update={"steps": min(config.steps, steps)}) for config in configs]


def _halvings(config: RunConfig) -> int:
    """How often validation can be made half as frequent until it comes once, at the end."""
    return max(0, (-(-config.steps // config.validate_every) - 1).bit_length())


def _rarer(configs: Sequence[RunConfig], times: int) -> list[RunConfig]:
    """Validation 2 ** `times` as rare; at the end at the latest. Whoever validates there alone stays who he is."""
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
