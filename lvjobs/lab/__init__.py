"""A private Slurm cluster on one machine: the real daemons, a pretended size, faults at the push of a button."""

from lvjobs.lab.config import LabConfig
from lvjobs.lab.faults import Preemption
from lvjobs.lab.lab import Lab, LabStatus, NodeStatus
from lvjobs.lab.packages import install_packages, missing_packages, require_packages
from lvjobs.lab.tools import LabError

__all__ = [
    "Lab",
    "LabConfig",
    "LabError",
    "LabStatus",
    "NodeStatus",
    "Preemption",
    "install_packages",
    "missing_packages",
    "require_packages",
]
