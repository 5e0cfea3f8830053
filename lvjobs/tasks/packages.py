"""The packages of a program's environment, as its own Python lists them; and the lists that a study keeps."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lvjobs.files import create_exclusive, make_directory
from lvjobs.foreign import cleaned
from lvjobs.records.software import digest_of, packages_text, parse_packages
from lvjobs.tasks import installed

_SECONDS = 60.0
"""The time limit of one list: an environment may be on a slow disk."""

_PYTHON = re.compile(r"python[\d.]*\Z")
_HEAD = 1024
"""Bytes of a script in which its interpreter is named."""

_LONG_INTERPRETER = re.compile(rb"""^'''exec' "?([^"\n]+?)"? "\$0\"""", re.MULTILINE)
"""The line by which pip names an interpreter whose path is too long for the first line of a script."""


class Unlisted(Exception):
    """Packages that could not be listed. The text is the reason, in one line."""


def list_packages(python: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of the packages that a Python can import, by name; its own under `python`.

    Raises:
        Unlisted: it cannot be executed, failed, or took too long.
    """
    source = Path(installed.__file__).read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [str(python), "-c", source],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unlisted(f"{python} did not list its packages within {_SECONDS:g} s") from None
    except OSError as error:
        raise Unlisted(f"{python} cannot be executed ({error.strerror})") from None
    found = parse_packages(cleaned(done.stdout))
    if done.returncode != 0 or not found:
        words = cleaned(done.stderr).strip().splitlines()
        raise Unlisted(f"{python} cannot list its packages: {words[-1] if words else f'exit code {done.returncode}'}")
    return found


def python_of(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> Path | None:
    """Return the Python that a command runs in this environment; None where none can be told.

    This is the first word that is a Python by its name, else the interpreter of the program's script, such as torchrun,
    else that of the activated environment.

    Args:
        command: The program and its arguments.
        environment: Its environment variables.
        directory: Its working directory.
    """
    path = environment.get("PATH", os.defpath)

    def located(word: str) -> Path | None:
        found = shutil.which(str(directory / word) if os.sep in word else word, path=path)
        return Path(found) if found else None

    named = next((word for word in command if _PYTHON.match(Path(word).name)), None)
    if named is not None:
        return located(named)
    program = located(command[0])
    interpreter = _interpreter_of(program) if program is not None else ""
    if interpreter:
        return located(interpreter)
    prefix = environment.get("VIRTUAL_ENV") or environment.get("CONDA_PREFIX")
    return located(f"{prefix}/bin/python") if prefix else None


def _interpreter_of(program: Path) -> str:
    """Return the Python that a script names as its interpreter; empty for another file."""
    with suppress(OSError), program.open("rb") as stream:
        head = stream.read(_HEAD)
        if head.startswith(b"#!"):
            words = os.fsdecode(head[2:].splitlines()[0]).split()
            words = [word for word in words if Path(word).name != "env" and not word.startswith("-")]
            if words and _PYTHON.match(Path(words[0]).name):
                return words[0]
            if found := _LONG_INTERPRETER.search(head):
                return os.fsdecode(found[1])
    return ""


def keep_packages(store: Path, packages: Mapping[str, str]) -> str:
    """Keep a list of packages in `store`, and return its hash. Raises OSError where it cannot be written."""
    digest = digest_of(packages)
    make_directory(store)
    path = store / f"{digest}.txt"
    if not path.exists():
        create_exclusive(path, packages_text(packages))
    return digest


def read_packages(store: Path, digest: str) -> dict[str, str] | None:
    """Return a list of packages that a study keeps; None where it no longer exists, or cannot be read."""
    try:
        return parse_packages((store / f"{digest}.txt").read_text(encoding="utf-8"))
    except OSError:
        return None
