"""A private Slurm cluster in one directory of one machine."""

import contextlib
import fcntl
import shlex
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.files import write_atomic
from lvjobs.lab import daemons
from lvjobs.lab.faults import FaultCommands
from lvjobs.lab.layout import LabConfig, LabHost, Layout
from lvjobs.lab.ports import free_base, loopback_address
from lvjobs.lab.processes import daemon_process, is_stopped
from lvjobs.lab.render import render_gres_conf, render_slurm_conf, render_slurmdbd_conf
from lvjobs.lab.tools import LabError, find_program, require_packages, run_tool, search_path, user_name


@dataclass(frozen=True)
class NodeStatus:
    """A node: the controller's state of it (None if it does not answer), and whether its slurmd runs."""

    name: str
    state: str | None
    slurmd: bool


@dataclass(frozen=True)
class LabStatus:
    """The state of a lab."""

    directory: str
    controller: str  # up, frozen, silent or down
    daemons: dict[str, int | None]  # process ids
    nodes: tuple[NodeStatus, ...]
    jobs: dict[str, int]  # number by state
    config: LabConfig | None
    port_base: int | None
    loopback_only: bool

    @property
    def running(self) -> bool:
        """Return whether any daemon runs."""
        return any(pid is not None for pid in self.daemons.values())

    @property
    def healthy(self) -> bool:
        """Return whether every daemon runs and the controller answers."""
        return self.controller == "up" and all(pid is not None for pid in self.daemons.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON can hold it."""
        return asdict(self) | {"running": self.running, "healthy": self.healthy}


class Lab(FaultCommands):
    """A private cluster; every method may be called from any process, repeatedly."""

    def __init__(self, directory: Path | str | None = None) -> None:
        """Name the lab in `directory`, by default $LVJOBS_LAB or the user's cache; nothing is created yet."""
        self.layout = Layout.at(directory)

    @property
    def directory(self) -> Path:
        """Return the directory that holds everything of this lab."""
        return self.layout.directory

    @property
    def config(self) -> LabConfig | None:
        """Return the settings with which the lab was last brought up; None if it never was."""
        site = self.layout.load()
        return site.config if site else None

    def up(self, config: LabConfig | None = None) -> LabStatus:
        """Bring the cluster up, or its missing parts; return once every node is ready.

        Args:
            config: None uses the settings of the last time, or the defaults. Settings that differ from the last time's
                start with an empty queue.

        Raises:
            UsageError: Programs are missing, a port is taken, or a lab with other settings runs in the directory.
            LabError: A daemon does not come up.
        """
        before = self.layout.load()
        config = config or (before.config if before else LabConfig())
        require_packages(accounting=config.accounting)
        self._refuse_foreign_directory()
        self.layout.make()
        with self._locked(), contextlib.ExitStack() as claims:
            site = self._settle(config, before, claims)
            daemons.start_munged(self.layout)
            if config.accounting:
                daemons.start_accounting(self.layout, site)
            daemons.start_controller(self.layout)
            daemons.start_nodes(self.layout, config.node_names)
        return self.status()

    def down(self, *, purge: bool = False) -> None:
        """Stop every process of this lab and of its jobs, as a power cut would; the queue is kept unless `purge`."""
        try:
            site = self.layout.load()
        except UsageError:
            if not purge:
                raise
            # the record that lists the nodes cannot be read: take those that were once started
            names = tuple(path.name.split(".")[1] for path in self.layout.run.glob("slurmd.*.pid"))
        else:
            names = site.config.node_names if site else ()
            if site is None and not (purge and (self.layout.etc / "lock").exists()):  # a refused `up` leaves this lock
                return
        with self._locked():
            daemons.stop_everything(self.layout, names, gently=not purge)
            if purge:
                shutil.rmtree(self.directory, ignore_errors=True)

    def status(self) -> LabStatus:
        """Return the state of the lab; an unresponsive controller costs a few seconds only."""
        site = self.layout.load()
        if site is None:
            return LabStatus(str(self.directory), "down", {}, (), {}, None, None, loopback_only=True)
        found = {name: daemon_process(self.layout, name) for name in _daemon_names(site.config)}
        controller = found["slurmctld"]
        states: dict[str, str] = {}
        jobs: dict[str, int] = {}
        answer = "down"
        if controller is not None and is_stopped(controller):
            answer = "frozen"
        elif controller is not None:
            answer = "silent"
            with contextlib.suppress(LabError):
                listed = run_tool(self.layout, "sinfo", "-h", "-N", "-o", "%N|%T", timeout=5).split()
                states = dict(line.split("|", 1) for line in listed)
                jobs = dict(Counter(run_tool(self.layout, "squeue", "-h", "-a", "-r", "-o", "%T", timeout=5).split()))
                answer = "up"
        nodes = tuple(
            NodeStatus(name, states.get(name), found[f"slurmd.{name}"] is not None) for name in site.config.node_names
        )
        pids = {name: process.pid if process else None for name, process in found.items()}
        return LabStatus(
            str(self.directory), answer, pids, nodes, jobs, site.config, site.port_base, site.loopback_only
        )

    def environment(self) -> dict[str, str]:
        """Return the variables to export so that Slurm's commands use this lab."""
        environment = {"SLURM_CONF": str(self.layout.slurm_conf)}
        if find_program("scontrol") and not shutil.which("scontrol"):
            environment["PATH"] = search_path()
        return environment

    def exports(self) -> str:
        """Return `environment` as lines for a shell."""
        return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in self.environment().items())

    def run(self, *command: str, timeout: float = 120.0) -> str:
        """Run a Slurm command against this lab and return its output. Raises LabError if it fails or times out."""
        return run_tool(self.layout, *command, timeout=timeout, cwd=self.layout.scratch)

    def _refuse_foreign_directory(self) -> None:
        """Refuse a directory that holds something else, because `down --purge` deletes the whole directory."""
        directory = self.directory
        if directory.exists() and not directory.is_dir():
            raise UsageError(f"{directory} is not a directory: choose another with --dir or LVJOBS_LAB")
        if directory.exists() and not self.layout.etc.exists() and any(directory.iterdir()):
            raise UsageError(f"{directory} holds other things: choose an empty or new directory with --dir")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Allow one `up` or `down` at a time; a lab belongs to one machine, so an advisory lock is enough."""
        with (self.layout.etc / "lock").open("w", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _settle(self, config: LabConfig, before: LabHost | None, claims: contextlib.ExitStack) -> LabHost:
        """Choose address and ports, and write the configuration, unless the lab already runs with these settings."""
        if before and any(daemon_process(self.layout, name) for name in _daemon_names(before.config)):
            asked = config if config.port_base else replace(config, port_base=before.config.port_base)
            if asked != before.config:
                raise UsageError(
                    f"a lab with other settings runs in {self.directory}; type: "
                    f"{remedies.LAB_DOWN(*self.layout.options)}, then repeat this command"
                )
            return before
        if before and replace(config, port_base=None) != replace(before.config, port_base=None):
            for stale in (self.layout.state, self.layout.spool, self.layout.database):
                shutil.rmtree(stale, ignore_errors=True)
            self.layout.make()
        host = socket.gethostname().split(".")[0]
        address = loopback_address(host)
        site = LabHost(
            config=config,
            host=host,
            address=address or "127.0.0.1",
            loopback_only=address is not None,
            port_base=self._ports(config, before, claims),
        )
        self._write_configuration(site)
        self.layout.save(site)
        return site

    def _ports(self, config: LabConfig, before: LabHost | None, claims: contextlib.ExitStack) -> int:
        if config.port_base is None and before:
            with contextlib.suppress(UsageError):  # last time's ports, so that exported variables remain valid
                return free_base(self.directory, config.ports, claims, before.port_base)
        return free_base(self.directory, config.ports, claims, config.port_base)

    def _write_configuration(self, site: LabHost) -> None:
        layout, user = self.layout, user_name()
        write_atomic(layout.slurm_conf, render_slurm_conf(layout, site, user))
        write_atomic(layout.etc / "gres.conf", render_gres_conf(layout, site.config))
        # cgroups need root, and a container often cannot use them
        write_atomic(layout.etc / "cgroup.conf", "CgroupPlugin=disabled\n")
        write_atomic(layout.etc / "slurmdbd.conf", render_slurmdbd_conf(layout, site, user))
        for index in range(site.config.gpus):
            device = layout.devices / f"nvidia{index}"
            if not device.is_symlink():
                device.symlink_to("/dev/null")


def _daemon_names(config: LabConfig) -> tuple[str, ...]:
    accounting = ("mariadbd", "slurmdbd") if config.accounting else ()
    return ("munged", *accounting, "slurmctld", *(f"slurmd.{name}" for name in config.node_names))
