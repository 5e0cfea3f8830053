"""Profiles: how one cluster is used. Each is a Jinja2 template of a batch script, with its defaults at the top.

Lines that are the same at every site are in shared parts, which a template includes (`slurm_templates/_*.sh.j2`).

Every interpolated value is quoted for the shell, and so for sbatch, whose `#SBATCH` lines understand the same quotes. A
value that no quoting can carry is refused by name: a newline, for example, ends a comment line.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta

from lvjobs.cluster.options import check_options
from lvjobs.cluster.protocol import JobRequest
from lvjobs.cluster.templates import SUFFIX, ProfileError, path_of, shipped, with_parts
from lvjobs.errors import UsageError
from lvjobs.files import path_text

_NUMBERS = {
    "time_limit_minutes": 1,
    "nodes": 1,
    "gpus": 0,
    "cpus": 1,
    "memory_mb": 0,
    "signal_lead_seconds": 1,
    "max_queued": 0,
}
"""Whole numbers, and the smallest value of each."""

_LISTS = frozenset({"exclude_nodes", "modules", "extra_sbatch"})
_OF_THE_REQUEST = frozenset(
    {"job_name", "token", "log_file", "array", "run_directories", "code_directory", "python", "environment"}
)
_LONGEST_NAME = 200
"""Slurm's database cuts a job's name at 255 bytes, and the name ends with the token."""

_LARGEST_SCRIPT = 3_500_000
"""Slurm's max_script_size is 4 MiB."""

_PROFILES = 64
"""The number of compiled templates that are kept: each profile of a study, its driver's, and edited versions."""

_WRONG = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError)
"""The errors of Jinja2 for a template that does not parse, and those that an expression in a template may raise."""

_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of characters: Unicode's categories Cc and Cs."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _quote(value: Any) -> str:
    """Return what `{{ value }}` becomes: a number as it is, a string quoted. Raises TypeError for anything else."""
    if isinstance(value, str):
        return shlex.quote(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, jinja2.Undefined):
        return str(value)  # StrictUndefined raises here
    raise TypeError(
        f"{{{{ {value!r} }}}}: only strings and numbers can be written into a script; write a list item by item"
    )


def _environment(*, strict: bool) -> jinja2.Environment:
    return jinja2.Environment(
        undefined=jinja2.StrictUndefined if strict else jinja2.ChainableUndefined,
        finalize=_quote,
        autoescape=False,  # noqa: S701 - that is for HTML; `finalize` quotes for the shell
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@lru_cache(_PROFILES)
def _template(source: str, *, strict: bool) -> jinja2.Template:
    """Return the compiled template from a cache: compiling takes longer than the rest of a small reconcile pass."""
    return _environment(strict=strict).from_string(source)


@lru_cache(_PROFILES)
def _variables(source: str) -> frozenset[str]:
    used = jinja2.meta.find_undeclared_variables(_environment(strict=True).parse(source))
    return frozenset(used - _OF_THE_REQUEST)


@lru_cache(_PROFILES)
def _whole(source: str) -> str:
    """Return the template with its shared parts."""
    _environment(strict=True).parse(source)  # without the parts: an error then has the line of the user's file
    return with_parts(source)


def load_profile(name_or_path: str | Path) -> "Profile":
    """Return the profile of that name, or the one in that file (a path has a `/`, or ends in `.j2`).

    Raises:
        ProfileError: the profile does not exist, cannot be read, or is no valid template.
    """
    path = path_of(str(name_or_path))
    try:
        profile = Profile(path.name.removesuffix(SUFFIX), path, _whole(path.read_text(encoding="utf-8")))
        _check_defaults(profile.defaults())
    except (OSError, UnicodeDecodeError) as error:
        problem = f"profile {path} cannot be read ({getattr(error, 'strerror', None) or error})"
        fix = "put the file back" if isinstance(error, FileNotFoundError) else "make the file readable"
        raise ProfileError(
            problem, fix, f"profile {path}: cannot be read ({error}); name another with --profile"
        ) from None
    except _WRONG as error:
        line = f" (line {error.lineno})" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        problem = f"profile {path}: {error}{line}"
        raise ProfileError(problem, "fix the file", f"profile {path}: {error}{line}; fix it there") from None
    return profile


def _check_defaults(defaults: Mapping[str, Any]) -> None:
    """Refuse a default of the wrong type when the profile is loaded, not in the middle of a reconcile pass.

    Raises:
        ValueError: a default that has to be a whole number is not.
    """
    for key, value in defaults.items():
        is_number = isinstance(value, int | float) or re.fullmatch(r"\d*", str(value or ""))
        if key in _NUMBERS and not is_number:
            raise ValueError(f"{key}: its default {value!r} is not a whole number: give one")


@dataclass(frozen=True)
class Profile:
    """The use of one cluster: a template and the file it came from."""

    name: str
    path: Path
    source: str

    def defaults(self) -> dict[str, Any]:
        """Return the defaults that the template's `{% set %}` lines give, by name."""
        template = _template(self.source, strict=False)
        sample = JobRequest("0" * 12, "x", [Path("/x")], Path("/x"), Path("/x"), "/x")
        module = template.make_module(_facts(sample))
        return {name: value for name, value in vars(module).items() if name in self.variables}

    @property
    def variables(self) -> frozenset[str]:
        """Return the names that a user may set: all that the template uses, except the facts of each submission."""
        return _variables(self.source)


def render(profile: Profile, request: JobRequest) -> str:
    """Return the exact batch script of this request. Pure.

    Raises:
        UsageError: a value that the profile does not know, that is of the wrong type, or that no script can carry; or
            too many runs for one script.
    """
    resources = {key: _checked(profile, key, value) for key, value in request.resources.items() if value is not None}
    facts = _facts(request)
    check_profile_options(profile, resources.get("extra_sbatch"))
    try:
        text = _template(profile.source, strict=True).render({**resources, **facts}).lstrip()
    except jinja2.UndefinedError as error:
        missing = re.search(r"'(\w+)' is undefined", str(error))
        key = missing[1] if missing else str(error)
        raise UsageError(
            f"{key}: profile {profile.name} has no default for it",
            "set it under [resources] in study.toml"
            + (f", or give --{key.replace('_', '-')}" if key in ("account", "partition", "qos") else ""),
        ) from None
    except _WRONG as error:
        raise UsageError(f"profile {profile.path}: {error}", "fix it there") from None
    if len(text.encode()) > _LARGEST_SCRIPT:
        raise UsageError(f"{len(request.run_directories)} runs are too many for one array: submit them in parts")
    return text


def check_profile_options(profile: Profile, options: Sequence[str] | None) -> None:
    """Refuse `options` of sbatch that lvjobs sets itself; None checks the profile's own default options.

    Raises:
        UsageError: see `lvjobs.cluster.options`.
    """
    source = "[resources]"
    if options is None:
        options, source = profile.defaults().get("extra_sbatch") or (), f"profile {profile.path}"
    is_driver = profile.path == shipped("driver")
    keys = ["partition", "account", "qos"] + ([] if is_driver else ["cpus", "exclude_nodes", "time_limit"])
    check_options(options, "[driver]" if is_driver else source, keys, driver=is_driver)


def _facts(request: JobRequest) -> dict[str, Any]:
    """Return the variables that each submission sets."""
    members = [path_text(path) for path in request.run_directories]
    if not members:
        raise UsageError("a submission needs at least one run")
    is_array = len(members) > 1
    logs = path_text(request.log_directory)
    if "\\" in logs:
        raise UsageError(
            f"log_directory: {logs!r} has a backslash, and Slurm would then not number the logs",
            "move the study elsewhere",
        )
    at_once = f"%{request.max_parallel}" if request.max_parallel else ""
    facts: dict[str, Any] = {
        "job_name": request.job_name,
        "token": request.token,
        # Slurm's pattern for a log that no other job writes; in it, a % of the directory is doubled
        "log_file": logs.replace("%", "%%") + ("/%A_%a.out" if is_array else "/%j.out"),
        "array": f"0-{len(members) - 1}{at_once}" if is_array else "",
        "run_directories": members,
        "code_directory": path_text(request.code_directory),
        "python": path_text(request.python),
        "environment": dict(request.environment),
    }
    for key, value in facts.items():
        _check_text(key, value)
    for name in request.environment:
        if not _VARIABLE.match(name):
            raise UsageError(f"environment: {name!r} is no name for a variable", "use letters, digits and _")
    if len(request.job_name.encode()) > _LONGEST_NAME:
        raise UsageError(
            f"name: {request.name!r} is too long for a job name", f"use at most {_LONGEST_NAME - 13} bytes"
        )
    return facts


def _checked(profile: Profile, key: str, value: Any) -> Any:
    if key not in profile.variables:
        known = ", ".join(sorted(profile.variables))
        raise UsageError(f"{key}: profile {profile.name} does not use it", f"it knows {known}: choose one")
    if key in _LISTS:
        value = [value] if isinstance(value, str) else list(value)
        if not all(isinstance(item, str) for item in value):
            raise UsageError(f"{key}: {value!r} is not a list of strings", 'write it like ["one", "two"]')
    elif key in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int) or value < _NUMBERS[key]):
        raise UsageError(f"{key}: {value!r} is not a whole number of at least {_NUMBERS[key]}: give one")
    _check_text(key, value)
    return value


def _check_text(key: str, value: Any) -> None:
    """Refuse control characters and broken encodings anywhere in `value`. Raises UsageError."""
    if isinstance(value, str):
        if bad := _UNWRITABLE.search(value):
            what = "a line break" if bad[0] in "\r\n" else f"the character {bad[0]!r}"
            raise UsageError(f"{key}: {value!r} contains {what}, which a batch script cannot contain", "remove it")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _check_text(f"{key}.{name}", item)
    elif isinstance(value, Sequence):
        for item in value:
            _check_text(key, item)
