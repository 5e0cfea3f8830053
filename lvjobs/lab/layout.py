"""The paths of a lab: one directory, private to its owner, with a name that fits Slurm's sockets."""

import contextlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.files import expand_home, write_json
from lvjobs.lab.config import LabConfig

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


@dataclass(frozen=True)
class Layout:
    """The paths inside a lab's directory."""

    directory: Path

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

    @property
    def etc(self) -> Path:
        """Return the directory of configuration files."""
        return self.directory / "etc"

    @property
    def slurm_conf(self) -> Path:
        """Return the path for SLURM_CONF."""
        return self.etc / "slurm.conf"

    @property
    def log(self) -> Path:
        """Return the directory of the daemons' logs."""
        return self.directory / "log"

    @property
    def run(self) -> Path:
        """Return the directory of process ids and sockets."""
        return self.directory / "run"

    @property
    def state(self) -> Path:
        """Return the directory of the controller's queue, kept between down and up."""
        return self.directory / "state"

    @property
    def spool(self) -> Path:
        """Return the directory with one spool directory per node."""
        return self.directory / "spool"

    @property
    def devices(self) -> Path:
        """Return the directory of the files that stand for GPUs."""
        return self.directory / "dev"

    @property
    def database(self) -> Path:
        """Return the directory of MariaDB's files."""
        return self.directory / "db"

    @property
    def scratch(self) -> Path:
        """Return the nodes' TmpFS."""
        return self.directory / "tmp"

    @property
    def munge_key(self) -> Path:
        """Return the path of the secret that separates this lab's messages from those of others."""
        return self.etc / "munge.key"

    @property
    def munge_socket(self) -> Path:
        """Return the socket on which munged listens."""
        return self.run / "munge.sock"

    @property
    def mysql_socket(self) -> Path:
        """Return the socket on which MariaDB listens, and nowhere else."""
        return self.run / "mysql.sock"

    @property
    def record(self) -> Path:
        """Return the file that makes a directory a lab."""
        return self.directory / "lab.json"

    def pid_file(self, daemon: str) -> Path:
        """Return the process id file of `daemon` (munged, mariadbd, slurmdbd, slurmctld, slurmd.n1 ...)."""
        return self.run / f"{daemon}.pid"

    def nodes_with_pid_files(self) -> tuple[str, ...]:
        """Return the nodes that were once started, for when the record that lists them cannot be read."""
        return tuple(path.name.split(".")[1] for path in self.run.glob("slurmd.*.pid"))

    def make(self) -> None:
        """Create the directories."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (self.etc, self.log, self.run, self.state, self.spool, self.devices, self.scratch):
            path.mkdir(exist_ok=True, mode=0o700)

    def save(self, site: LabHost) -> None:
        """Write the record of the lab's host and ports."""
        values: dict[str, Any] = {
            "config": site.config.to_dict(),
            "host": site.host,
            "address": site.address,
            "loopback_only": site.loopback_only,
            "port_base": site.port_base,
        }
        write_json(self.record, values)

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
