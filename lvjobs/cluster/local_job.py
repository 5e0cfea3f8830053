"""The process of a local job, `python -m lvjobs.cluster.local_job JOB_DIRECTORY`: it starts and supervises the members.

The starter forks a wrapper for each member and ends as soon as all of them have recorded their identity. So the
wrappers are nobody's children and continue when the command that submitted them has ended. A wrapper waits for a slot,
runs the worker, enforces its time limit and its cancellation, and records how it ended.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

from lvjobs.cluster.local_files import BEAT_SECONDS, STARTER, JobFiles, MemberFiles, Spec
from lvjobs.files import create_exclusive, keep_private
from lvjobs.processes import identify

_POLL_SECONDS = 0.1
_WAIT_SECONDS = 0.25
_PR_SET_PDEATHSIG = 1
_FOREIGN = ("SLURM_", "SBATCH_", "SRUN_", "SUBMITIT_", "LVJOBS_")


def job_environment(spec: Spec, job_id: str, cancel_file: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment: the caller's, without another job's variables, and with this job's."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_FOREIGN)}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([spec.code_directory, *spec.python_path]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
        "HF_HUB_OFFLINE": "1",
        **spec.environment,
        "LVJOBS_BACKEND": "local",
        "LVJOBS_TOKEN": spec.token,
        "LVJOBS_JOB_ID": job_id,
        "LVJOBS_LEAD_SECONDS": f"{spec.lead_seconds:g}",
        "LVJOBS_CANCEL_FILE": str(cancel_file),
    }


class _Ended(Exception):
    """A request to the wrapper to end, before there was a worker."""


def _try_lock(directory: Path, count: int) -> IO[bytes] | None:
    """Lock one of `count` slots in `directory`; return None if none is free.

    The lock ends with the last process that has it open.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        stream = (directory / str(number)).open("ab")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
        else:
            return stream
    return None


class Wrapper:
    """The supervisor of one member's run."""

    def __init__(self, member: MemberFiles) -> None:
        self.member, self.spec = member, member.spec
        self.worker: subprocess.Popen[bytes] | None = None
        self._began: float | None = None
        self._beaten = 0.0
        self._told_to_go = False

    def main(self) -> None:
        """Wait for a slot, run the worker, and record how it ended."""
        signal.signal(signal.SIGTERM, self._pass_on)
        try:
            locks = []
            if self.spec.max_parallel:  # first: a member that may not run yet must not occupy a slot of the machine
                locks.append(self._lock(self.member.job.root / "parallel", self.spec.max_parallel))
            locks.append(self._lock(self.member.job.root.parent.parent / "slots", self.spec.slots))
        except _Ended:
            if self.member.cancelled.exists():
                self._record("CANCELLED", None)
            return
        self._start([lock.fileno() for lock in locks])
        self._supervise()

    def _pass_on(self, number: int, _frame: object) -> None:
        """Pass on SIGTERM, sent at shutdown or by the user: the worker may then stop as it does when preempted."""
        self._told_to_go = True
        if self.worker is not None:
            self._signal(number)

    def _lock(self, directory: Path, count: int) -> IO[bytes]:
        while True:
            if self._told_to_go or self.member.cancelled.exists():
                raise _Ended
            lock = _try_lock(directory, count)
            if lock is not None:
                return lock
            self._beat()
            time.sleep(_WAIT_SECONDS)

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > BEAT_SECONDS:
            self._beaten = time.monotonic()
            self.member.alive.touch()

    def _start(self, locks: list[int]) -> None:
        job_id = self.member.id
        environment = job_environment(self.spec, job_id, self.member.cancelled, os.environ)
        if self.spec.time_limit_seconds is not None:
            environment["LVJOBS_END_TIME"] = f"{time.time() + self.spec.time_limit_seconds:.3f}"
        log = Path(self.spec.log_directory) / f"{job_id}.out"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            try:
                self.worker = subprocess.Popen(
                    [self.spec.python, "-m", "lvjobs.worker", self.spec.run_directories[self.member.index]],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    cwd=self.spec.code_directory,
                    env=environment,
                    pass_fds=locks,  # the slot stays locked as long as the worker lives
                    start_new_session=True,
                    preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one thread, and it calls into libc only
                )
            except OSError as error:
                stream.write(f"lvjobs: the worker cannot be started: {error}\n".encode())
                self._record("FAILED", 1)
                raise SystemExit(1) from None
        self._began = time.time()
        identity = identify(self.worker.pid)
        if identity is not None:  # else the worker has ended already, and `_supervise` records that
            self.member.write("worker", {**vars(identity), "start": self._began})

    def _supervise(self) -> None:
        assert self.worker is not None
        limit = self.spec.time_limit_seconds
        end = None if limit is None else time.monotonic() + limit
        warned, why, kill_at = False, "", 0.0
        while self.worker.poll() is None:
            now = time.monotonic()
            self._beat()
            if end is not None and not warned and now > end - self.spec.lead_seconds:
                warned = True
                self._signal(signal.SIGUSR2)
            if why:
                if now > kill_at:
                    self._signal(signal.SIGKILL)
            elif self.member.cancelled.exists() or (end is not None and now > end):
                why, kill_at = "TIMEOUT", now + self.spec.kill_wait_seconds
                self._signal(signal.SIGTERM)
            time.sleep(_POLL_SECONDS)
        status = self.worker.returncode
        # processes that the worker left behind must not outlive it
        self._signal(signal.SIGKILL)
        if self.member.cancelled.exists():
            why = "CANCELLED"
        self._record(why or ("COMPLETED" if status == 0 else "FAILED"), status)

    def _signal(self, number: int) -> None:
        """Send a signal to all processes of the worker, as Slurm does."""
        if self.worker is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.worker.pid, number)

    def _record(self, state: str, status: int | None) -> None:
        code, number = (0, -status) if status is not None and status < 0 else (status, None)
        self.member.write(
            "ended",
            {
                "state": state,
                "code": code,
                "signal": number,
                "start": self._began,
                "time": time.time(),
                "host": os.uname().nodename,
            },
        )


def _die_with_parent() -> Callable[[], None]:
    """Return a function that makes the worker end with its wrapper.

    Without a wrapper nobody would enforce the worker's time limit or its cancellation.
    """
    libc = ctypes.CDLL(None)
    wrapper = os.getpid()

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != wrapper:
            os._exit(1)

    return before_exec


def _wrap(member: MemberFiles, said: int) -> NoReturn:
    """Record the identity of this forked child, then supervise the member. Never returns."""
    status = 1
    try:
        os.setsid()
        member.run.mkdir(parents=True)
        identity = identify(os.getpid())
        assert identity is not None
        member.write("wrapper", vars(identity))
        os.close(said)
        Wrapper(member).main()
        status = 0
    except BaseException:  # noqa: BLE001 - a forked child must not continue in the starter's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def start(job: JobFiles) -> None:
    """Fork a wrapper for each member, and wait until each has recorded its identity or has ended."""
    reading, said = os.pipe()
    for member in job.members():
        if os.fork() == 0:
            os.close(reading)
            _wrap(member, said)
    os.close(said)
    os.read(reading, 1)  # this returns at the end of the pipe, when no child has it open any more


def main(arguments: list[str]) -> int:
    """Start the job in the directory `arguments[0]` and return the exit code.

    The code is 3 where somebody decided earlier that the job does not start, else 0.
    """
    keep_private()
    job = JobFiles(Path(arguments[0]))
    if not create_exclusive(job.launch, STARTER):
        return 3
    start(job)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
