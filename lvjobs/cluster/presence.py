"""The Slurm cluster that this machine reaches, and what its jobs may name: for a study that does not exist yet."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lvjobs.cluster.commands import answered, run, user_name
from lvjobs.cluster.protocol import ClusterError, ClusterSilent

_SECONDS = 4.0


@dataclass(frozen=True)
class Presence:
    """A Slurm cluster that this machine reaches.

    `partitions` are the names of partitions, those with GPUs first, and `with_gpus` the number of these. `accounts` are
    the user's. `is_silent`: Slurm is configured here and does not answer.
    """

    partitions: Sequence[str] = ()
    with_gpus: int = 0
    accounts: Sequence[str] = ()
    is_silent: bool = False


def find_slurm() -> Presence | None:
    """Return the cluster that this machine reaches; None if Slurm is not installed or not configured here."""
    if shutil.which("sinfo") is None:
        return None
    try:
        rows = answered(run(["sinfo", "--noheader", "--format=%P|%G"], _SECONDS)).stdout
    except ClusterSilent:
        return Presence(is_silent=True)
    except ClusterError:  # no cluster is configured on this machine
        return None
    gpus: dict[str, bool] = {}
    for row in rows.splitlines():
        name, _, generic = row.partition("|")
        name = name.rstrip("*")
        gpus[name] = gpus.get(name, False) or "gpu" in generic
    ordered = sorted(gpus, key=lambda name: not gpus[name])
    return Presence(ordered, sum(gpus.values()), _accounts())


def _accounts() -> list[str]:
    """Return the accounts of this user; empty if accounting is off or does not answer."""
    try:
        words = ["sacctmgr", "-nP", "show", "associations", f"user={user_name()}", "format=account"]
        return sorted(set(answered(run(words, _SECONDS)).stdout.split()))
    except ClusterError:
        return []


def lab_profile() -> str | None:
    """Return `lab` if SLURM_CONF is that of a private cluster of `lvjobs lab`."""
    configured = os.environ.get("SLURM_CONF")
    return "lab" if configured and (Path(configured).parent.parent / "lab.json").exists() else None
