"""The origin of a program's code at its submission, in each copy of the code; and what journals say of software.

The origin is the commit, the hashes of lock files, and the list of packages where it is known before a job runs.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.records.journal import Entry, parse_entries
from lvjobs.study.layout import StudyLayout
from lvjobs.study.program.command import CommandConfig
from lvjobs.study.run import RunConfig, read_params
from lvjobs.tasks.activation import check_activation, read_activation
from lvjobs.tasks.code_copies import ORIGIN, ProgramFiles
from lvjobs.tasks.image import image_identity, image_problem
from lvjobs.tasks.packages import Unlisted, keep_packages, list_packages
from lvjobs.tasks.working_copy import provenance

_LOCKS = ("uv.lock", "poetry.lock", "pixi.lock", "conda-lock.yml", "requirements*.txt")
"""Files that say which packages a program is meant to have."""

_FIRST_LINES = 16
"""Claim, start and software of an attempt, with lines that may stand between them: a signal, damaged checkpoints."""


def origin_of(
    config: RunConfig | Mapping[str, Any], program: ProgramFiles | None, resources: Mapping[str, Any], root: Path
) -> dict[str, Any]:
    """Return where the code of a run comes from; nothing for a run that is no program.

    Args:
        config: The run's configuration.
        program: The program's files (`lvjobs.tasks.registry.program_files`).
        resources: What its job requests, with `activate`.
        root: The study's directory.

    Returns:
        `commit` and `dirty` where git knows them; `locks`: hashes of lock files by name; `packages`: the hash of the
        list of packages, where the environment is known before a job activates it; `image`: that of its container.

    Raises:
        UsageError: the environment, or the image, does not exist.
    """
    if program is None:
        return {}
    found = provenance(program.directory, program.linked)
    if locks := dict(_locks(program.directory)):
        found["locks"] = locks
    params = config.params if isinstance(config, RunConfig) else config.get("params", {})
    if container := read_params(CommandConfig, params).container:
        if problem := image_problem(container, root):
            raise UsageError(f"container: {problem}")
        found["image"] = image_identity(container, root)
    packages = known_packages(config, resources, root)
    if packages is not None:
        found["packages"] = keep_packages(StudyLayout(root).packages, packages)
    return found


def known_packages(
    config: RunConfig | Mapping[str, Any], resources: Mapping[str, Any], root: Path
) -> dict[str, str] | None:
    """Return the packages of a program's environment as they are now; None where only a job can show.

    Only a job knows an environment that a shell line or modules make, or that is found on its PATH.

    Raises:
        UsageError: the environment does not exist.
    """
    params = config.params if isinstance(config, RunConfig) else config.get("params", {})
    activate = str(resources.get("activate") or "")
    if activate:
        check_activation(activate, root)
    declared = read_params(CommandConfig, params)
    if declared.container is not None:
        return None
    command = declared.command
    python = read_activation(activate, root).python if activate else None
    if os.sep in command[0]:  # it is executed whatever is activated
        python = Path(command[0]) if Path(command[0]).is_absolute() and "python" in Path(command[0]).name else None
    if python is None or resources.get("modules"):
        return None
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if activate.startswith("conda:"):
        environment["CONDA_PREFIX"] = str(python.parents[1])
    else:
        environment.pop("CONDA_PREFIX", None)
    try:
        return list_packages(python, environment)
    except Unlisted:  # the attempt says why
        return None


def read_origin(copy: Path) -> dict[str, Any]:
    """Return where the program of a copy comes from; nothing where the copy does not say so, or no longer exists."""
    with suppress(FileNotFoundError):
        return dict(json.loads((copy / ORIGIN).read_text(encoding="utf-8")))
    return {}


def first_lines(journal: Path) -> list[Entry]:
    """Return the first lines of a journal, among which are those on what its attempt ran with; none without a file."""
    with suppress(FileNotFoundError), journal.open("rb") as stream:
        return parse_entries(b"".join(islice(stream, _FIRST_LINES)))[0]
    return []


def _locks(directory: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(path for pattern in _LOCKS for path in directory.glob(pattern)):
        with suppress(OSError):  # it was removed, or is not readable, and so not copied either
            yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
