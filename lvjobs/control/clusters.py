"""Which backend a profile means."""

import hashlib
from collections.abc import Mapping
from typing import Any

from lvjobs.cluster.protocol import Cluster
from lvjobs.cluster.templates import path_of
from lvjobs.errors import UsageError
from lvjobs.study.config import Study

LOCAL = "local"
DRIVER_PROFILE = "(driver)"
"""Stands for the script of a study's driver where a profile is asked for."""
NOTICE_PROFILE = "(notice)"
"""Stands for the script of a notice by mail."""


def backend_of(profile: str) -> str:
    """`local` for the profile of that name, `slurm` for every other."""
    return LOCAL if profile == LOCAL else "slurm"


def defaults_of(profile: str) -> Mapping[str, Any]:
    """What a job of this profile gets where nothing else is said; nothing where the profile is no more."""
    if profile == LOCAL:
        return {}
    from lvjobs.cluster.profiles import load_profile

    try:
        return load_profile(profile).defaults()
    except UsageError:
        return {}


def gpus_by_default(profile: str) -> int:
    """The GPUs that a job of this profile gets where nothing else is said; 0 where the profile is no more."""
    return int(defaults_of(profile).get("gpus") or 0)


def digest_of(profile: str) -> str:
    """What tells whether its template is still the same: quickly, as it is read and not compiled. "": there is none."""
    if profile == LOCAL:
        return ""
    try:
        return hashlib.sha256(path_of(profile).read_bytes()).hexdigest()
    except (UsageError, OSError):
        return ""


def cluster_for(study: Study, profile: str) -> Cluster:
    """The cluster that `profile` describes, as this study uses it.

    Raises:
        UsageError: no such profile.
    """
    if backend_of(profile) == LOCAL:
        from lvjobs.cluster.local import LocalCluster

        return LocalCluster(study.layout.local_jobs, slots=study.config.local_slots)
    from lvjobs.cluster.profiles import load_driver, load_notice, load_profile
    from lvjobs.cluster.slurm import SlurmCluster

    own = {DRIVER_PROFILE: load_driver, NOTICE_PROFILE: load_notice}
    script = own[profile]() if profile in own else load_profile(profile)
    return SlurmCluster(script, study.layout.submissions)
