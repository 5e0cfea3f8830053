"""Slurm's commands, run with a time limit, in a clean environment and without a shell."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from subprocess import CompletedProcess

from lvjobs.cluster.protocol import ClusterError, ClusterSilent
from lvjobs.foreign import cleaned

# Variables of a job or of a user's settings that mislead Slurm's commands: a leaked SLURM_NTASKS breaks the child's
# srun, a leaked SLURM_ARRAY_JOB_ID gives submitit a wrong job id, SQUEUE_FORMAT and SACCT_FORMAT change the text that
# lvjobs parses.
_MISLEADING = ("SLURM_", "SBATCH_", "SRUN_", "SUBMITIT_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "LVJOBS_")
_KEPT = frozenset({"SLURM_CONF", "SLURM_JWT"})


_PREFIXES = re.compile(r"\A(?:[0-9]*[a-z][a-z0-9]*: )?(?:error: )?(?:fatal: )?")
_NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "srun")


def absence() -> str:
    """Return why this host does not reach Slurm, in one sentence; empty where Slurm's programs are on PATH.

    A transfer node or a laptop may see the study's directory but not the cluster. That proves nothing about any job.
    """
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if not missing:
        return ""
    names = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
    verb = "is" if len(missing) == 1 else "are"
    return f"Slurm is not reachable from {socket.gethostname()}: {names} {verb} not on PATH"


def words_of(answer: "CompletedProcess[str]") -> str:
    """Return the command's error text, or else its output, in one line."""
    return one_line(answer.stderr or answer.stdout)


def plain_words(said: str) -> str:
    """Return what a command of Slurm printed, or a sentence where that is the long trace of a search for a cluster."""
    if _NO_CLUSTER not in said.lower():
        return said
    return "no Slurm cluster is configured on this machine (Could not establish a configuration source)"


def misleading_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the variables that Slurm's commands, and the jobs they start, must not see."""
    return sorted(name for name in environ if name.startswith(_MISLEADING) and name not in _KEPT)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without the variables that mislead Slurm's commands.

    In it, the commands print times as seconds since the epoch.
    """
    misleading = set(misleading_variables(environ))
    kept = {name: value for name, value in environ.items() if name not in misleading}
    # Epoch seconds do not depend on the time zone or on daylight saving. SLURM_BITSTR_LEN=0 prints all ids of an array.
    return kept | {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}


def user_name() -> str:
    """Return the name by which accounting knows this user.

    Raises:
        ClusterError: the user id has no name here, as in a container, or while the user directory does not answer.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise ClusterError(f"user id {os.getuid()} has no user name here; run lvjobs outside the container") from None


def one_line(text: str) -> str:
    """Return Slurm's own words in one line, without their prefixes and without repeated lines."""
    lines = dict.fromkeys(_PREFIXES.sub("", line.strip()).strip() for line in text.splitlines())
    return "; ".join(filter(None, lines))


class _Patience(threading.local):
    """The seconds for which this thread may still wait for Slurm; None: as long as each command's timeout."""

    left: float | None = None


_patience = _Patience()


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Wait for Slurm's commands for at most `seconds` in the block, all together. Submissions are not bounded."""
    before, _patience.left = _patience.left, seconds
    try:
        yield
    finally:
        _patience.left = before


def run(arguments: Sequence[str], timeout: float) -> "CompletedProcess[str]":
    """Run one of Slurm's commands and return its result, cleaned, also when the command failed.

    Raises:
        ClusterSilent: no answer within `timeout` seconds, or within what `patience` leaves.
        ClusterError: the command cannot be run here.
    """
    if _patience.left is None:
        return _run(arguments, timeout)
    if _patience.left <= 0:
        raise ClusterSilent(f"{arguments[0]} was not asked, because Slurm did not answer")
    begun = time.monotonic()
    try:
        return _run(arguments, min(timeout, _patience.left))
    finally:
        _patience.left -= time.monotonic() - begun


def _run(arguments: Sequence[str], timeout: float) -> "CompletedProcess[str]":
    """Run a command; see `run`."""
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
        raise ClusterSilent(f"{arguments[0]} did not answer within {timeout:.2g} s") from None
    except OSError as error:
        raise ClusterError(f"{arguments[0]} cannot be run ({error.strerror}): is this a Slurm login node?") from None
    return CompletedProcess(done.args, done.returncode, cleaned(done.stdout), cleaned(done.stderr))


_NO_CLUSTER = "could not establish a configuration source"
_SILENT = ("unable to contact slurm controller", "timed out", "connection refused", "unexpected message received")


def answered(answer: "CompletedProcess[str]") -> "CompletedProcess[str]":
    """Return the answer of a command that succeeded.

    Raises:
        ClusterSilent: the command did not reach the scheduler.
        ClusterError: the command failed for another reason.
    """
    if answer.returncode == 0:
        return answer
    said = plain_words(words_of(answer)) or f"exit {answer.returncode}"
    silent = any(text in answer.stderr.lower() for text in _SILENT)
    raise (ClusterSilent if silent else ClusterError)(said)
