"""The settings of a lab: its size, how it preempts, how long Slurm holds a requeued job."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from lvjobs.errors import UsageError

PREEMPTIBLE = "low"
URGENT = "urgent"
ACCOUNT = "lab"
CLUSTER = "lab"

PreemptMode = Literal["requeue", "cancel"]
PreemptBy = Literal["partition", "qos"]

# Slurm refuses cred_expire below 5, and the hold after a requeue is one second longer.
LOWEST_HOLD = 6
_LOWEST_PORT = 1024
_HIGHEST_PORT = 32_767  # the range of Linux's client ports begins above it


@dataclass(frozen=True)
class LabConfig:
    """One private cluster.

    Attributes:
        nodes: The number of nodes (one slurmd each, all on this machine).
        gpus: Simulated GPUs per node.
        cpus: Simulated cores per node.
        memory_mb: Simulated memory per node, in MB.
        accounting: Whether slurmdbd and MariaDB run, so that `sacct` and `sacctmgr` work and limits are enforced.
        grace: Seconds between the first signal of a preemption and its kill (Slurm is not exact about it).
        user_signal: Whether a preempted job gets its own `--signal` instead of SIGTERM when the grace begins.
        preempt_mode: Whether a preempted job is requeued or cancelled.
        preempt_by: Whether the urgent partition or the urgent QOS preempts; `qos` turns accounting on.
        hold: Seconds for which Slurm holds a requeued job (120 on a usual cluster).
        port_base: First of the ports used; None takes a free range.
        message_timeout: Seconds after which a Slurm command gives up on an unresponsive controller.
        max_time: The partitions' time limit; a longer job is refused at once.
        min_job_age: Seconds for which the controller remembers a finished job.
        kill_wait: Seconds between SIGTERM and SIGKILL when a job has to end.
        extra: Lines added to the end of slurm.conf, verbatim.
    """

    nodes: int = 4
    gpus: int = 4
    cpus: int = 32
    memory_mb: int = 256_000
    accounting: bool = False
    grace: int = 10
    user_signal: bool = False
    preempt_mode: PreemptMode = "requeue"
    preempt_by: PreemptBy = "partition"
    hold: int = 21
    port_base: int | None = None
    message_timeout: int = 10
    max_time: str = "36:00:00"
    min_job_age: int = 300
    kill_wait: int = 5
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what Slurm would refuse later and less clearly."""
        for name, lowest, highest in (
            ("nodes", 1, 64),
            ("gpus", 0, 16),
            ("cpus", 1, 1024),
            ("memory_mb", 1, 10**8),
            ("grace", 0, 3600),
            ("hold", LOWEST_HOLD, 86_400),
            ("message_timeout", 2, 100),
            ("min_job_age", 2, 86_400),
            ("kill_wait", 1, 600),
        ):
            if not lowest <= getattr(self, name) <= highest:
                raise UsageError(f"lab: {name} = {getattr(self, name)}: give a number from {lowest} to {highest}")
        if self.preempt_mode not in ("requeue", "cancel"):
            raise UsageError(f"lab: preempt_mode = {self.preempt_mode!r}: choose requeue or cancel")
        if self.preempt_by not in ("partition", "qos"):
            raise UsageError(f"lab: preempt_by = {self.preempt_by!r}: choose partition or qos")
        if self.port_base is not None and not _LOWEST_PORT <= self.port_base <= _HIGHEST_PORT - self.ports + 1:
            highest_base = _HIGHEST_PORT - self.ports + 1
            raise UsageError(f"lab: port_base = {self.port_base}: give a number from {_LOWEST_PORT} to {highest_base}")
        if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}|UNLIMITED", self.max_time):
            raise UsageError(f"lab: max_time = {self.max_time!r}: write it like 36:00:00")
        if any("\n" in line for line in self.extra):
            raise UsageError("lab: an extra line of slurm.conf has a line break: give each line by itself")
        if self.preempt_by == "qos" and not self.accounting:
            object.__setattr__(self, "accounting", True)  # a QOS is kept in the accounting database

    @property
    def ports(self) -> int:
        """Return how many consecutive ports the lab takes: slurmctld, slurmdbd, one per slurmd."""
        return 2 + self.nodes

    @property
    def node_names(self) -> tuple[str, ...]:
        """Return the nodes' names, from n1 on."""
        return tuple(f"n{index}" for index in range(1, self.nodes + 1))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LabConfig":
        """Return the settings that a lab's record holds; keys of another version are dropped."""
        known = {field.name for field in fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        return cls(**kept | {"extra": tuple(kept.get("extra", ()))})
