"""Submission through submitit's SlurmExecutor, without its pickles, signal handlers and throttle.

submitit writes the script into the folder, runs sbatch, reads the job id and files the script under it. The script's
text and the command are lvjobs' own: submitit would wait for sbatch without a limit, and would pass on the caller's
SLURM_* variables. This module is imported only when something is submitted: submitit takes 0.1 s to load.
"""

import contextlib
import errno
import io
import os
import subprocess
from pathlib import Path

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from lvjobs.cluster.commands import absence, misleading_variables, one_line, plain_words
from lvjobs.cluster.protocol import SubmitDeferred, SubmitRefused, SubmitUnclear
from lvjobs.cluster.refusals import classify_sbatch_error
from lvjobs.foreign import cleaned

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _ScriptExecutor(SlurmExecutor):
    """A SlurmExecutor that submits a given script."""

    def __init__(self, folder: Path, script: str, timeout: float) -> None:
        super().__init__(folder)
        self._script = script
        self._timeout = timeout
        self.sent = False

    def _make_submission_file_text(self, command: str, uid: str) -> str:  # noqa: ARG002 - submitit's own signature
        return ""  # submitit would write it in the encoding of the locale

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        submission_file_path.write_text(self._script, encoding="utf-8")
        self.sent = True
        unset = [word for name in misleading_variables(os.environ) for word in ("-u", name)]
        bounded = ["timeout", "--kill-after=2", f"{self._timeout:.0f}"]
        return ["env", *unset, *bounded, "sbatch", str(submission_file_path)]


def submit_script(script: str, folder: Path, timeout: float) -> str:
    """Submit `script`, kept in `folder`; return the job id. `timeout` is in seconds.

    Raises:
        SubmitRefused, SubmitDeferred, SubmitLimited, SubmitUnclear: see their docstrings.
    """
    if why := absence():
        raise SubmitDeferred(why)
    executor = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        executor = _ScriptExecutor(folder, script, timeout)
        # submitit prints sbatch's error message in addition to raising it
        with contextlib.redirect_stderr(io.StringIO()):
            return str(executor._submit_command("").job_id)  # noqa: SLF001 - the only way to submit without a pickle
    except FailedJobError as error:
        cause = error.__cause__
        returncode = cause.returncode if isinstance(cause, subprocess.CalledProcessError) else -1
        said = plain_words(one_line(cleaned(str(error)))) or f"sbatch did not answer within {timeout:.0f} s"
        raise classify_sbatch_error(str(error), returncode)(said) from None
    except FailedSubmissionError as error:
        raise SubmitUnclear(
            f"sbatch succeeded, but did not print the job's id: {one_line(cleaned(str(error)))}"
        ) from None
    except (OSError, UnicodeError) as error:
        if executor is not None and executor.sent:  # the job may exist, and only its script could not be filed
            raise SubmitUnclear(f"sbatch was run, and then: {error}") from None
        kind = SubmitDeferred if isinstance(error, OSError) and error.errno in _FULL else SubmitRefused
        raise kind(f"the batch script cannot be written: {error}") from None
