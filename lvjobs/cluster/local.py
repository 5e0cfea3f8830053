"""The local backend: the same worker on this machine, without Slurm. Its jobs outlive the command that sent them."""

import errno
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import lvjobs
from lvjobs.cluster.local_files import ABANDONED, JobFiles, MemberFiles, Spec, jobs_in
from lvjobs.cluster.protocol import (
    Cluster,
    ClusterError,
    JobRequest,
    Site,
    Snapshot,
    SubmitDeferred,
    SubmitRefused,
    SubmitUnclear,
)
from lvjobs.cluster.states import QueuePosition
from lvjobs.files import create_exclusive, fsync_directory, write_atomic, write_json
from lvjobs.foreign import cleaned

_STARTER_SECONDS = 60.0
_LEAD_SECONDS = 90.0
_LARGEST_LEAD = 0.1
"""As a fraction of the time limit: a short job should spend its time on training, not on stopping early."""


class LocalCluster(Cluster):
    """The jobs of this machine, `slots` at once. All state is in `directory`; this object holds none.

    `lvjobs.cluster.protocol.Cluster` documents the methods.
    """

    backend = "local"

    def __init__(self, directory: Path, slots: int = 1, *, kill_wait_seconds: float = 30.0) -> None:
        self._directory = directory.absolute()
        self._slots = slots
        self._kill_wait = kill_wait_seconds

    # -- submission ---------------------------------------------------------------------------------------------

    def script(self, request: JobRequest) -> str:
        """Return a shell script that does what `submit` would have done, one member after the other."""
        lines = ["#!/bin/bash", f"# {request.job_name}: what the local backend runs, {self._slots} at once"]
        variables = {
            "PYTHONPATH": os.pathsep.join([str(request.code_directory), *_python_path()]),
            "PYTHONUNBUFFERED": "1",
            "PYTHONHASHSEED": "0",
            "HF_HUB_OFFLINE": "1",
            **request.environment,
            "LVJOBS_BACKEND": "local",
            "LVJOBS_TOKEN": request.token,
        }
        lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        lines.append(f"cd {shlex.quote(str(request.code_directory))} || exit 1")
        for directory in request.run_directories:
            lines.append(shlex.join([request.python, "-m", "lvjobs.worker", str(directory)]))
        return "\n".join(lines) + "\n"

    def submit(self, request: JobRequest) -> str:
        try:
            job = self._write_down(request)
        except OSError as error:
            raise SubmitRefused(f"{self._directory} cannot be written: {error.strerror}") from None
        try:
            returncode = self._start(job)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SubmitUnclear(f"job {job.id} was recorded, but was not seen to start: {error}") from None
        if returncode == 0:
            return job.id
        # The claim decides: once this process holds it and reports that there is no job, no wrapper is ever started.
        if create_exclusive(job.launch, ABANDONED):
            said = _last_line(job.root / "wrapper.log")
            shutil.rmtree(job.root, ignore_errors=True)
            raise SubmitDeferred(f"the job could not be started: {said}")
        raise SubmitUnclear(f"job {job.id} was started by another process, which failed: see {job.root}")

    def _write_down(self, request: JobRequest) -> JobFiles:
        minutes = request.resources.get("time_limit_minutes")
        limit = None if minutes is None else float(minutes) * 60
        lead = float(request.resources.get("signal_lead_seconds") or _LEAD_SECONDS)
        spec = Spec(
            token=request.token,
            name=request.name,
            run_directories=[str(path.absolute()) for path in request.run_directories],
            log_directory=str(request.log_directory.absolute()),
            code_directory=str(request.code_directory.absolute()),
            python=request.python,
            environment=dict(request.environment),
            time_limit_seconds=limit,
            lead_seconds=lead if limit is None else min(lead, limit * _LARGEST_LEAD),
            max_parallel=request.max_parallel,
            slots=self._slots,
            kill_wait_seconds=self._kill_wait,
            submitted=time.time(),
            python_path=_python_path(),
        )
        jobs = self._directory / "jobs"
        jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = jobs / f".{request.token}.{os.getpid()}"
        aside.mkdir(mode=0o700)
        for index in range(len(spec.run_directories)):
            (aside / str(index)).mkdir()
        write_json(aside / "job.json", asdict(spec))
        number = max((int(job.id[1:]) for job in jobs_in(self._directory)), default=0)
        while True:
            number += 1
            try:
                # A directory cannot be renamed onto one that is not empty, so each number is used once.
                aside.rename(jobs / f"L{number}")
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            else:
                fsync_directory(jobs)
                return JobFiles(jobs / f"L{number}")

    @staticmethod
    def _start(job: JobFiles) -> int:
        path = os.pathsep.join(filter(None, [str(Path(lvjobs.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        with (job.root / "wrapper.log").open("ab") as log:
            return subprocess.run(
                [sys.executable, "-m", "lvjobs.cluster.local_job", str(job.root)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=job.root,  # no module can be imported from there by accident
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
                timeout=_STARTER_SECONDS,
                check=False,
            ).returncode

    # -- state --------------------------------------------------------------------------------------------------

    def observe(
        self,
        tokens: Sequence[str],
        since: float,  # noqa: ARG002 - this backend never forgets a job
        companions: Sequence[str] = (),
    ) -> Snapshot:
        """Return the states of the jobs with these tokens. A job runs once, so `history` equals the queue."""
        wanted = frozenset(tokens).union(companions)
        jobs = [
            member.look() for job in jobs_in(self._directory) for member in job.members() if member.spec.token in wanted
        ]
        return Snapshot(time.time(), jobs, jobs)

    # -- commands -----------------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> None:
        for member in self._find(job_id):
            has_begun = member.run.exists()
            if has_begun and member.look().is_ended:
                continue
            write_atomic(member.cancelled, "")
            if has_begun and not member.is_looked_after():
                worker = member.process("worker")
                if worker is not None and worker.is_alive:
                    with suppress(ProcessLookupError):
                        os.killpg(worker.pid, signal.SIGKILL)

    def estimate_start(self, request: JobRequest) -> float:  # noqa: ARG002 - the protocol has it
        """Raise ClusterError: the time when a slot becomes free is unknown."""
        raise ClusterError(f"local jobs run {self._slots} at a time (local_slots), and no end is expected")

    def place(self, job_id: str) -> QueuePosition | None:  # noqa: ARG002 - the protocol has it
        """Raise ClusterError: jobs of this machine start in the order of submission."""
        raise ClusterError(f"local jobs start in order, {self._slots} at once (local_slots)")

    def probe(self) -> Site:
        return Site(
            backend="local",
            preempt_mode="off",
            requeue_hold_seconds=0.0,
            notes=((f"local jobs, {self._slots} at a time; they are not preempted, and only lvjobs requeues them "),),
        )

    def _find(self, job_id: str) -> list[MemberFiles]:
        """Return the members that an id names: all of `L3`, one of `L3_0`."""
        base, _, task = job_id.partition("_")
        return [
            member
            for job in jobs_in(self._directory)
            if job.id == base
            for member in job.members()
            if not task or str(member.index) == task
        ]


def _python_path() -> list[str]:
    """Return the directories of this process's PYTHONPATH as absolute paths: a job has another working directory."""
    return [str(Path(each).absolute()) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]


def _last_line(path: Path) -> str:
    with suppress(OSError, IndexError):
        return cleaned(path.read_text(errors="replace", encoding="utf-8")).strip().splitlines()[-1]
    return f"see {path}"
