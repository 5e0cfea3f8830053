"""The packages that a Python can import, by the names of their directories: no file of theirs is opened.

Each environment's own Python executes this text (`lvjobs.tasks.packages`). So it uses nothing of lvjobs, and nothing
that Python 3.7 does not have.
"""

from __future__ import annotations

import os
import platform
import re
import sys

_METADATA = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(-py[\d.]+)?\.(dist|egg)-info\Z")
_CONDA = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-[^-]+\.json\Z")


def packages(paths: list[str], conda: str) -> dict[str, str]:
    """Return the versions of packages by name, for these entries of sys.path and an environment of conda, or ""."""
    found: dict[str, str] = {}
    places = [(path, _METADATA) for path in paths if path]  # the first on the path is the one that is imported
    for directory, expression in [*places, *([(f"{conda}/conda-meta", _CONDA)] if conda else [])]:
        for match in filter(None, map(expression.match, _names(directory))):
            found.setdefault(re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"])
    return found


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208 - an entry of sys.path may be any text
    except OSError:  # an entry of sys.path need not exist, and may be an archive
        return []


def installed() -> dict[str, str]:
    """Return what this Python can import, and its own version under `python`."""
    return {**packages(sys.path, os.environ.get("CONDA_PREFIX", "")), "python": platform.python_version()}


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}=={version}\n" for name, version in sorted(installed().items())))
