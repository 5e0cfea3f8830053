"""Slurm's commands, called so that they always come back: bounded in time, in a clean environment, never a shell."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lvjobs.cluster.protocol import ClusterError, ClusterSilent
from lvjobs.foreign import cleaned

# What a job or a user's settings would have Slurm's commands believe: a leaked SLURM_NTASKS breaks the child's srun, a
# leaked SLURM_ARRAY_JOB_ID gives submitit a wrong job id, SQUEUE_FORMAT and SACCT_FORMAT change what is to be parsed.
_MISLEADING = ("SLURM_", "SBATCH_", "SRUN_", "SUBMITIT_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "LVJOBS_")
_KEPT = frozenset({"SLURM_CONF", "SLURM_JWT"})


_NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "srun")


def absence() -> str:
    """Return why this host does not reach Slurm, in one sentence; empty where Slurm's programs are on PATH.

    A transfer node or a laptop may see the study's directory, and not the cluster: nothing follows from that.
    """
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if not missing:
        return ""
    names = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
    verb = "is" if len(missing) == 1 else "are"
    return f"Slurm is not reachable from {socket.gethostname()}: {names} {verb} not on PATH"


@dataclass(frozen=True)
class CommandResult:
    """What a command said. `returncode` is negative where a signal ended it."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """Its complaint in one line."""
        return one_line(self.stderr or self.stdout)


def misleading_variables(environ: Mapping[str, str]) -> list[str]:
    """The variables that Slurm's commands, and the jobs they start, must not see."""
    return sorted(name for name in environ if name.startswith(_MISLEADING) and name not in _KEPT)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what would mislead Slurm's commands; times are printed as seconds since the epoch."""
    misleading = set(misleading_variables(environ))
    kept = {name: value for name, value in environ.items() if name not in misleading}
    # Epoch seconds know no time zone and no daylight saving. An array's ids are printed whole, however many.
    return kept | {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}


def user_name() -> str:
    """Return the name by which accounting knows this user.

    Raises:
        ClusterError: the user id has none here, as in a container, or while the directory of users does not answer.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise ClusterError(
            f"user id {os.getuid()} has no name here; type the command where it has one, outside a container"
        ) from None


def one_line(text: str) -> str:
    """Slurm's own words without its prefixes, in one line."""
    lines = []
    for line in text.splitlines():
        words = line.strip()
        program, colon, rest = words.partition(": ")
        if colon and program.isalnum() and program.islower():
            words = rest
        words = words.removeprefix("error: ").removeprefix("fatal: ").strip()
        if words and words not in lines:
            lines.append(words)
    return "; ".join(lines)


def run(arguments: Sequence[str], timeout: float) -> CommandResult:
    """Run one of Slurm's commands and hand back what it said, whatever that is.

    Raises:
        ClusterSilent: no answer within `timeout` seconds.
        ClusterError: there is no such command here.
    """
    try:
        done = subprocess.run(
            list(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            env=clean_environment(os.environ),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ClusterSilent(f"{arguments[0]} did not answer within {timeout:.0f} s") from None
    except OSError as error:
        raise ClusterError(f"{arguments[0]} cannot be run ({error.strerror}): is this a Slurm login node?") from None
    return CommandResult(done.returncode, cleaned(done.stdout), cleaned(done.stderr))


_SILENT = ("unable to contact slurm controller", "timed out", "connection refused", "unexpected message received")


def answered(answer: CommandResult) -> CommandResult:
    """The answer, if it is one. Raises ClusterSilent for a scheduler that was not reached, else ClusterError."""
    if answer.returncode == 0:
        return answer
    said = answer.said or f"exit {answer.returncode}"
    silent = any(text in answer.stderr.lower() for text in _SILENT)
    raise (ClusterSilent if silent else ClusterError)(said)
