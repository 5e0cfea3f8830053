"""Which programs a lab needs, which of them are missing, and how to get them."""

import os
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path

from lvjobs.errors import UsageError
from lvjobs.lab.tools import LabError, find_program

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
    """The Debian and Ubuntu packages whose programs are not on this machine."""
    wanted = _PACKAGE_OF | (_PACKAGE_OF_ACCOUNTING if accounting else {})
    missing = {package: None for program, package in wanted.items() if not find_program(program)}
    # a Slurm that was not installed from a package brings its plugins along, in a place of its own
    packaged = find_program("slurmdbd") in (None, "/usr/sbin/slurmdbd")
    if accounting and packaged and not any(Path("/usr/lib").glob(_PLUGIN)):
        missing[_PLUGIN_PACKAGE] = None
    return tuple(missing)


def install_command(packages: Iterable[str]) -> tuple[str, ...]:
    """The command that installs `packages` and nothing that they merely recommend."""
    return ("apt-get", "install", "-y", "--no-install-recommends", *packages)


def require_packages(*, accounting: bool) -> None:
    """Go on only if everything is there.

    Raises:
        UsageError: Names what is missing and the command to type.
    """
    missing = missing_packages(accounting=accounting)
    if missing:
        prefix = "" if os.geteuid() == 0 else "sudo "
        raise UsageError(
            f"the lab needs {', '.join(missing)}, not installed here: "
            f"{prefix}{shlex.join(install_command(missing))}   (or, as root, lvjobs lab up --install)"
        )


def install_packages(packages: Iterable[str]) -> None:
    """Install `packages` without starting the daemons that they bring.

    Raises:
        UsageError: Not root.
        LabError: apt failed.
    """
    names = tuple(packages)
    if not names:
        return
    if os.geteuid() != 0:
        raise UsageError(f"installing needs root: sudo {shlex.join(install_command(names))}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Debian asks this script before it starts a service; where the machine has one of its own, that one stays
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        _POLICY.chmod(0o755)
    try:
        for command in (("apt-get", "update", "-qq"), install_command(names)):
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
                raise LabError(f"{shlex.join(command)} failed ({said}); run it by hand to see why")
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)
