"""A lab's settings, and the paths of its directory: private to its owner, with a name that fits Slurm's sockets."""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.files import expand_home, write_json

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
            raise UsageError("lab: an extra line of slurm.conf has a line break: give one line per entry")
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


# A socket's path has 107 bytes; the longest is spool/n64/n64_4294967295.4294967295.
_LONGEST_DIRECTORY = 107 - len("/spool/n64/n64_4294967295.4294967295")
_CONFIGURATION_SAFE = re.compile(r"[A-Za-z0-9_./+-]+")


@dataclass(frozen=True)
class LabHost:
    """The choices of `up` for a lab: this machine's name and address, and the ports that were free."""

    config: LabConfig
    host: str
    address: str
    loopback_only: bool
    port_base: int


class Layout:
    """The paths inside a lab's directory.

    Attributes:
        etc: The directory of configuration files.
        slurm_conf: The path for SLURM_CONF.
        munge_key: The secret that separates this lab's messages from those of others.
        log: The directory of the daemons' logs.
        run: The directory of process ids and sockets.
        munge_socket: The socket on which munged listens.
        mysql_socket: The socket on which MariaDB listens, and nowhere else.
        state: The directory of the controller's queue, kept between down and up.
        spool: The directory with one spool directory per node.
        devices: The directory of the files that stand for GPUs.
        database: The directory of MariaDB's files.
        scratch: The nodes' TmpFS.
        record: The file that makes a directory a lab.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.etc, self.log, self.run = directory / "etc", directory / "log", directory / "run"
        self.slurm_conf, self.munge_key = self.etc / "slurm.conf", self.etc / "munge.key"
        self.munge_socket, self.mysql_socket = self.run / "munge.sock", self.run / "mysql.sock"
        self.state, self.spool = directory / "state", directory / "spool"
        self.devices, self.database, self.scratch = directory / "dev", directory / "db", directory / "tmp"
        self.record = directory / "lab.json"

    @classmethod
    def at(cls, directory: Path | str | None = None) -> "Layout":
        """Return the layout at `directory`, else at $LVJOBS_LAB, else in the user's cache.

        Raises:
            UsageError: The path is too long for Unix sockets or has characters that slurm.conf cannot quote.
        """
        chosen = directory or os.environ.get("LVJOBS_LAB") or default_directory()
        path = expand_home(chosen).resolve()
        remedy = "choose another with --dir or LVJOBS_LAB"
        if len(str(path)) > _LONGEST_DIRECTORY:
            raise UsageError(
                f"lab directory {path} is longer than {_LONGEST_DIRECTORY} characters, too long for sockets: {remedy}"
            )
        if not _CONFIGURATION_SAFE.fullmatch(str(path)):
            raise UsageError(f"lab directory {path} has characters that Slurm's configuration cannot hold: {remedy}")
        if path.parent == path:
            raise UsageError(f"a lab cannot live in {path}: {remedy}")
        return cls(path)

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options that make a `lvjobs lab` command mean this lab; empty if it is the default."""
        with contextlib.suppress(UsageError):
            if Layout.at().directory == self.directory:
                return ()
        return "--dir", str(self.directory)

    def pid_file(self, daemon: str) -> Path:
        """Return the process id file of `daemon` (munged, mariadbd, slurmdbd, slurmctld, slurmd.n1 ...)."""
        return self.run / f"{daemon}.pid"

    def make(self) -> None:
        """Create the directories."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (self.etc, self.log, self.run, self.state, self.spool, self.devices, self.scratch):
            path.mkdir(exist_ok=True, mode=0o700)

    def save(self, site: LabHost) -> None:
        """Write the record of the lab's host and ports."""
        write_json(self.record, asdict(site))

    def load(self) -> LabHost | None:
        """Return what `save` wrote; None if no lab was ever brought up. Raises UsageError if it cannot be read."""
        try:
            values = json.loads(self.record.read_text(encoding="utf-8"))
            return LabHost(
                LabConfig.from_dict(values["config"]),
                str(values["host"]),
                str(values["address"]),
                bool(values["loopback_only"]),
                int(values["port_base"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
            raise UsageError(
                f"{self.record} is not readable ({error!r}); remove the lab; type: {remedies.LAB_PURGE(*self.options)}"
            ) from error


def default_directory() -> Path:
    """Return the lab's directory for a user who names none. Raises UsageError if there is no home directory."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise UsageError("there is no home directory for a lab; name a directory with --dir or LVJOBS_LAB") from None
    return Path(cache) / "lvjobs" / "lab"
