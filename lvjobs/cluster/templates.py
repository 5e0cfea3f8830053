"""The places of batch script templates: lvjobs' own, those of other packages, and a user's own."""

import re
from contextlib import suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import lvjobs
from lvjobs.errors import UsageError
from lvjobs.files import expand_home

ENTRY_POINTS = "lvjobs.profiles"
SUFFIX = ".sh.j2"
DRIVER_PROFILE = "(driver)"
"""The name under which code requests the script of a study's driver."""
NOTICE_PROFILE = "(notice)"
"""The name under which code requests the script of a notice by mail."""
_OTHERS = {DRIVER_PROFILE: "driver", NOTICE_PROFILE: "notice"}
"""The templates, beside the profiles, that no user names."""

_INCLUDE = re.compile(r"""^[ \t]*\{%-?\s*include\s+["'](.*?)["']\s*-?%\}[ \t]*(?:\n|\Z)""", re.MULTILINE)


class ProfileError(UsageError):
    """A profile that cannot be used. `problem` names the profile and the reason, `fix` what makes it usable again."""

    def __init__(self, problem: str, fix: str, text: str) -> None:
        super().__init__(text)
        self.problem, self.fix = problem, fix


def names_file(name_or_path: str) -> bool:
    """Return whether a profile is given by its path: it has a `/`, or ends in `.j2`."""
    return "/" in name_or_path or name_or_path.endswith(".j2")


def located_profile(name_or_path: str, directory: Path) -> str:
    """Return a profile's name as it is, and a file's path (relative to `directory`) as an absolute path."""
    if not names_file(name_or_path):
        return name_or_path
    return str((directory / Path(name_or_path).expanduser()).absolute())


def _directory() -> Path:
    """Return the directory of the profiles: in the package when it was installed from a wheel, else beside it."""
    package = Path(lvjobs.__file__).parent
    inside = package / "slurm_templates"
    return inside if inside.is_dir() else package.parent / "slurm_templates"


def shipped(name: str) -> Path:
    """Return the file of the template that lvjobs ships under that name."""
    return _directory() / f"{name}{SUFFIX}"


def available_profiles() -> list[str]:
    """Return the names of the profiles that lvjobs ships."""
    names = (path.name.removesuffix(SUFFIX) for path in _directory().glob(f"*{SUFFIX}"))
    return sorted(name for name in names if name not in _OTHERS.values() and not name.startswith("_"))


def with_parts(source: str) -> str:
    """Return a template with the text of each shared part (`_worker.sh.j2`) in place of its `{% include %}` line.

    The parts become text before Jinja2 reads the template, so a study's copy of a profile is complete: another release
    of lvjobs, whose parts may differ, renders it as it was submitted.

    Raises:
        ValueError: lvjobs has no part of that name.
    """
    parts = {path.name: path for path in _directory().glob(f"_*{SUFFIX}")}
    for name in _INCLUDE.findall(source):
        if name not in parts:
            raise ValueError(f"{name!r} cannot be included; the shared parts are {', '.join(sorted(parts))}")
    return _INCLUDE.sub(lambda match: parts[match[1]].read_text(encoding="utf-8"), source)


def installed_profiles() -> dict[str, Path]:
    """Return the profiles of other packages, by name: entry points of the group `lvjobs.profiles`.

    An entry point's value is a package; its directory holds `<name>.sh.j2`. The package is not imported. An entry point
    whose package no longer exists provides no profile.
    """
    found = {}
    for point in entry_points(group=ENTRY_POINTS):
        spec = None
        with suppress(ImportError, ValueError):  # find_spec raises where a parent package is gone
            spec = find_spec(point.module)
        if spec is not None and spec.origin is not None:
            found[point.name] = Path(spec.origin).parent / f"{point.name}{SUFFIX}"
    return found


def path_of(name_or_path: str) -> Path:
    """Return the file of the profile of that name; a path (see `names_file`) is returned with `~` expanded.

    Raises:
        ProfileError: there is no profile of that name.
    """
    if names_file(name_or_path):
        return expand_home(name_or_path)
    if name_or_path in _OTHERS or name_or_path in available_profiles():
        return shipped(_OTHERS.get(name_or_path, name_or_path))
    installed = installed_profiles()
    if name_or_path in installed:
        return installed[name_or_path]
    known = ", ".join(["local", *available_profiles(), *sorted(installed)])
    raise ProfileError(
        f"profile {name_or_path!r} is not installed",
        "install the package that brings it",
        f"profile: there is no {name_or_path!r}; choose one of {known}, or name a file (./mine{SUFFIX})",
    )
