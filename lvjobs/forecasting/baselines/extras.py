"""Extra baselines, which need a package that lvjobs does not install by itself, and are made where they are asked for.

`auto-arima`, `auto-ets` and `auto-theta` are made by statsforecast (`univariate`), `chronos:MODEL` by
chronos-forecasting (`chronos`). Each forecasts one series at a time from its history alone. So forecasts depend neither
on a batch nor on a training set, and equal histories have equal forecasts. A new one is an entry of `EXTRAS`.
"""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs import remedies
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.files import expand_home
from lvjobs.flops.architecture import hub_id_of
from lvjobs.forecasting.baselines import BASELINES
from lvjobs.forecasting.baselines.statistical import LARGEST, checked_history
from lvjobs.forecasting.baselines.univariate import NotFitted, forecast_each
from lvjobs.forecasting.codec import Floats

CHRONOS = "chronos"
_FIRST_CHRONOS = "/chronos-t5-"
"""A part of the hub ids of the first Chronos models."""
_OLDEST = 2
"""The oldest major version of each of the packages that is used."""


class CannotForecast(LvjobsError):
    """An extra baseline cannot be made of these series; nothing is wrong with its package or its model."""


@dataclass(frozen=True)
class Package:
    """A package: its name in the registry, the module that it installs, and lvjobs' extra that installs it."""

    name: str
    module: str
    extra: str


STATSFORECAST = Package("statsforecast", "statsforecast", "statsforecast")
CHRONOS_FORECASTING = Package("chronos-forecasting", "chronos", "chronos")

EXTRAS: Mapping[str, Package] = {
    "auto-arima": STATSFORECAST,
    "auto-ets": STATSFORECAST,
    "auto-theta": STATSFORECAST,
    CHRONOS: CHRONOS_FORECASTING,
}
"""The extra baselines by the first part of their names, with the packages that make them."""
_CHOICES = f"{', '.join(name for name in EXTRAS if name != CHRONOS)} and {CHRONOS}:MODEL"


def canonical(names: Iterable[str], root: Path) -> list[str]:
    """Return these extra baselines sorted and once each, so that their order makes no other evaluation.

    The directory of a model becomes absolute: it is relative to the study's, `root`. One text is one name.

    Raises:
        UsageError: there is no such extra baseline.
    """
    return sorted({_canonical(name, root) for name in ([names] if isinstance(names, str) else names)})


def _canonical(name: str, root: Path) -> str:
    if name in BASELINES:
        raise UsageError(f"baseline {name} is in every table already: name extra ones only, {_CHOICES}")
    method, colon, model = name.partition(":")
    if method not in EXTRAS or bool(colon) != (method == CHRONOS):
        raise UsageError(f"there is no extra baseline {name!r}: choose from {_CHOICES}")
    if not colon:
        return name
    if not model:
        raise UsageError(f"baseline {name} names no model: write {CHRONOS}:amazon/chronos-bolt-small, or a directory")
    directory = root / expand_home(model)
    if directory.is_dir():
        return f"{method}:{directory.resolve()}"
    if _FIRST_CHRONOS in model:
        raise UsageError(
            f"baseline {name}: the first Chronos models forecast by random samples; name Chronos-Bolt or Chronos-2, "
            "such as amazon/chronos-bolt-small"
        )
    return f"{method}:{hub_id_of(model)}"


def check(name: str) -> None:
    """Refuse an extra baseline that no job of this machine could make.

    Raises:
        UsageError: its package is not installed or too old; or its model is not here, incomplete, or of another kind.
    """
    method, _, model = name.partition(":")
    package, found = EXTRAS[method], _version(EXTRAS[method])
    if found is None or int(found.partition(".")[0]) < _OLDEST:
        command = remedies.INSTALL_EXTRA(python=sys.executable, package=f"lvjobs[{package.extra}]")
        state = "which is not installed" if found is None else f"at least version {_OLDEST}, and {found} is installed"
        raise UsageError(f"baseline {name} takes the package {package.name}, {state}; type: {command}")
    if method == CHRONOS:
        from lvjobs.forecasting.chronos_models import find_chronos

        find_chronos(model)


def _version(package: Package) -> str | None:
    try:
        return version(package.name) if find_spec(package.module) is not None else None
    except PackageNotFoundError:
        return None


def made_by(name: str) -> dict[str, str]:
    """Return the package that makes an extra baseline, its version and, of a model, the SHA-256 of its weights.

    Raises:
        UsageError: see `check`.
    """
    check(name)
    method, _, model = name.partition(":")
    found = {"package": EXTRAS[method].name, "version": version(EXTRAS[method].name)}
    if method == CHRONOS:
        from lvjobs.forecasting.base_weights import sha256_of_weights
        from lvjobs.forecasting.chronos_models import find_chronos

        found["weights_sha256"] = sha256_of_weights(find_chronos(model).directory)
    return found


def forecast_extra(name: str, histories: NDArray[Any], horizon: int, systems: Sequence[int]) -> Floats:
    """Forecast `horizon` steps: (S, horizon, V) from histories (S, T, V), both in the data's own units.

    `systems` are the series' numbers, for messages.

    Raises:
        CannotForecast: a forecast cannot be made of one of these series.
        LvjobsError: the model cannot be loaded.
    """
    method, _, model = name.partition(":")
    histories = checked_history(histories, horizon)
    forecasts = []
    with _quiet():
        for system, history in zip(systems, histories, strict=True):
            try:
                if method == CHRONOS:
                    from lvjobs.forecasting.baselines.chronos import forecast_median

                    made = forecast_median(model, history, horizon)
                else:
                    made = forecast_each(method, history, horizon)
            except NotFitted as error:
                raise CannotForecast(f"series {system}: {error}") from error
            if not (np.abs(made) <= LARGEST * np.abs(history).max()).all():  # NaN is not, either
                raise CannotForecast(f"series {system}: its forecast diverges")
            forecasts.append(made)
    return np.stack(forecasts)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep these libraries' warnings, one for each of many series, out of the log, and their prints out of stdout."""
    logger = logging.getLogger("chronos")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
