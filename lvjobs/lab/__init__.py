"""A private Slurm cluster on one machine: the real daemons, simulated hardware, and faults on command.

`lab` has the class `Lab`, which the others serve. `layout` has a lab's settings and its directory. `ports` finds an
address and free ports, and `render` writes Slurm's configuration. `tools` installs missing programs, and runs Slurm's
commands against the lab. `daemons` starts and stops the daemons, and `processes` finds those of one lab. `faults`
preempts jobs, fails nodes and freezes the controller.
"""

from lvjobs.lab.faults import Preemption
from lvjobs.lab.lab import Lab, LabStatus, NodeStatus
from lvjobs.lab.layout import LabConfig
from lvjobs.lab.tools import LabError, install_packages, missing_packages, require_packages

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
