"""Integrals over the steps of a history, and solutions of differential equations: for `ode` and `growth`."""

import itertools
from collections.abc import Callable

import numpy as np
from numpy.polynomial.legendre import leggauss

from lvjobs.forecasting.codec import Floats

NODES = 3
"""The number of places in each step at which an integrand is evaluated."""


def gauss_legendre(times: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the places of a Gauss-Legendre quadrature over each step, and the factors of the values there.

    Args:
        times: (T,), increasing.

    Returns:
        The places (T - 1, NODES), the half lengths of the steps (T - 1, 1), and the weights (NODES,). An integral over
        a step is the sum of its values times half length and weight.
    """
    nodes, weights = leggauss(NODES)
    half = np.diff(times)[:, None] / 2
    return times[:-1, None] + half * (1 + nodes), half, weights


def runge_kutta(
    slope: Callable[[Floats], Floats],
    start: Floats,
    times: Floats,
    substeps: int,
    limits: tuple[Floats, Floats] | None = None,
) -> Floats:
    """Solve state' = slope(state) by the classical Runge-Kutta method of order 4.

    Args:
        slope: The derivative of a state, of the same shape.
        start: The state at times[0].
        times: (T,), increasing.
        substeps: The number of steps of the method between two times.
        limits: The lowest and the highest state; each step is clipped to them. None: there are none.

    Returns:
        The states at `times`, the start first: (T, *start.shape).
    """
    state, path = start, [start]
    for begin, end in itertools.pairwise(times):
        step = (end - begin) / substeps
        for _ in range(substeps):
            first = slope(state)
            second = slope(state + step / 2 * first)
            third = slope(state + step / 2 * second)
            fourth = slope(state + step * third)
            state = state + step / 6 * (first + 2 * second + 2 * third + fourth)
            if limits is not None:
                state = np.clip(state, *limits)
        path.append(state)
    return np.stack(path)
