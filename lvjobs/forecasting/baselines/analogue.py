"""Nearest neighbours: what followed windows that resemble the present (Lorenz' analogues, J. Atmos. Sci. 26, 1969).

Windows are compared by the squared distance over all their steps and variables. `analogue` and `analogue_training`
average continuations with weights of one over that distance; their window lengths and numbers of neighbours were chosen
on the file's first 800 systems alone. `parroting` copies one continuation.
"""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lvjobs.forecasting.baselines.statistical import moments, need_steps
from lvjobs.forecasting.baselines.tuning import checked_training, tuned
from lvjobs.forecasting.codec import Floats

MOTIFS, LEAST_COPIED = (2, 3, 4, 5, 8), (3, 5, 8, 10)
"""Lengths of a motif, and the least steps that must follow one, among which `parroting` chooses."""
PARROTED_ON = 100
"""The number of training systems on which it chooses."""
OWN_WINDOW, OWN_NEIGHBOURS = 5, 3
TRAINING_WINDOW, TRAINING_NEIGHBOURS = 40, 5
_ROWS = 64
"""The number of systems compared at once with all training windows, which bounds memory."""


def analogue(history: Floats, horizon: int) -> Floats:
    """Average what followed the 3 nearest 5-step windows of the *same* history: (S, T, V) -> (S, horizon, V).

    Values are in original units. A neighbour's whole continuation must lie within the history, too. Variables are
    compared in units of their own standard deviation.

    Raises:
        UsageError: the history is too short to hold one earlier step and the horizon.
    """
    need_steps(history, horizon + 1, "analogue")
    window = min(OWN_WINDOW, history.shape[1] - horizon)
    pieces = _windows(history, window + horizon)  # (S, n, window + horizon, V)
    _, width = moments(history)
    apart = (pieces[:, :, :window] - history[:, None, -window:]) / width[:, None]
    distances = (apart**2).sum(axis=(2, 3))
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :OWN_NEIGHBOURS]
    followed = np.take_along_axis(pieces, nearest[:, :, None, None], axis=1)[:, :, window:]
    return _weighted(followed, np.take_along_axis(distances, nearest, axis=1))


def parroting(history: Floats, horizon: int, training: NDArray[Any] | None) -> Floats:
    """Copy what followed the most similar motif of the same history: (S, T, V) -> (S, horizon, V), original units.

    Context parroting (Zhang and Gilpin, 2025, arXiv:2505.11349): the last steps are compared with every earlier motif
    of the same length, and what followed the nearest one is copied, to the end of the history, then again if the
    horizon is longer. Positive series are compared in logarithms, all in units of each variable's standard deviation.
    The motif's length, and the least number of steps that must follow it, are chosen on training systems.

    Raises:
        UsageError: there are no training systems, or the history is too short for every motif.
    """

    def forecast(known: Floats, length: int, least: int) -> Floats:
        need_steps(known, length + least + 1, "parroting")
        positive = (known > 0).all(axis=(1, 2), keepdims=True)
        compared = np.where(positive, np.log(np.where(positive, known, 1.0)), known)
        middle, width = moments(compared)
        scaled = (compared - middle) / width
        copied = np.stack([_parroted(series, horizon, length, least) for series in scaled]) * width + middle
        with np.errstate(over="ignore"):  # of the systems that are compared as they are
            return np.where(positive, np.exp(copied), copied)

    settings = itertools.product(MOTIFS, LEAST_COPIED)
    return tuned("parroting", forecast, settings, history, horizon, training, systems=PARROTED_ON)


def _parroted(series: Floats, horizon: int, length: int, least: int) -> Floats:
    """Continue one series (T, V) by what followed its nearest motif: (horizon, V)."""
    motifs = _windows(series[None], length)[0, : len(series) - length - least + 1]
    nearest = int(((motifs - series[-length:]) ** 2).sum(axis=(1, 2)).argmin())
    return series[nearest + length + np.arange(horizon) % (len(series) - nearest - length)]


def analogue_training(history: Floats, horizon: int, training: NDArray[Any] | None) -> Floats:
    """Average what followed the 5 nearest 40-step windows of the *training* systems: (S, T, V) -> (S, horizon, V).

    Each system is compared, and its continuation taken, in terms of the mean and standard deviation of its own first T
    steps, where T is the history's length: no later step changes a window.

    Args:
        history: The systems to be forecast, original units.
        horizon: Steps to forecast.
        training: (N, T', V), whole series of other systems, original units.

    Raises:
        UsageError: the training systems are refused by `checked_training`.
    """
    steps = history.shape[1]
    window = min(TRAINING_WINDOW, steps)
    training = checked_training("analogue-training", training, history, window + horizon)
    middle, width = moments(history)
    trained_middle, trained_width = moments(training[:, :steps])
    pieces = _windows((training - trained_middle) / trained_width, window + horizon)
    pieces = pieces.reshape(-1, window + horizon, history.shape[2])
    asked = ((history - middle) / width)[:, -window:].reshape(len(history), -1)
    seen = pieces[:, :window].reshape(len(pieces), -1)
    forecasts = []
    for start in range(0, len(asked), _ROWS):
        distances = cdist(asked[start : start + _ROWS], seen, "sqeuclidean")
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :TRAINING_NEIGHBOURS]
        forecasts.append(_weighted(pieces[nearest, window:], np.take_along_axis(distances, nearest, axis=1)))
    return np.concatenate(forecasts) * width + middle


def _windows(series: Floats, length: int) -> Floats:
    """Return all windows of `length` steps: (S, T, V) -> (S, T - length + 1, length, V)."""
    return np.lib.stride_tricks.sliding_window_view(series, length, axis=1).transpose(0, 1, 3, 2)


def _weighted(followed: Floats, distances: Floats) -> Floats:
    """Return the mean of (S, k, H, V) over k, weighted by the inverse of distances (S, k)."""
    weights = 1 / (distances + 1e-9)  # a window that recurs exactly gets nearly all the weight
    weights /= weights.sum(axis=1, keepdims=True)
    mean: Floats = (followed * weights[:, :, None, None]).sum(axis=1)
    return mean
