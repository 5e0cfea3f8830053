"""A container for a program: the table `container` of [train], and what its engine would misread. Pure.

    [train]
    container = { image = "solver.sif", engine = "apptainer", bind = ["/rds"] }

lvjobs itself stays outside of the container (`engines`). A path that is bound has the same name inside and outside.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lvjobs.files import expand_home
from lvjobs.study.fields import Texts
from lvjobs.study.tables import SettingsTable

Engine: TypeAlias = Literal["charliecloud", "apptainer", "enroot", "podman-hpc"]

EXECUTABLES: dict[Engine, str] = {
    "charliecloud": "ch-run",
    "apptainer": "apptainer",
    "enroot": "enroot",
    "podman-hpc": "podman-hpc",
}
"""The program of each engine that starts a container."""

KINDS: dict[Engine, str] = {
    "charliecloud": "an image directory or a SquashFS file (ch-convert makes both)",
    "apptainer": "a file (.sif), a sandbox directory, or a reference such as docker://python:3.12",
    "enroot": "a SquashFS file (.sqsh; enroot import makes one)",
    "podman-hpc": "the name of an image, such as docker.io/library/python:3.12",
}
"""The images that each engine takes."""

DIRECTORIES: frozenset[Engine] = frozenset({"charliecloud", "apptainer"})
"""Engines that run a directory as an image."""

_REFERENCE = re.compile(r"(docker|oras|library|shub)://[A-Za-z0-9][\w.:/@+-]*")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?")
_PYXIS = (
    "pyxis starts a program by srun, not below lvjobs, so lvjobs could not see its open files or end it; "
    'write engine = "enroot", which runs the same images'
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEPARATORS = re.compile(r"[:,\"\\\x00-\x1f\x7f]")
"""Characters at which some engine ends a path of its options."""
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_RENAME = "use letters, digits and ./@%+=-_ in its name"
_PLAIN = re.compile(r"[\w./@%+=-]+")
"""Paths that enroot takes. Its mounts are lines of fields, and it puts the image's path into a shell's text."""


class ContainerConfig(SettingsTable):
    """The container in which a program runs. lvjobs stays outside."""

    image: str = Field(min_length=1, description="its image: a path, or what the engine itself pulls")
    engine: Engine = Field(description="the engine that starts it")
    bind: Texts = Field(default_factory=list, description="absolute paths that it sees under the same name")
    gpu: bool | None = Field(default=None, description="whether it sees GPUs; default: if the job has any")

    @field_validator("engine", mode="before")
    @classmethod
    def _is_below_lvjobs(cls, engine: Any) -> Any:
        if engine == "pyxis":
            raise ValueError(_PYXIS)
        if engine not in get_args(Engine):
            raise ValueError(f"{engine!r} is not an engine; write one of {', '.join(get_args(Engine))}")
        return engine

    @field_validator("bind")
    @classmethod
    def _can_be_bound(cls, paths: list[str], info: ValidationInfo) -> list[str]:
        for path in paths:
            if problem := mount_problem(path, info.data.get("engine")):
                raise ValueError(problem)
        return paths

    @model_validator(mode="after")
    def _is_of_the_engine(self) -> "ContainerConfig":
        if _CONTROL.search(self.image):
            raise ValueError(f"image {self.image!r} has a control character; rename the image")
        if not self.is_reference and (self.engine == "podman-hpc" or "://" in self.image):
            raise ValueError(f"image {self.image!r} is not an image for {self.engine}; name {KINDS[self.engine]}")
        return self

    @property
    def is_reference(self) -> bool:
        """Return whether the image is one that the engine finds by its name, and not a path."""
        pattern = {"apptainer": _REFERENCE, "podman-hpc": _NAME}.get(self.engine)
        return bool(pattern and pattern.fullmatch(self.image))

    def path(self, root: Path) -> Path | None:
        """Return the image's path; None if it is a reference. `root` is the study's directory."""
        return None if self.is_reference else (root / expand_home(self.image)).absolute()


def misread(
    container: ContainerConfig, root: Path, paths: Iterable[Path], variables: Mapping[str, str]
) -> Iterator[str]:
    """Yield what the engine would misread: the image's path, paths that lvjobs binds, or variables that it passes."""
    image = container.path(root)
    if image is not None and container.engine == "enroot" and not _PLAIN.fullmatch(str(image)):
        yield f"enroot would misread {str(image)!r}; {_RENAME}"
    for path in paths:
        if problem := mount_problem(str(path), container.engine):
            yield problem
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            yield f"no variable in a container may be called {name!r}; use letters, digits and _"
        elif container.engine == "enroot" and "\n" in value:
            yield f"enroot would misread the variable {name}, which has several lines; write it on one line"


def mount_problem(path: str, engine: Engine | None) -> str:
    """Return why a path cannot be bound into a container; empty if it can."""
    parts = PurePosixPath(path).parts
    if not PurePosixPath(path).is_absolute() or ".." in parts:
        return f"{path!r} is not an absolute path without '..'; write the whole path, such as /rds"
    if len(parts) == 1:
        return f"{path!r} would hide the image; bind the directories that the program needs"
    if _SEPARATORS.search(path) or path != path.strip():
        return f"{path!r} cannot be bound, because engines would end it early; {_RENAME}"
    if engine == "enroot" and not _PLAIN.fullmatch(path):
        return f"enroot would misread {path!r}; {_RENAME}"
    return ""
