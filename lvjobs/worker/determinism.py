"""What makes a resumed run draw and add up what an undisturbed one would: threads, algorithms, seeds, RNG states."""

import os
import random
from collections.abc import Mapping
from typing import Any

# numpy, torch and their BLAS read these when they are loaded, and never again.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def pin_threads(threads: int) -> None:
    """Set the thread counts that libraries read when they are loaded: call it before numpy or torch is."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS has no deterministic algorithms without it


def make_deterministic(threads: int, seed: int) -> None:
    """Pin torch's threads, forbid nondeterministic algorithms, and seed Python, numpy and torch (CUDA too)."""
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    # Not warn_only: some kernels (memory-efficient attention) have a deterministic variant only for a strict caller,
    # and one that has none at all should say so, not break the promise that a resumed run is the same run.
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False
    seed_generators(seed)


def seed_generators(seed: int) -> None:
    """Seed Python's, numpy's, torch's and CUDA's generators."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is the one that libraries draw from
    torch.manual_seed(seed)


def capture_rng() -> dict[str, Any]:
    """The states of Python's, numpy's, torch's and CUDA's generators, as a tree that `lvjobs.worker.state` packs."""
    import numpy as np
    import torch

    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(states: Mapping[str, Any]) -> None:
    """Put the generators back. CUDA's only where there are as many devices as there were."""
    import numpy as np
    import torch

    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
