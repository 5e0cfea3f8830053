"""The start of a program in a container, from the worker's side: what the engine and the program inside see."""

import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs.errors import LvjobsError
from lvjobs.study.program.container import ContainerConfig, misread
from lvjobs.study.program.engines import Inside, in_container
from lvjobs.tasks.image import image_identity

_VARIABLES = "ch/environment"
"""The file in an image that has its variables, for ch-run."""


@dataclass(frozen=True)
class Place:
    """The place of a program in a container: its directory, further paths, and whether the job has GPUs."""

    work: Path
    mounts: Sequence[Path] = ()
    has_gpus: bool = False


def start_of(
    container: ContainerConfig,
    root: Path,
    place: Place,
    command: Sequence[str],
    job: Mapping[str, str],
    own: Mapping[str, str],
) -> tuple[list[str], dict[str, str]]:
    """Return the command line that starts `command` in a container, and the environment of the engine.

    Args:
        container: The container.
        root: The study's directory.
        place: Where the program works.
        command: The program and its arguments.
        job: The job's environment.
        own: Further variables of the program.

    Raises:
        LvjobsError: the engine would misread a path or a variable.
    """
    for problem in misread(container, root, [place.work, *place.mounts], own):
        raise LvjobsError(f"the container cannot be started: {problem}")
    image = container.path(root)
    inside = Inside(
        image=container.image if image is None else str(image),
        work=place.work,
        mounts=place.mounts,
        gpu=place.has_gpus if container.gpu is None else container.gpu,
        job={**job, "USER": job.get("USER") or _user()},  # ch-run ends without it, and some jobs lack it
        own=own,
        # nothing but ch-run looks into a SquashFS file, and ch-convert writes one with that file
        has_variables=image is not None and (image.is_file() or (image / _VARIABLES).is_file()),
    )
    return in_container(container, inside, command)


def image_of(container: ContainerConfig, root: Path) -> tuple[dict[str, Any], str]:
    """Return the identity of a container's image as it is now; or none, and why it is not known.

    `root` is the study's directory.
    """
    try:
        return image_identity(container, root), ""
    except OSError as error:
        return {}, f"the image of this attempt is not recorded: {container.image}: {error.strerror}"


def _user() -> str:
    """Return this user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
