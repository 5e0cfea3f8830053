"""The programs that a lab needs, which of them are missing, and how to install them."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from lvjobs import remedies
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
        by_hand = remedies.INSTALL_DEBIAN(packages=names)
        raise UsageError(f"--install works for root only; type: {by_hand}, then repeat this command without --install")
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
