"""The schedules of the learning rate, and the step up to which a longer training would have been the same."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from lvjobs.study.params import TrainingConfig


def decay_steps(steps: int, decay: int | None) -> int:
    """Return the last steps of a training of `steps`, in which the rate of schedule wsd falls.

    It is a tenth of them, if the settings do not say it (`decay` None): what Hu et al. found to be enough (MiniCPM,
    arXiv:2404.06395, section 4).
    """
    return -(-steps // 10) if decay is None else decay


def stable_until(params: Mapping[str, Any], steps: int) -> int:
    """Return the last step at which a training of `steps` has trained as a longer one with these settings would.

    It is 0 for schedules whose every rate depends on `steps`.

    Args:
        params: Values of a `TrainingConfig`; those with their defaults may be missing.
        steps: The steps of the training.
    """
    match params.get("schedule"):
        case "constant":
            return steps
        case "wsd":
            return steps - decay_steps(steps, params.get("decay_steps"))
    return 0


def schedule(config: TrainingConfig, steps: int) -> Callable[[int], float]:
    """Return a function with the factor of the learning rate at an update's index (0, 1, ...).

    It has a warm-up, then `config.schedule`. Cosine and linear fall to nearly zero at the last update. So does wsd
    (warm-up, stable, decay) in its last `decay_steps`, in a straight line; before them, it is constant.

    Args:
        config: The settings of the training.
        steps: Its updates.
    """
    decay = decay_steps(steps, config.decay_steps)

    def factor(index: int) -> float:
        if index < config.warmup_steps:
            return (index + 1) / (config.warmup_steps + 1)
        progress = min(1.0, (index - config.warmup_steps) / max(1, steps - config.warmup_steps))
        match config.schedule:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * progress))
            case "linear":
                return 1 - progress
            case "constant":
                return 1.0
            case "wsd":
                return min(1.0, max(0, steps - index) / (decay + 1))

    return factor
