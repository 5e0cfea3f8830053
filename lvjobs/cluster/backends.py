"""The backends: which backend a profile uses, and how it is opened. Register another scheduler's backend here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lvjobs.cluster.protocol import Cluster
from lvjobs.cluster.templates import DRIVER_PROFILE
from lvjobs.errors import UsageError

LOCAL = "local"
"""The backend and the profile of jobs that are processes of this machine."""
_SLURM = "slurm"


def backend_of(profile: str) -> str:
    """Return the backend of a profile: `local` for the profile of that name, `slurm` for every other."""
    return LOCAL if profile == LOCAL else _SLURM


def watcher_of(backend: str) -> str:
    """Return a profile that is always there, by which the jobs of a backend can be observed and cancelled."""
    return LOCAL if backend == LOCAL else DRIVER_PROFILE


def open_cluster(profile: str, local_jobs: Path, submissions: Path, *, slots: int = 1) -> Cluster:
    """Return the cluster that a profile describes.

    The local backend keeps its jobs in `local_jobs` and runs `slots` at once. The Slurm backend keeps its scripts in
    `submissions`.

    Raises:
        UsageError: no such profile.
    """
    if backend_of(profile) == LOCAL:
        from lvjobs.cluster.local import LocalCluster

        return LocalCluster(local_jobs, slots=slots)
    from lvjobs.cluster.profiles import load_profile
    from lvjobs.cluster.slurm import SlurmCluster

    return SlurmCluster(load_profile(profile), submissions)


def defaults_of(profile: str) -> Mapping[str, Any]:
    """Return what a job of this profile gets by default, by variable; empty where the profile no longer exists."""
    if profile == LOCAL:
        return {}
    from lvjobs.cluster.profiles import load_profile

    try:
        return load_profile(profile).defaults()
    except UsageError:
        return {}
