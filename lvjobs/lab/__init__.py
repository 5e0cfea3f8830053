"""A private Slurm cluster on one machine: the real daemons, simulated hardware, and faults on command.

`lab` has the class `Lab`, which the others serve. `config` has a lab's settings and `layout` its directory. `ports`
finds an address and free ports, and `render` writes Slurm's configuration. `packages` installs missing programs.
`daemons` starts and stops the daemons, `processes` finds those of one lab, and `tools` runs Slurm's commands against
it. `faults` preempts jobs, fails nodes and freezes the controller.
"""

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
