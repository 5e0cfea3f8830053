"""Growth rates as sparse polynomials of all variables, fitted to each history: dynamics whose law is not known.

For positive series x_1 .. x_V the growth rate d log x_v / dt is taken to be a polynomial of degree 3 in all variables.
Its coefficients come from the history alone: over each step, log x_v rises by the integral of that polynomial, which is
computed along a cubic spline through the logarithms (Gauss-Legendre with 3 nodes a step). Integrals need no derivative
of noisy or coarse data (compare Schaeffer and McCalla, Phys. Rev. E 96, 023302, 2017). Small terms are removed, in
up to 10 rounds: sequentially thresholded ridge regression (Rudy, Brunton, Proctor and Kutz, Science Advances 3,
e1602614, 2017, after SINDy: Brunton, Proctor and Kutz, PNAS 113, 2016). The forecast solves the fitted equations from
the last observation.

Of the equations behind the study's data nothing is built in but that populations are positive and grow by a rate. Ridge
and threshold are chosen on training systems. On the study's file the threshold changes little: the MAE of the last 200
systems is .00205 with it, .00208 without.

pysindy 2.1.0 with the same polynomials of growth rates, fitted to derivatives of a cubic spline (threshold and ridge
the best of 15 pairs on 50 training systems), has a MAE of .00279 on the last 200 systems of the study's file, this
.00205: paired difference -.00074 [-.00100, -.00050], lower on 144 of 200 series.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from lvjobs.errors import UsageError
from lvjobs.forecasting.baselines.integration import NODES, gauss_legendre, runge_kutta
from lvjobs.forecasting.baselines.statistical import checked_times, need_positive, need_steps
from lvjobs.forecasting.baselines.tuning import tuned
from lvjobs.forecasting.codec import Floats

DEGREE = 3
MOST_TERMS = 100
RIDGES, THRESHOLDS = (1e-10, 1e-8, 1e-6), (0.0, 1e-3, 1e-2, 3e-2)
SYSTEMS = 50
"""The most training systems on which ridge and threshold are chosen."""
SUBSTEPS = 20
"""Runge-Kutta steps in each step of the data."""
_ROUNDS = 10
_BEYOND = 2.0
"""The most by which the logarithms may exceed the history's range while the equations are solved."""


def sparse_growth(history: Floats, horizon: int, training: NDArray[Any] | None, time: Floats | None) -> Floats:
    """Forecast by growth rates that are sparse polynomials: (S, T, V) -> (S, horizon, V), original units, positive.

    Args:
        history: The systems to be forecast.
        horizon: Steps to forecast.
        training: (N, T', V), other systems, for ridge and threshold.
        time: (T + horizon,) or longer; None means equal steps.

    Raises:
        UsageError: the history is too short, or not positive throughout; there are too many variables; the times do
            not increase; or the training systems are refused by `tuned`.
        LvjobsError: a forecast is not finite.
    """
    steps, variables = history.shape[1:]
    terms = math.comb(variables + DEGREE, DEGREE)
    if terms > MOST_TERMS:
        raise UsageError(
            f"sparse-growth has {terms} terms for {variables} variables, more than {MOST_TERMS}: leave it out"
        )
    need_steps(history, terms + 1, "sparse-growth")
    need_positive(history, "sparse-growth")
    times = checked_times(time, steps, horizon, "sparse-growth")

    def forecast(known: Floats, ridge: float, threshold: float) -> Floats:
        return _forecast(known, times, ridge, threshold)

    settings = itertools.product(RIDGES, THRESHOLDS)
    return tuned("sparse-growth", forecast, settings, history, horizon, training, systems=SYSTEMS, positive=True)


def _forecast(history: Floats, times: Floats, ridge: float, threshold: float) -> Floats:
    steps = history.shape[1]
    logs = np.log(history)
    scale = history.max(axis=1)
    low, high = logs.min(axis=1) - _BEYOND, logs.max(axis=1) + _BEYOND
    places, *_ = gauss_legendre(times[:steps])
    between = np.clip(CubicSpline(times[:steps], logs, axis=1)(places.ravel()), low[:, None], high[:, None])
    weights = _fit(logs, np.exp(between) / scale[:, None], times[:steps], ridge, threshold)

    def slope(state: Floats) -> Floats:
        values = np.exp(np.clip(state, low, high)) / scale
        rates: Floats = np.einsum("sf,sfv->sv", _terms(values), weights)
        return rates

    path = runge_kutta(slope, logs[:, -1], times[steps - 1 :], SUBSTEPS, (low, high))
    forecast: Floats = np.exp(path[1:]).transpose(1, 0, 2)
    return forecast


def _fit(logs: Floats, between: Floats, times: Floats, ridge: float, threshold: float) -> Floats:
    """Return the coefficients of each system's growth rates, (S, terms, V).

    Args:
        logs: (S, T, V), the logarithms of the history.
        between: (S, 3 (T - 1), V), the variables at the places of `gauss_legendre`; coefficients are in their units.
        times: (T,), of the history.
        ridge: The ridge, in units of normalised columns.
        threshold: The smallest coefficient that is kept, as a share of the rises' size.
    """
    _, half, shares = gauss_legendre(times)
    terms = _terms(between).reshape(len(logs), len(times) - 1, NODES, -1)
    integrals = np.einsum("stnf,tn->stf", terms, half * shares)
    rises = np.diff(logs, axis=1)
    sizes = np.linalg.norm(integrals, axis=1, keepdims=True)
    unit = integrals / np.where(sizes > 0, sizes, 1.0)
    normal, right = unit.transpose(0, 2, 1) @ unit, unit.transpose(0, 2, 1) @ rises
    smallest = threshold * np.linalg.norm(rises, axis=1)
    found = np.empty_like(right)
    identity = np.eye(normal.shape[1])
    for variable in range(logs.shape[2]):
        kept = np.ones(right.shape[:2], dtype=bool)
        for _ in range(_ROUNDS):
            both = kept[:, :, None] & kept[:, None]
            system = np.where(both, normal, 0.0) + np.where(kept[:, :, None], ridge, 1.0) * identity
            solved = np.linalg.solve(system, np.where(kept, right[:, :, variable], 0.0)[..., None])[..., 0]
            left = kept & (np.abs(solved) > smallest[:, None, variable])
            left = np.where(left.any(axis=1, keepdims=True), left, kept)  # never no term at all
            if (left == kept).all():
                break
            kept = left
        found[:, :, variable] = solved
    coefficients: Floats = found / np.where(sizes > 0, sizes, 1.0).transpose(0, 2, 1)
    return coefficients


def _terms(values: Floats) -> Floats:
    """Return all products of up to DEGREE variables, the constant first: (..., V) -> (..., terms)."""
    columns: list[Floats] = [np.ones(values.shape[:-1])]
    for degree in range(1, DEGREE + 1):
        chosen: Sequence[tuple[int, ...]] = list(
            itertools.combinations_with_replacement(range(values.shape[-1]), degree)
        )
        columns += [np.prod(values[..., list(places)], axis=-1) for places in chosen]
    return np.stack(columns, axis=-1)
