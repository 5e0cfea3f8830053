"""The programs of a lab: how missing ones are installed, and the use of Slurm's commands against this lab alone."""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.lab.layout import Layout

_ADMIN_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/local/sbin")
_FOREIGN = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SINFO_", "SCANCEL_", "SACCT_")


class LabError(LvjobsError):
    """A failure of a lab; the text says where to look."""


def search_path(path: str | None = None) -> str:
    """Return PATH with the directories of daemons, which an ordinary user's PATH often lacks."""
    entries = (path if path is not None else os.environ.get("PATH", os.defpath)).split(os.pathsep)
    return os.pathsep.join(entries + [entry for entry in _ADMIN_DIRECTORIES if entry not in entries])


def find_program(name: str) -> str | None:
    """Return the path of program `name`, daemons' directories included; None if there is none."""
    return shutil.which(name, path=search_path())


def clean_environment(layout: Layout, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment for daemons and commands of this lab, without variables of a job or another cluster."""
    inherited = os.environ if base is None else base
    kept = {key: value for key, value in inherited.items() if not key.startswith(_FOREIGN)}
    return kept | {"SLURM_CONF": str(layout.slurm_conf), "PATH": search_path(inherited.get("PATH", os.defpath))}


def user_name() -> str:
    """Return the user's name as Slurm sees it: of the process, not of $USER. Raises UsageError if there is none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise UsageError(
            f"user id {os.getuid()} has no name in the password database, and Slurm needs one; run as a user that has "
            "one"
        ) from None


def run_tool(layout: Layout, *command: str, timeout: float = 120.0, cwd: Path | None = None) -> str:
    """Run a Slurm command against the lab.

    Returns:
        Its output.

    Raises:
        LabError: It failed, or did not answer within `timeout` seconds.
    """
    try:
        done = subprocess.run(
            command,
            env=clean_environment(layout),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed; type: {remedies.LAB_UP(*layout.options)}") from None
    except subprocess.TimeoutExpired:
        raise LabError(
            f"{command[0]} got no answer in {timeout:g} s; to see which daemons run, type: "
            f"{remedies.LAB_STATUS(*layout.options)}"
        ) from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise LabError(f"{' '.join(command[:3])} failed: {said}; see the logs in {layout.log}")
    return done.stdout


def wait_until(condition: Callable[[], bool], seconds: float, poll: float = 0.05) -> bool:
    """Poll `condition` every `poll` seconds until it holds; return False once `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while True:
        if condition():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll)


def succeeds(layout: Layout, *command: str, timeout: float = 5.0) -> bool:
    """Return whether a Slurm command works now."""
    try:
        run_tool(layout, *command, timeout=timeout)
    except LabError:
        return False
    return True


_PACKAGE_OF = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "scontrol": "slurm-client",
}
_PACKAGE_OF_ACCOUNTING = {
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
}
_PLUGIN_PACKAGE = "slurm-wlm-mysql-plugin"
_PLUGIN = "*/slurm-wlm/accounting_storage_mysql.so"
_POLICY = Path("/usr/sbin/policy-rc.d")


def missing_packages(*, accounting: bool) -> tuple[str, ...]:
    """Return the Debian and Ubuntu packages whose programs are not on this machine."""
    wanted = _PACKAGE_OF | (_PACKAGE_OF_ACCOUNTING if accounting else {})
    missing = {package: None for program, package in wanted.items() if not find_program(program)}
    # a Slurm that was not installed from a package has its plugins in a directory of its own
    packaged = find_program("slurmdbd") in (None, "/usr/sbin/slurmdbd")
    if accounting and packaged and not any(Path("/usr/lib").glob(_PLUGIN)):
        missing[_PLUGIN_PACKAGE] = None
    return tuple(missing)


def require_packages(*, accounting: bool, options: Sequence[str] = ()) -> None:
    """Refuse to continue if a program is missing. `options` are those of the `lvjobs lab up` that calls this.

    Raises:
        UsageError: Names what is missing and the command to type.
    """
    missing = missing_packages(accounting=accounting)
    if missing:
        raise UsageError(f"the lab needs {', '.join(missing)}, not installed here; {_advice(missing, options)}")


def _advice(missing: Sequence[str], options: Sequence[str]) -> str:
    if shutil.which("apt-get") is None:
        return "install Slurm, MUNGE and, for accounting, MariaDB with this system's own package manager"
    if os.geteuid() == 0:
        # Debian starts a package's daemons after apt-get by hand, which `--install` prevents
        return f"to install them and start the lab, type: {remedies.LAB_UP_INSTALL(*options)}"
    return f"type: {remedies.INSTALL_DEBIAN(packages=missing)}, then repeat this command"


def install_packages(packages: Iterable[str], options: Sequence[str] = ()) -> None:
    """Install `packages` without starting their daemons. `options`: see `require_packages`.

    Raises:
        UsageError: The user is not root.
        LabError: apt failed.
    """
    names = tuple(packages)
    if not names:
        return
    if os.geteuid() != 0:
        raise UsageError(
            f"--install works for root only; type: {remedies.INSTALL_DEBIAN(packages=names)}, then repeat this command "
            "without --install"
        )
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Debian asks this script before it starts a service; if the machine has its own, that one stays
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        _POLICY.chmod(0o755)
    try:
        install = ("apt-get", "install", "-y", "--no-install-recommends", *names)
        for command in (("apt-get", "update", "-qq"), install):
            done = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
            if done.returncode:
                said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
                raise LabError(
                    f"{' '.join(command[:2])} failed: {said}; correct that, then type: "
                    f"{remedies.LAB_UP_INSTALL(*options)}"
                )
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)
