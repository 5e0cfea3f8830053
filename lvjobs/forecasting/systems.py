"""The study's predator and prey: the Rosenzweig-MacArthur law, solved for random parameters.

    x' = a x (1 - x / K) - b x y / (1 + h x)        y' = d x y / (1 + h x) - g y

(Rosenzweig and MacArthur, The American Naturalist 97, 1963.) The ranges are those that fit the study's own file, all
1000 systems to 1e-3.
"""

from typing import TypeAlias

import numpy as np
from scipy.integrate import solve_ivp

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import Floats

STEPS = 100
END = 200.0
RANGES = {
    "growth": (0.1, 0.3),  # a
    "predation": (0.2, 0.5),  # b
    "death": (0.1, 0.3),  # g
    "capacity": (5.0, 15.0),  # K
    "handling": (0.05, 0.2),  # h
    "efficiency": (0.3, 0.7),  # d / b
    "prey": (0.8, 1.2),  # x(0)
    "predator": (0.8, 1.2),  # y(0)
}
"""The uniform range of each parameter, in the order in which they are drawn."""


Systems: TypeAlias = dict[str, Floats]
"""The parameters and initial values of N systems by their names in `RANGES`, each an array (N,); rates are per unit of
time.
"""


def draw_systems(count: int, seed: int) -> Systems:
    """Return `count` random systems; the first n are the same whatever the count."""
    low, high = np.array(list(RANGES.values())).T
    values = np.random.default_rng(seed).uniform(low, high, (count, len(RANGES)))
    return dict(zip(RANGES, values.T, strict=True))


def sample_times() -> Floats:
    """Return the study's STEPS times, 0 to END: (STEPS,)."""
    return np.linspace(0.0, END, STEPS)


def solve(systems: Systems, times: Floats) -> Floats:
    """Solve for both populations at `times`, the first of which is the start: (N, len(times), 2), prey then predator.

    All systems are solved as one, which is fifty times faster than one by one.

    Raises:
        LvjobsError: the solver failed.
    """
    growth, predation, death, capacity, handling, efficiency, *initial = systems.values()
    count = len(growth)

    def field(_: float, state: Floats) -> Floats:
        """Return the derivatives of both log populations; logarithms keep the populations positive."""
        prey, predator = np.exp(state[:count]), np.exp(state[count:])
        eaten = predation / (1 + handling * prey)
        return np.concatenate([growth * (1 - prey / capacity) - eaten * predator, efficiency * eaten * prey - death])

    start = np.log(np.concatenate(initial))
    # The tolerance is finer than float32, in which trajectories are stored; for a logarithm it must be absolute.
    solution = solve_ivp(
        field, (times[0], times[-1]), start, method="DOP853", t_eval=times, rtol=1e-10, atol=1e-10, max_step=1.0
    )
    if not solution.success:
        raise LvjobsError(
            f"the predator-prey equations could not be solved ({solution.message}); choose another --seed"
        )
    return np.exp(solution.y).reshape(2, count, len(times)).transpose(1, 2, 0)
