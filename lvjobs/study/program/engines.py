"""The command line that starts a program in a container: a list of arguments for each engine. Pure.

No shell reads any of them. An option and its value are one argument, and paths are absolute, so a value is never
mistaken for an option. Sources: ch-run(1), `apptainer exec --help`, enroot's doc/cmd/start.md and src/runtime.sh,
podman-run(1) and podman_hpc/podman_hpc.py.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lvjobs.study.program.container import EXECUTABLES, ContainerConfig, Engine

OF_THE_HOST = frozenset({
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "TMPDIR"),
})  # fmt: skip
"""Variables with paths of the host. No program in a container gets them, unless [train.environment] sets them."""

_OF_THE_ENGINE = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "HOSTNAME", "SHLVL", "_"})
_OF_THE_SESSION = ("XDG_", "DBUS_", "SSH_", "ENROOT_", "PODMANHPC_", "CONTAINERS_")
"""Variables that engines need themselves, and that say nothing to a program in a container."""

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)

_ENTER = 'cd "$1" && shift && exec "$@"'
"""enroot has no option for the working directory, and needs /bin/sh in the image anyway. This text is constant."""


@dataclass(frozen=True)
class Inside:
    """The surroundings of a program in a container.

    Attributes:
        image: The image: an absolute path, or a reference.
        work: The working directory.
        mounts: Further paths that the program must see, besides those in `bind`.
        gpu: Whether it sees the job's GPUs.
        job: The job's environment.
        own: Variables of lvjobs and of [train.environment]. They take precedence over the job's and the image's.
        has_variables: Whether the image has the file /ch/environment, from which ch-run sets its variables.
    """

    image: str
    work: Path
    mounts: Sequence[Path] = ()
    gpu: bool = False
    job: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    has_variables: bool = False


def in_container(
    container: ContainerConfig, inside: Inside, command: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command line that starts `command` in a container, and the environment of the engine.

    The engine's own processes get LVJOBS_* too: those that are left behind are found by them.
    """
    bound = outermost([str(inside.work), *map(str, inside.mounts), *container.bind])
    environment = {name: value for name, value in inside.job.items() if name not in OF_THE_HOST}
    environment |= {name: value for name, value in inside.own.items() if name.startswith("LVJOBS_")}
    if container.engine == "apptainer":
        environment |= {f"APPTAINERENV_{name}": value for name, value in inside.own.items()}
    arguments = _ARGUMENTS[container.engine](inside, bound)
    return [EXECUTABLES[container.engine], *arguments, *command], environment


def outermost(paths: Iterable[str]) -> list[str]:
    """Return the paths without those that lie below another one, sorted."""
    found: list[str] = []
    for path in sorted({str(PurePosixPath(each)) for each in paths}):
        if not any(PurePosixPath(path).is_relative_to(other) for other in found):
            found.append(path)
    return found


def _charliecloud(inside: Inside, bound: Sequence[str]) -> list[str]:
    """Return ch-run's arguments.

    The image itself does not change: --write-fake lays a temporary file system over it, which has the mount points.
    Values are in quotes, because ch-run removes one pair of them.
    """
    return [
        "--write-fake",
        *(f"--bind={path}" for path in bound),
        f"--cd={inside.work}",
        "--unset-env=PATH",
        *(["--set-env"] if inside.has_variables else []),
        "--env-no-expand",
        *(f"--set-env={name}='{value}'" for name, value in inside.own.items()),
        inside.image,
        "--",
    ]


def _apptainer(inside: Inside, bound: Sequence[str]) -> list[str]:
    """Return apptainer's arguments. Variables come from APPTAINERENV_*: a value in --env would end at a comma."""
    return [
        "exec",
        *(["--nv"] if inside.gpu else []),
        *(f"--bind={path}" for path in bound),
        f"--pwd={inside.work}",
        inside.image,
    ]


def _enroot(inside: Inside, bound: Sequence[str]) -> list[str]:
    """Return enroot's arguments. Its hook for GPUs obeys NVIDIA_VISIBLE_DEVICES."""
    gpus = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    devices = gpus if inside.gpu else {"NVIDIA_VISIBLE_DEVICES": "void"}
    return [
        "start",
        *(f"--mount={path}:{path}:none:x-create=auto,rbind" for path in bound),
        *(f"--env={name}" for name in _passed(inside) if name not in devices),
        *(f"--env={name}={value}" for name, value in {**devices, **inside.own}.items()),
        "--",
        inside.image,
        *("sh", "-c", _ENTER, "sh", str(inside.work)),
    ]


def _podman_hpc(inside: Inside, bound: Sequence[str]) -> list[str]:
    """Return podman-hpc's arguments. It takes options for itself up to the first `--`, which podman does not see."""
    return [
        "run",
        *(["--gpu"] if inside.gpu else []),
        "--",
        "--rm",
        *("--network=host", "--ipc=host", "--entrypoint="),
        *(f"--volume={path}:{path}" for path in bound),
        f"--workdir={inside.work}",
        *(f"--env={name}" for name in _passed(inside)),
        *(f"--env={name}={value}" for name, value in inside.own.items()),
        inside.image,
    ]


def _passed(inside: Inside) -> list[str]:
    """Return the variables of the job that an engine is told to pass on. Their values, which may be secret, are not."""
    return sorted(
        name
        for name, value in inside.job.items()
        if name not in OF_THE_HOST | _OF_THE_ENGINE | inside.own.keys()
        and not name.startswith(_OF_THE_SESSION)
        and _IDENTIFIER.fullmatch(name)
        and "\n" not in value
    )


_ARGUMENTS: Mapping[Engine, Callable[[Inside, Sequence[str]], list[str]]] = {
    "charliecloud": _charliecloud,
    "apptainer": _apptainer,
    "enroot": _enroot,
    "podman-hpc": _podman_hpc,
}
