"""The private working directory of one generation of a program, and the values of its placeholders."""

import os
import shutil
import signal
import socket
import zlib
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import lvjobs
from lvjobs.processes import with_variable
from lvjobs.study.layout import RunLayout
from lvjobs.study.program.command import CommandConfig
from lvjobs.tasks.code_copies import PROGRAM
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.environment import JobEnvironment

_FIRST_PORT, _PORTS = 20000, 10000
"""The ports at which the processes of a program meet: below those that Linux gives out by itself."""

PRIVATE = ".lvjobs"
"""The directory in the working directory that lvjobs uses itself."""


def values_of(attempt: Attempt, config: CommandConfig, work: Path, job: JobEnvironment) -> dict[str, Any]:
    """Return what stands for each placeholder, but for those of a checkpoint."""
    name = attempt.layout.root.name
    return {
        **config.own,
        **{key: getattr(attempt.config, key) for key in ("steps", "seed", "checkpoint_every")},
        "out": os.path.normpath(config.out),
        "run": name,
        "work": str(work),
        "gpus": gpus_here(),
        "nodes": job.nodes,
        "node_rank": 0,
        "head": head_of(job, os.environ) if job.nodes > 1 else "localhost",
        "processes": job.processes,
        "port": free_port(zlib.crc32(f"{job.token} {job.job_id} {name}".encode())),
    }


def free_port(number: int) -> int:
    """Return a port that nobody on this machine, the first node, listens on: that of a number, or one after it."""
    for offset in range(_PORTS):
        port = _FIRST_PORT + (number + offset) % _PORTS
        with suppress(OSError), socket.create_server(("", port)):
            return port
    return _FIRST_PORT + number % _PORTS


def gpus_here() -> str:
    """Return the number of GPUs that this run may use.

    A run of a pack sees its own GPUs only, while SLURM_GPUS_ON_NODE counts those of the job.
    """
    devices = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    return str(len(devices)) if devices else os.environ.get("SLURM_GPUS_ON_NODE", "0")


def head_of(job: JobEnvironment, environ: Mapping[str, str]) -> str:
    """Return the address of the first node, on which this process runs: its name, if other nodes can reach that.

    Some machines have a name that is the loopback on themselves.
    """
    with suppress(OSError):
        if not any(ip_address(each[4][0]).is_loopback for each in socket.getaddrinfo(job.node, None)):
            return job.node
    return environ.get("SLURM_LAUNCH_NODE_IPADDR") or os.uname().nodename


def end_orphans(root: Path, newest: str) -> None:
    """Kill, on this host, what older generations of the run left: ranks survive a killed worker, and a killed launcher.

    Args:
        root: The run directory.
        newest: The name of the working directory of the newest generation.
    """
    for pid, progress in with_variable("LVJOBS_PROGRESS", f"{root}/").items():
        if progress.removeprefix(f"{root}/").split("/")[0] < newest:
            with suppress(OSError):  # it ended
                os.kill(pid, signal.SIGKILL)


def new_work(layout: RunLayout, generation: int) -> Path:
    """Make the generation's working directory; delete those of older generations, and end what they left."""
    work = layout.root / f"{generation:06d}.work"
    end_orphans(layout.root, work.name)
    for old in layout.root.glob("*.work"):
        if old.name < work.name:  # a newer generation may have begun while this one was paused
            shutil.rmtree(old, ignore_errors=True)
    work.mkdir()
    return work


def make_work(attempt: Attempt, config: CommandConfig) -> Path:
    """Make a program's working directory, with links to the submitted files (see `new_work`)."""
    layout = attempt.layout
    work = new_work(layout, attempt.generation)
    source = _submitted()
    for directory, _, files in os.walk(source):
        target = work / Path(directory).relative_to(source)
        target.mkdir(exist_ok=True)
        for name in files:
            (target / name).symlink_to(Path(directory) / name)
    for name, target in _linked(layout.study.root, config).items():
        if not (work / name).exists():  # it is not in another one that is linked
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).symlink_to(target)
    for needed in (work / config.out, work / PRIVATE):
        needed.mkdir(parents=True, exist_ok=True)
    return work


def link_targets(root: Path, config: CommandConfig) -> list[Path]:
    """Return the paths outside of a working directory to which its links lead. `root` is the study's directory."""
    return [path for path in (_submitted(), *_linked(root, config).values()) if path.exists()]


def _submitted() -> Path:
    """Return the directory of the program's files in the code that was submitted."""
    return Path(lvjobs.__file__).parents[1] / PROGRAM


def _linked(root: Path, config: CommandConfig) -> dict[str, Path]:
    """Return the target of each path in `link`."""
    return {name: (root / config.directory / name).absolute() for name in sorted(config.link)}
