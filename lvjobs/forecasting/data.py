"""The study's HDF5 files: `/time` (T,) and `/trajectories` (N, T, V), made, written, read, and checked before a run.

Needs h5py and numpy only, because commands check a file before they submit.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from lvjobs import remedies
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.files import write_atomic
from lvjobs.forecasting.codec import Floats
from lvjobs.study.params import USUAL_VARIABLES

TIME, TRAJECTORIES = "/time", "/trajectories"
STEPS = 100
"""The steps that training needs by default: 80 of history, 20 of horizon."""
SYSTEMS = 2
"""The systems that a file needs: one to train on, one to score. (If any is held out, one more: `splits`.)"""


@dataclass(frozen=True)
class Dataset:
    """Series on a common time axis: `time` (T,) float64; `trajectories` (N, T, V) float32, original units."""

    path: Path
    time: Floats
    trajectories: NDArray[np.float32]


def make_dataset(path: Path, systems: int = 1000, seed: int = 0) -> None:
    """Write the trajectories of `systems` random predator-prey systems; equal arguments give equal bytes.

    Raises:
        UsageError: too few systems, or the file cannot be written.
    """
    if systems < SYSTEMS:
        raise UsageError(f"{systems} systems are too few: use at least {SYSTEMS} (one trains, one is scored)")
    if seed < 0:
        raise UsageError(f"seed {seed} is negative: give 0 or more")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}", "make it first")
    times = sample_times()
    trajectories = solve(draw_systems(systems, seed), times)
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.create_dataset(TIME, data=times)
        file.create_dataset(TRAJECTORIES, data=trajectories.astype(np.float32))
    try:
        write_atomic(path, memory.getvalue())
        path.chmod(0o644)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})", "choose another place") from None


def variables_in(path: Path) -> int:
    """Return the number of variables of each series in the file; `USUAL_VARIABLES` if it cannot be read."""
    try:
        with h5py.File(path, "r") as file:
            return int(file[TRAJECTORIES].shape[2])
    except (OSError, KeyError, AttributeError, IndexError):  # `load_dataset` says what is wrong with it
        return USUAL_VARIABLES


def load_dataset(path: Path, *, steps: int = STEPS, systems: int = SYSTEMS) -> Dataset:
    """Read and check a file.

    Args:
        path: An HDF5 file.
        steps: The least number of time steps (history and horizon).
        systems: The least number of systems.

    Raises:
        UsageError: the file is missing, no HDF5, or holds data that cannot be trained on; one line that names the file,
            the dataset and the remedy.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a directory, not an HDF5 file", "name a file with --data")
    if not path.is_file():
        raise UsageError(f"{path}: no such file", f"name yours with --data{_or_make_one(path, steps)}")
    try:
        with h5py.File(path, "r") as file:
            time, trajectories = _numbers(file, path, TIME), _numbers(file, path, TRAJECTORIES)
    except OSError as error:
        # h5py has no errno here: a file without permission and one that is no HDF5 differ only in their message.
        reason = (
            "may not be read (check its permissions)" if isinstance(error, PermissionError) else "is not an HDF5 file"
        )
        raise UsageError(f"{path} {reason}", "name another with --data") from None
    _check_shapes(path, time, trajectories)
    if time.size < steps:
        raise UsageError(
            f"{path}: {TIME} has {time.size} steps, and history and horizon need at least {steps}",
            "store longer series, or set history_steps or horizon_steps lower",
        )
    if len(trajectories) < systems:
        raise UsageError(
            f"{path}: {TRAJECTORIES} has {len(trajectories)} system(s), and training and scoring need at least "
            f"{systems}",
            "add more, or name another file with --data",
        )
    _check_finite(path, TIME, time)
    _check_finite(path, TRAJECTORIES, trajectories)
    if not (falls := np.diff(time) > 0).all():
        where = int(np.argmin(falls)) + 1
        raise UsageError(f"{path}: {TIME} does not increase at index {where}", "sort the steps and remove duplicates")
    with np.errstate(over="ignore"):  # distinguished just below
        narrow = trajectories.astype(np.float32)
    _check_finite(path, TRAJECTORIES, narrow, "a number too large for float32")
    return Dataset(path, time.astype(np.float64), narrow)


def check_power(data: Dataset, power: float) -> None:
    """Refuse data whose values have no such power, or no logarithm for a power of 0 (UsageError)."""
    if power == 1 or (data.trajectories > 0).all() or (power > 0 and (data.trajectories >= 0).all()):
        return
    series, step, variable = np.argwhere(data.trajectories < 0 if power else data.trajectories <= 0)[0]
    raise UsageError(
        f"{data.path}: scale_power = {power:g} needs {'values of at least' if power else 'values above'} 0, and series "
        f"{series}, step {step}, variable {variable} is {data.trajectories[series, step, variable]:g}",
        "leave that series out, or set scale_power = 1",
    )


def load_declared(path: Path, digest: str, *, steps: int, name: str) -> Dataset:
    """Read and check the file that a run was declared with, in the run's job.

    Args:
        path: The file.
        digest: Its SHA-256 when the run was declared; empty if that is not known.
        steps: The least number of time steps.
        name: The run's name, for the command that resumes the run.

    Raises:
        LvjobsError: the file is gone, cannot be read, or is another; no option of `lvjobs resume` names another file.
        UsageError: see `load_dataset`.
    """
    remedy = f"restore it, then type: {remedies.RESUME_RUN(run=name)}"
    if not path.is_file():
        raise LvjobsError(f"{path}: no such file", remedy)
    try:
        is_another = bool(digest) and sha256(path) != digest
    except OSError as error:
        raise LvjobsError(f"{path} cannot be read ({error.strerror})", remedy) from None
    if is_another:
        raise LvjobsError(f"{path} is no longer the file this run was declared with", remedy)
    return load_dataset(path, steps=steps)


def _or_make_one(path: Path, steps: int) -> str:
    """Return words on how to make such a file, if `make_dataset` can; empty if it cannot."""
    if path.exists() or not path.parent.is_dir() or steps > STEPS:
        return ""
    return f", or make one of synthetic series: {remedies.DATA_MAKE(path=path)}"


def _numbers(file: Any, path: Path, name: str) -> NDArray[Any]:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        held = ", ".join(sorted(f"/{key}" for key in file)) or "nothing"
        raise UsageError(f"{path}: there is no dataset {name} (the file holds {held})", f"rename yours to {name}")
    if found.dtype.kind not in "fiu":
        raise UsageError(f"{path}: {name} holds {found.dtype}, not real numbers", "store it as floats")
    return np.asarray(found[()])


def _check_shapes(path: Path, time: NDArray[Any], trajectories: NDArray[Any]) -> None:
    if time.ndim != 1:
        raise UsageError(f"{path}: {TIME} has the shape {time.shape}", "store it as (steps,)")
    if trajectories.ndim != 3 or trajectories.shape[1] != time.size or trajectories.shape[2] == 0:  # noqa: PLR2004
        raise UsageError(
            f"{path}: {TRAJECTORIES} has the shape {trajectories.shape}",
            f"store it as (systems, {time.size}, variables), {time.size} being the length of {TIME}",
        )


def _check_finite(path: Path, name: str, values: NDArray[Any], what: str = "NaN or infinity") -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        where = ", ".join(str(index) for index in np.argwhere(bad)[0])
        raise UsageError(
            f"{path}: {name} has {what} at [{where}] ({np.count_nonzero(bad)} in all)", "remove or repair those series"
        )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits, as `data_sha256` holds it."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# -- the study's predator and prey: the Rosenzweig-MacArthur law, solved for random parameters ------------------------
#
#     x' = a x (1 - x / K) - b x y / (1 + h x)        y' = d x y / (1 + h x) - g y
#
# (Rosenzweig and MacArthur, The American Naturalist 97, 1963.) The ranges are those that fit the study's own file, all
# 1000 systems to 1e-3.

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
    from scipy.integrate import solve_ivp  # takes a third of a second that reading a file can save

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
