"""Where the templates of batch scripts lie: those that lvjobs ships, those of other packages, and a user's own."""

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import lvjobs
from lvjobs.errors import UsageError
from lvjobs.files import expand_home

ENTRY_POINTS = "lvjobs.profiles"
SUFFIX = ".sh.j2"
_OTHERS = ("driver", "notice")
"""The templates beside the profiles that are none: the script of a study's driver, and that of a notice by mail."""


def _directory() -> Path:
    """Where the profiles lie: in the package when it was installed from a wheel, else beside it."""
    package = Path(lvjobs.__file__).parent
    inside = package / "slurm_templates"
    return inside if inside.is_dir() else package.parent / "slurm_templates"


def shipped(name: str) -> Path:
    """The file of the template that lvjobs ships by that name."""
    return _directory() / f"{name}{SUFFIX}"


def available_profiles() -> list[str]:
    """The names of the profiles that lvjobs ships."""
    names = (path.name.removesuffix(SUFFIX) for path in _directory().glob(f"*{SUFFIX}"))
    return sorted(name for name in names if name not in _OTHERS)


def installed_profiles() -> dict[str, Path]:
    """The profiles that other packages bring, by name: entry points of the group `lvjobs.profiles`.

    An entry point's value is a package; in its directory lies `<name>.sh.j2`. The package is not imported.
    """
    found = {}
    for point in entry_points(group=ENTRY_POINTS):
        spec = find_spec(point.module)
        if spec is not None and spec.origin is not None:
            found[point.name] = Path(spec.origin).parent / f"{point.name}{SUFFIX}"
    return found


def path_of(name_or_path: str) -> Path:
    """The file of the profile of that name; of a path (it has a `/`, or ends in `.j2`) just that.

    Raises:
        UsageError: there is no profile of that name.
    """
    if "/" in name_or_path or name_or_path.endswith(".j2"):
        return expand_home(name_or_path)
    if name_or_path in available_profiles():
        return shipped(name_or_path)
    installed = installed_profiles()
    if name_or_path in installed:
        return installed[name_or_path]
    known = ", ".join(["local", *available_profiles(), *sorted(installed)])
    raise UsageError(f"profile: there is no {name_or_path!r}; choose one of {known}, or name a file (./mine{SUFFIX})")
