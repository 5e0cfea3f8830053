"""The activation of a program's environment: `activate` of [resources], which is a shell line, a directory, or conda's.

activate = "source /rds/venv/bin/activate"     any shell line
activate = "/rds/venv"                         the directory of a virtual environment; else beside study.toml
activate = "conda:name"                        an environment of conda, by its name or its directory
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from lvjobs.errors import UsageError
from lvjobs.files import expand_home

_CONDA = "conda:"
_SOURCED = re.compile(r"(?:source|\.)\s+([\w./~+-]+)/bin/activate")
"""A shell line that activates a virtual environment, and does nothing else."""


@dataclass(frozen=True)
class Activation:
    """The activation of an environment: a `line` for bash, and the directory, if the text names it."""

    line: str
    directory: Path | None = None

    @property
    def python(self) -> Path | None:
        """Return the environment's own Python; None where there is none, or its directory is not known."""
        path = self.directory / "bin" / "python" if self.directory is not None else None
        return path if path is not None and path.exists() else None


def read_activation(text: str, root: Path) -> Activation:
    """Return what `activate` of [resources] means in the study in `root`."""
    if text.startswith(_CONDA):
        name = text.removeprefix(_CONDA)
        place = root / expand_home(name) if "/" in name else None
        line = f'eval "$(conda shell.bash hook)" && conda activate {shlex.quote(str(place or name))}'
        return Activation(line, place)
    sourced = _SOURCED.fullmatch(text)
    if len(text.split()) > 1 and sourced is None:
        return Activation(text)
    directory = root / expand_home(sourced[1] if sourced else text)
    return Activation(f"source {shlex.quote(str(directory / 'bin' / 'activate'))}", directory)


def placed_activation(text: str, root: Path) -> str:
    """Return `activate` of the study in `root` for a study in another directory: paths are absolute."""
    found = read_activation(text, root)
    return found.line if found.directory is not None else f"cd {shlex.quote(str(root))} && {found.line}"


def check_activation(text: str, root: Path) -> None:
    """Refuse an environment that does not exist here. Of another shell line nothing can be known before it runs.

    Raises:
        UsageError: its directory is not that of an environment.
    """
    found = read_activation(text, root)
    if found.directory is None:
        return
    is_conda = text.startswith(_CONDA)
    mark = found.directory / ("conda-meta" if is_conda else "bin/activate")
    if not mark.exists():
        kind = "environment of conda" if is_conda else "virtual environment"
        raise UsageError(
            f"activate: {found.directory} is no {kind}, for it has no {mark.relative_to(found.directory)}; nothing was "
            "submitted: create it, or correct activate under [resources]"
        )
