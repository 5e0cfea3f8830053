"""The quality of forecasts: one definition of each metric, for models and baselines alike.

Everything is in the data's own units, over all systems S, the whole horizon H and all variables V. A forecast that is
shorter than its truth, or holds a NaN, is an error. Nothing is cut or skipped, because a metric over less than the
horizon would look better. With e = forecast - truth:

    MAE     mean of |e| over systems, steps and variables
    MSE     mean of e^2 over the same
    RMSE    for each variable the root of its MSE over all systems and steps, then the mean over the variables
    MRE     mean of |e| / s, s being the mean of |truth| over that system's and variable's horizon (the MAD/mean ratio:
            Kolassa and Schuetz, Foresight 6, 2007). A ratio to each single truth would be dominated by the few
            that are nearly 0. If s is nearly 0 (1e-12 of the variable's mean over all systems), that mean
            replaces it; if that mean is below 1e-100, 1 does.
    CRPS    mean over the same of E|X - truth| - E|X - X'| / 2, X and X' drawn from the samples with replacement, which
            is the exact score of the samples' own distribution (Gneiting and Raftery, JASA 102, 2007, eq. 21; computed
            from sorted samples as by Jordan, Krueger and Lerch, J. Stat. Softw. 90(12), 2019). One sample: the MAE.

A median is over systems, of each system's own metric. Its RMSE is averaged over variables in the same way.

Scaled errors are divided by a unit of each series and variable: there, no system counts more because its numbers are
larger.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import UsageError
from lvjobs.forecasting.codec import Floats

RESAMPLES = 2000
CONFIDENCE = 0.95
MEDIANS = ("mae", "mse", "rmse")
"""The metrics whose median over systems is given."""
_NOTHING, _ZERO = 1e-12, 1e-100
_BLOCK = 100
"""The number of resamples drawn at once, so that many systems fit into memory."""


def score(
    truth: NDArray[Any],
    forecast: NDArray[Any],
    samples: NDArray[Any] | None = None,
    *,
    seed: int = 0,
    units: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Score forecasts against the truth, over all systems together, in plain values that are fit for JSON.

    Args:
        truth: (S, H, V), the data's own units, from the first step that the forecaster did not see.
        forecast: (S, H, V): the one forecast, or the samples' median.
        samples: (n, S, H, V), for the CRPS.
        seed: The seed of the bootstrap's resamples.
        units: (S, V), or (V,) for all systems: what scaled errors are divided by.

    Returns:
        `systems`, their number; the metrics `overall`, `by_variable` and `by_step` (mae, mse, rmse and mre of each
        part); `scaled`, the mae and mse of the same parts in `units`, None without them; `median_mae`, `median_mse` and
        `median_rmse` over systems; `crps`, None without samples; `intervals`, `low` and `high` of each overall metric
        and median; and `by_system`, the mae, mse and mre of each system in order, with its `mse_by_variable`, and its
        `crps` with samples.

    Raises:
        UsageError: a shape differs, a value is not finite, or a squared error overflows.
    """
    truth, forecast = _checked("truth", truth, 3), _checked("forecast", forecast, 3)
    if forecast.shape != truth.shape:
        raise UsageError(
            f"the forecast has the shape {forecast.shape}, the truth {truth.shape}: "
            f"every system, variable and step of the horizon is scored, never a part"
        )
    with np.errstate(over="ignore"):  # reported just below
        sizes = np.abs(forecast - truth)
        squares, ratios = sizes**2, sizes / _typical(truth)
        representable = np.isfinite(squares.sum())
    if not representable:
        raise UsageError("the forecast is so far from the truth that its squared error is no number")
    by_system = {
        "mae": sizes.mean(axis=(1, 2)),
        "mse": squares.mean(axis=(1, 2)),
        "mre": ratios.mean(axis=(1, 2)),
        "mse_by_variable": squares.mean(axis=1),
    }
    if samples is not None:
        by_system["crps"] = crps(truth, samples).mean(axis=(1, 2))

    def errors(steps: slice = slice(None), variables: slice = slice(None)) -> dict[str, float]:
        chosen = (slice(None), steps, variables)
        return {
            "mae": float(sizes[chosen].mean()),
            "mse": float(squares[chosen].mean()),
            "rmse": float(np.sqrt(squares[chosen].mean(axis=(0, 1))).mean()),
            "mre": float(ratios[chosen].mean()),
        }

    return {
        "systems": len(truth),
        **_parts(errors, truth.shape),
        "scaled": None if units is None else _scaled(sizes, np.asarray(units, dtype=np.float64)),
        **_over_systems(by_system, seed),
    }


def pool(parts: Sequence[Mapping[str, Any]], *, seed: int = 0) -> dict[str, Any]:
    """Return the scores of several parts' systems together, as `score` gives them for all at once.

    The parts of a k-fold split have forecasts of different models. Two differences from `score`: no rmse `by_step`, and
    where `score` would replace a system's size by the mean over all, the mean is that of its part.

    Args:
        parts: What `score` returned of each, with the same horizon and variables.
        seed: The seed of the bootstrap's resamples.
    """
    weights = np.array([part["systems"] for part in parts], dtype=np.float64)
    weights /= weights.sum()

    def pooled(places: Sequence[Mapping[str, float]]) -> dict[str, float]:
        names = [name for name in places[0] if name != "rmse"]
        return {name: float(weights @ [place[name] for place in places]) for name in names}

    def divided(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        lists = {
            name: [pooled(places) for places in zip(*(each[name] for each in several), strict=True)]
            for name in ("by_variable", "by_step")
        }
        return {"overall": pooled([each["overall"] for each in several]), **lists}

    found = divided(parts)
    roots = [math.sqrt(each["mse"]) for each in found["by_variable"]]
    found["overall"]["rmse"] = math.fsum(roots) / len(roots)
    found["by_variable"] = [each | {"rmse": root} for each, root in zip(found["by_variable"], roots, strict=True)]
    scaled = [part["scaled"] for part in parts]
    names = [name for name in parts[0]["by_system"] if all(name in part["by_system"] for part in parts)]
    by_system = {name: np.concatenate([np.array(part["by_system"][name]) for part in parts]) for name in names}
    return {
        "systems": sum(part["systems"] for part in parts),
        **found,
        "scaled": None if None in scaled else divided(scaled),
        **_over_systems(by_system, seed),
    }


def _over_systems(by_system: Mapping[str, Floats], seed: int) -> dict[str, Any]:
    """Return the medians, the CRPS, the intervals, and the metrics of each system."""
    squares = by_system["mse_by_variable"]
    metrics = {name: values for name, values in by_system.items() if name != "mse_by_variable"}
    metrics["rmse"] = np.sqrt(squares).mean(axis=1)
    return {
        **{f"median_{name}": float(np.median(metrics[name])) for name in MEDIANS},
        "crps": float(metrics["crps"].mean()) if "crps" in metrics else None,
        "intervals": _intervals(metrics, squares, seed),
        "by_system": {name: values.tolist() for name, values in by_system.items()},
    }


def _parts(errors: Callable[..., dict[str, float]], shape: Sequence[int]) -> dict[str, Any]:
    """Return `errors` (of steps and variables, slices) of the whole, of each variable and of each step."""
    _, steps, variables = shape
    return {
        "overall": errors(),
        "by_variable": [errors(variables=slice(v, v + 1)) for v in range(variables)],
        "by_step": [errors(steps=slice(h, h + 1)) for h in range(steps)],
    }


def _scaled(sizes: Floats, units: Floats) -> dict[str, Any]:
    """Return mae and mse of absolute errors (S, H, V) in `units`, (S, V) or (V,)."""
    scaled = sizes / np.broadcast_to(units, (len(sizes), sizes.shape[2]))[:, None]

    def errors(steps: slice = slice(None), variables: slice = slice(None)) -> dict[str, float]:
        chosen = scaled[:, steps, variables]
        return {"mae": float(chosen.mean()), "mse": float((chosen**2).mean())}

    return _parts(errors, sizes.shape)


def crps(truth: NDArray[Any], samples: NDArray[Any]) -> Floats:
    """Return the CRPS of each value, (S, H, V), from its samples (n, S, H, V); the module's docstring defines it.

    Raises:
        UsageError: a shape differs, or a value is not finite.
    """
    truth, samples = _checked("truth", truth, 3), _checked("samples", samples, 4)
    if samples.shape[1:] != truth.shape:
        expected = ", ".join(map(str, truth.shape))
        raise UsageError(f"the shape of the samples is {samples.shape}; for this truth it must be (n, {expected})")
    count = len(samples)
    rank = np.arange(1, count + 1)[:, None, None, None]
    ordered = np.sort(samples, axis=0)
    score: Floats = 2 / count**2 * ((ordered - truth) * (count * (truth < ordered) - rank + 0.5)).sum(axis=0)
    return score


def _typical(truth: Floats) -> Floats:
    """Return the sizes that errors are divided by: (S, 1, V), never zero."""
    own = np.abs(truth).mean(axis=1, keepdims=True)
    common = own.mean(axis=0, keepdims=True)
    # A series that is only rounding error beside the others has no meaningful size of its own.
    return np.where(common > _ZERO, np.where(own > common * _NOTHING, own, common), 1.0)


def _intervals(by_system: Mapping[str, Floats], squares: Floats, seed: int) -> dict[str, dict[str, float]]:
    """Return intervals by a percentile bootstrap over systems (Efron and Tibshirani, 1993, ch. 13).

    `squares` is (S, V). Systems are independent, so whole systems are drawn, the same ones for every metric.
    """
    count = len(squares)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[Floats]] = {}
    for _ in range(RESAMPLES // _BLOCK):
        rows = rng.integers(count, size=(_BLOCK, count))
        for name, values in by_system.items():
            # A mean of roots is not the root of a mean: the RMSE over all systems is made from the mean squares.
            whole = np.sqrt(squares[rows].mean(axis=1)).mean(axis=1) if name == "rmse" else values[rows].mean(axis=1)
            drawn.setdefault(name, []).append(whole)
            if name in MEDIANS:
                drawn.setdefault(f"median_{name}", []).append(np.median(values[rows], axis=1))
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    return {
        name: dict(zip(("low", "high"), map(float, np.quantile(np.concatenate(values), tails)), strict=True))
        for name, values in sorted(drawn.items())
    }


def _checked(what: str, values: NDArray[Any], dimensions: int) -> Floats:
    # One layout in memory, so that equal values give equal metrics, to the last bit.
    values = np.ascontiguousarray(values, dtype=np.float64)
    if values.ndim != dimensions or 0 in values.shape:
        wanted = "(systems, steps, variables)" if dimensions == 3 else "(samples, systems, steps, variables)"  # noqa: PLR2004
        raise UsageError(f"the shape of the {what} is {values.shape}; it must be {wanted}, none of them 0")
    if not (finite := np.isfinite(values)).all():
        where = ", ".join(str(index) for index in np.argwhere(~finite)[0])
        raise UsageError(f"NaN or infinity in the {what} at [{where}]: a forecast is scored whole or not at all")
    return values
