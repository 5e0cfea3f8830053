"""Deterministic arithmetic and random numbers, for the libraries that a task loads and for no others.

Python's own generator is always seeded. numpy and torch are prepared as soon as they are loaded, however late the task
imports them. This module never loads them, so a task in plain Python starts without them.
"""

import importlib.abc
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# numpy, torch and their BLAS read these only when they are loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def pin_threads(threads: int) -> None:
    """Set the thread counts that libraries read when they are loaded. Call this before numpy or torch is loaded."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS has no deterministic algorithms without it


def make_deterministic(threads: int, seed: int) -> None:
    """Seed Python now; seed numpy and torch, and make torch deterministic, now or when the task imports them.

    Args:
        threads: How many threads torch may use.
        seed: The run's seed.
    """

    def prepare(name: str) -> None:
        if name == "torch":
            _restrict_torch(threads)
        _SEEDERS[name](seed)

    random.seed(seed)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _AfterImport)]
    sys.meta_path.insert(0, _AfterImport([name for name in _SEEDERS if name not in sys.modules], prepare))
    for name in _SEEDERS:
        if name in sys.modules:
            prepare(name)


def seed_generators(seed: int) -> None:
    """Seed Python's generator, and those of numpy, torch and CUDA if these libraries are loaded."""
    random.seed(seed)
    for name, seeder in _SEEDERS.items():
        if name in sys.modules:
            seeder(seed)


def capture_rng() -> dict[str, Any]:
    """Return the states of Python's generator and of the loaded libraries', as a tree for `lvjobs.worker.state`."""
    states: dict[str, Any] = {"python": random.getstate()}
    if "numpy" in sys.modules:
        import numpy as np

        states["numpy"] = np.random.get_state(legacy=False)  # noqa: NPY002
    if "torch" in sys.modules:
        import torch

        states["torch"] = torch.get_rng_state()
        states["cuda"] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return states


def restore_rng(states: Mapping[str, Any]) -> None:
    """Restore the generators; those of CUDA only if the number of devices is the same.

    A library that the earlier attempt had not loaded yet keeps its seed, as it did in that attempt.
    """
    random.setstate(states["python"])
    if "numpy" in states:
        import numpy as np

        np.random.set_state(states["numpy"])  # noqa: NPY002
    if "torch" in states:
        import torch

        torch.set_rng_state(states["torch"])
        if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states["cuda"])


def _restrict_torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    # Not warn_only: some kernels (memory-efficient attention) choose a deterministic variant only for a strict caller.
    # A kernel that has none should raise an error, because a resumed run must equal an undisturbed one.
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False


def _seed_numpy(seed: int) -> None:
    import numpy as np

    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is the one that libraries draw from


def _seed_torch(seed: int) -> None:
    import torch

    torch.manual_seed(seed)


_SEEDERS: dict[str, Callable[[int], None]] = {"numpy": _seed_numpy, "torch": _seed_torch}


class _AfterImport(importlib.abc.MetaPathFinder):
    """A finder that calls `prepare(name)` at the end of the import of some modules; other finders find them."""

    def __init__(self, names: Sequence[str], prepare: Callable[[str], None]) -> None:
        self._names, self._prepare = set(names), prepare

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the next finder, its loader extended; return None for all other modules."""
        if fullname not in self._names:
            return None
        specs = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_prepare(module: ModuleType) -> None:
            execute(module)
            self._prepare(fullname)

        # The loader stays the same object, because importlib.resources and pkgutil check its type.
        setattr(spec.loader, "exec_module", execute_and_prepare)  # noqa: B010 - mypy forbids the assignment
        return spec
