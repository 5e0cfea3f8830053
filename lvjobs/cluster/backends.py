"""The backends: what lvjobs has to know of a scheduler beyond its `Cluster`. Register another scheduler here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs.cluster.protocol import Cluster
from lvjobs.cluster.templates import DRIVER_PROFILE, NOTICE_PROFILE
from lvjobs.errors import UsageError


def _open_local(_profile: str, local_jobs: Path, _submissions: Path, slots: int) -> Cluster:
    from lvjobs.cluster.local import LocalCluster

    return LocalCluster(local_jobs, slots=slots)


def _open_slurm(profile: str, _local_jobs: Path, submissions: Path, _slots: int) -> Cluster:
    from lvjobs.cluster.profiles import load_profile
    from lvjobs.cluster.slurm import SlurmCluster

    return SlurmCluster(load_profile(profile), submissions)


@dataclass(frozen=True)
class Backend:
    """One way to run jobs. `name` is in the ledger, and is LVJOBS_BACKEND in a job.

    `is_site`: jobs are submitted to a site's scheduler by a profile's template, and each has nodes, GPUs and a time
    limit of its own. Otherwise they are processes of this machine, `local_slots` at once, and no template is used.

    `open(profile, local_jobs, submissions, slots)` returns the cluster that a profile describes, or raises UsageError
    where there is no such profile. The local backend keeps its jobs in `local_jobs` and runs `slots` at once. A site's
    backend keeps its scripts in `submissions`.

    `usual_profile` leaves everything to the site. `driver_profile` and `notice_profile` are the profiles of lvjobs' own
    small jobs: the driver, and a notice by mail. They are empty where there are no such jobs.
    """

    name: str
    open: Callable[[str, Path, Path, int], Cluster]
    is_site: bool
    usual_profile: str
    driver_profile: str = ""
    notice_profile: str = ""

    @property
    def watcher(self) -> str:
        """Return a profile that always exists, by which the backend's jobs can be observed and cancelled."""
        return self.driver_profile or self.usual_profile


LOCAL = Backend("local", _open_local, is_site=False, usual_profile="local")
SLURM = Backend("slurm", _open_slurm, True, "generic", DRIVER_PROFILE, NOTICE_PROFILE)
BACKENDS = {backend.name: backend for backend in (LOCAL, SLURM)}
"""All backends, by name."""

_ON_THIS_MACHINE = (LOCAL.usual_profile, "lab")


def backend_of(profile: str) -> Backend:
    """Return the backend of a profile: `LOCAL` for the profile of that name, `SLURM` for every other."""
    return LOCAL if profile == LOCAL.usual_profile else SLURM


def is_elsewhere(profile: str) -> bool:
    """Return whether jobs of this profile run on other machines than this one."""
    return profile not in _ON_THIS_MACHINE


def defaults_of(profile: str) -> Mapping[str, Any]:
    """Return what a job of this profile gets by default, by variable; empty where the profile no longer exists."""
    from lvjobs.cluster.profiles import load_profile

    try:
        return load_profile(profile).defaults() if backend_of(profile).is_site else {}
    except UsageError:
        return {}
