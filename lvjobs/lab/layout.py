"""The paths of a lab: one directory, private to its owner, with a name that fits Slurm's sockets."""

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

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
