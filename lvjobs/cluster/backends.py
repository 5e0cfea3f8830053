"""The backends: what lvjobs has to know of a scheduler beyond its `Cluster`, and the templates of its profiles.

Register another scheduler in `BACKENDS`. Templates are lvjobs' own, those of other packages, and a user's own.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lvjobs
from lvjobs.cluster.protocol import Cluster
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


def _open_local(_profile: str, local_jobs: Path, _submissions: Path, slots: int) -> Cluster:
    from lvjobs.cluster.local import LocalCluster

    return LocalCluster(local_jobs, slots=slots)


def _open_slurm(profile: str, _local_jobs: Path, submissions: Path, _slots: int) -> Cluster:
    from lvjobs.cluster.profiles import load_profile
    from lvjobs.cluster.slurm import SlurmCluster

    return SlurmCluster(load_profile(profile), submissions)


@dataclass(frozen=True)
class Backend:
    """One way to run jobs. `name` is in the ledger, and is LVJOBS_BACKEND in a job.

    `is_site`: jobs are submitted to a site's scheduler by a profile's template, and each has nodes, GPUs and a time
    limit of its own. Otherwise they are processes of this machine, `local_slots` at once, and no template is used.

    `open(profile, local_jobs, submissions, slots)` returns the cluster that a profile describes, or raises UsageError
    where there is no such profile. The local backend keeps its jobs in `local_jobs` and runs `slots` at once. A site's
    backend keeps its scripts in `submissions`.

    `usual_profile` leaves everything to the site. `driver_profile` and `notice_profile` are the profiles of lvjobs' own
    small jobs: the driver, and a notice by mail. They are empty where there are no such jobs.
    """

    name: str
    open: Callable[[str, Path, Path, int], Cluster]
    is_site: bool
    usual_profile: str
    driver_profile: str = ""
    notice_profile: str = ""

    @property
    def watcher(self) -> str:
        """Return a profile that always exists, by which the backend's jobs can be observed and cancelled."""
        return self.driver_profile or self.usual_profile


LOCAL = Backend("local", _open_local, is_site=False, usual_profile="local")
SLURM = Backend("slurm", _open_slurm, True, "generic", DRIVER_PROFILE, NOTICE_PROFILE)
BACKENDS = {backend.name: backend for backend in (LOCAL, SLURM)}
"""All backends, by name."""

_ON_THIS_MACHINE = (LOCAL.usual_profile, "lab")


def backend_of(profile: str) -> Backend:
    """Return the backend of a profile: `LOCAL` for the profile of that name, `SLURM` for every other."""
    return LOCAL if profile == LOCAL.usual_profile else SLURM


def is_elsewhere(profile: str) -> bool:
    """Return whether jobs of this profile run on other machines than this one."""
    return profile not in _ON_THIS_MACHINE


def defaults_of(profile: str) -> Mapping[str, Any]:
    """Return what a job of this profile gets by default, by variable; empty where the profile no longer exists."""
    from lvjobs.cluster.profiles import load_profile

    try:
        return load_profile(profile).defaults() if backend_of(profile).is_site else {}
    except UsageError:
        return {}
