"""The versions of Python, lvjobs and the packages that a job loads, read from their metadata without an import."""

import platform
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import lvjobs
from lvjobs import remedies
from lvjobs.doctor.interface import LAB, Asked, Diagnosis, error, fine, note

SUBJECT = "versions"

_NAMED = ("torch", "transformers", "peft", "bitsandbytes")
"""The packages that every bug report should name."""

_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 10), (3, 13)


def check_versions(asked: Asked) -> Iterator[Diagnosis]:
    """Yield whether each package is installed, and new enough for lvjobs's own requirements."""
    python = sys.version_info[:2]
    if not _OLDEST_PYTHON <= python <= _NEWEST_PYTHON:
        yield error(
            SUBJECT,
            f"Python {platform.python_version()}, and lvjobs supports 3.10 to 3.13",
            remedy="create a virtual environment with another Python, and install lvjobs there",
        )
    found = [name for name in _NAMED if _version(name)]
    packages = ", ".join(f"{name} {_version(name)}" for name in found)
    what = f"Python {platform.python_version()}, lvjobs {lvjobs.__version__}, {packages}"
    try:
        required = metadata.requires("lvjobs") or []
    except metadata.PackageNotFoundError:
        yield note(
            SUBJECT,
            what,
            "lvjobs is not installed but runs from a directory, so its requirements were not checked",
            _install_itself(),
        )
        return
    wrong = [*unmet(required)]
    if wrong:
        install = remedies.INSTALL_VERSIONS(python=sys.executable, packages=[each for each, _ in wrong])
        said = ", ".join(f"{each.name} {version or 'is not installed'}" for each, version in wrong)
        yield error(
            SUBJECT,
            f"{said}: too old, or missing",
            "a job that needs one of them fails",
            f"type: {install}",
        )
    yield fine(SUBJECT, what)
    yield from _without_cuda(asked)


def _install_itself() -> str:
    directory = Path(lvjobs.__file__).parent.parent
    if not (directory / "pyproject.toml").exists():
        return "install it with pip (see its documentation)"
    return f"type: {remedies.INSTALL_VERSIONS(python=sys.executable, packages=['-e', directory])}"


def unmet(required: Sequence[str]) -> Iterator[tuple[Requirement, str]]:
    """Yield the requirements (no extras) that are not met, each with the installed version, empty if there is none."""
    for text in required:
        each = Requirement(text)
        if each.marker is not None and not each.marker.evaluate({"extra": ""}):
            continue
        version = _version(each.name)
        if not version or not each.specifier.contains(version, prereleases=True):
            # pip does not accept `torch>=2.4; python_version < "3.14"` as an argument
            yield Requirement(f"{each.name}{each.specifier}"), version


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _without_cuda(asked: Asked) -> Iterator[Diagnosis]:
    """Yield an error if jobs request GPUs and torch is a build for CPUs only (its version ends in +cpu)."""
    gpus = int(asked.variables.get("gpus") or 0)
    version = _version("torch")
    if gpus and asked.profile != LAB and version.endswith("+cpu"):
        yield error(
            SUBJECT,
            f"torch {version} is a build without CUDA, and jobs request gpus = {gpus}",
            "a run would be charged for a GPU and train on CPUs",
            "install a build with CUDA (pytorch.org/get-started), or set gpus = 0 under [resources]",
        )
