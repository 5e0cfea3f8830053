"""The surroundings of a program on one machine: the environment that was activated for it, and its container."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lvjobs.study.program.command import CommandConfig
from lvjobs.study.program.container import ContainerConfig
from lvjobs.worker.program.container import Place, start_of
from lvjobs.worker.program.directory import gpus_here, link_targets
from lvjobs.worker.program.launch import Order
from lvjobs.worker.program.process import Start, environment_of
from lvjobs.worker.versions import python_path


@dataclass(frozen=True)
class Surroundings:
    """The surroundings of a program, the same on each node of its job.

    Attributes:
        root: The study's directory.
        work: The working directory.
        container: The container; None: there is none.
        mounts: Further paths that a program in a container sees.
        activated: The variables that `activate` of [resources] changed; None: it removed them.
    """

    root: Path
    work: Path
    container: ContainerConfig | None = None
    mounts: Sequence[Path] = ()
    activated: Mapping[str, str | None] = field(default_factory=dict)


def surroundings_of(
    config: CommandConfig, root: Path, work: Path, activated: Mapping[str, str | None] | None = None
) -> Surroundings:
    """Return the surroundings of a program with these settings, in the study in `root`."""
    mounts = () if config.container is None else link_targets(root, config)
    return Surroundings(root, work, config.container, mounts, activated or {})


def environment_around(around: Surroundings, environ: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a process is started: the program's, or that of the container's engine.

    Args:
        around: What surrounds it.
        environ: The environment of its job on this machine.
        own: The variables of the process. In a container they are the program's alone.
    """
    inside = around.container is not None
    found = environment_of(environ, "" if inside else python_path(), own)
    for name, value in around.activated.items():
        found.pop(name, None) if value is None else found.update({name: value})
    return {name: value for name, value in found.items() if name not in own} if inside else {**found, **own}


def starts_of(orders: Sequence[Order], environ: Mapping[str, str], around: Surroundings) -> list[Start]:
    """Return the processes to start on this machine; `environ` is the environment of its job.

    Raises:
        LvjobsError: the container's engine would misread a path or a variable.
    """
    starts = []
    for order in orders:
        command, environment = list(order.command), environment_around(around, environ, order.variables)
        if around.container is not None:
            place = Place(around.work, around.mounts, gpus_here() != "0")
            command, environment = start_of(around.container, around.root, place, command, environment, order.variables)
        starts.append(Start(order.rank, command, environment))
    return starts
