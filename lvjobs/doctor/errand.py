"""The test job of `lvjobs doctor --job`: one minute long, it inspects its node. It is no run, and nothing remains."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.local import LocalCluster
from lvjobs.cluster.protocol import Cluster, ClusterError, Job, JobRequest, SubmitUnclear
from lvjobs.cluster.states import Ending, explain
from lvjobs.doctor.interface import Asked
from lvjobs.doctor.places import data_of, models_of
from lvjobs.files import private, write_json
from lvjobs.forecasting.hub import directory_of
from lvjobs.foreign import cleaned
from lvjobs.processes import interruptible
from lvjobs.records.node import ORDER, REPORT, SCRIPT, NodeReport
from lvjobs.tasks.code_copies import snapshot_code

MINUTES = 1
LOOK = "LVJOBS_LOOK"

_LEAVING_SECONDS = 30.0
"""Seconds to wait for the end of a cancelled job, and to look for a job if sbatch was not answered."""

_ENDING_SECONDS = 10.0
"""Seconds that a job may take to end by itself after it has reported."""

_LATE_SECONDS = 5.0
"""Seconds to wait for a report after the job's end: network file systems cache that there was none."""

_LOG_CHARACTERS = 600

Tell = Callable[[str], None]
ClusterAt = Callable[[Asked, Path], Cluster]


@dataclass(frozen=True)
class Errand:
    """The test job's result. `refused` has sbatch's words, `ended` the job's last state (empty: it did not end).

    `waited` is in seconds in the queue, None if it never ran. `left` says that it may still be in the queue, under the
    name `left_job`.
    """

    job_id: str = ""
    report: NodeReport | None = None
    refused: str = ""
    ended: str = ""
    last_reason: str = ""
    waited: float | None = None
    log: str = ""
    interrupted: bool = False
    left: str = ""
    left_job: str = ""


@dataclass
class _TestJob:
    """The job that was submitted by `request`, in its last known state. `begun` is when it was first seen to run."""

    cluster: Cluster
    request: JobRequest
    job: Job | None = None
    reason: str = ""
    begun: float | None = None
    was_seen: bool = False

    def look(self) -> bool:
        """Ask for the job's state, and return whether the scheduler answered."""
        queue = self.cluster.observe((), time.time(), (self.request.token,)).queue
        if queue is None:
            return False
        self.job = next((job for job in reversed(queue) if job.token == self.request.token), None)
        if self.job is not None:
            self.was_seen = True
            self.reason = self.job.reason if self.job.is_pending else self.reason
            # a job that is cancelled before it begins ends without having run
            if self.job.is_active or (self.job.is_ended and self.job.ending is not Ending.CANCELLED):
                self.begun = self.begun or time.monotonic()
        return True

    @property
    def is_over(self) -> bool:
        """Return whether the job has ended, or is gone from the queue after it was seen there."""
        return self.job.is_ended if self.job is not None else self.was_seen

    def report(self) -> NodeReport | None:
        """Return the job's report; None where there is none yet."""
        directory = self.request.run_directories[0]
        with contextlib.suppress(OSError, ValueError, json.JSONDecodeError):
            list(directory.iterdir())  # makes a network file system refresh the directory
            return NodeReport.from_json((directory / REPORT).read_text(encoding="utf-8"))
        return None


def cluster_at(asked: Asked, directory: Path) -> Cluster:
    """Return the study's cluster, with its records in the test job's own directory.

    With `local`, the job then takes no slot from runs, and waits for none.
    """
    if asked.is_local:
        return LocalCluster(directory / "local", kill_wait_seconds=5)
    return backend_of(asked.profile).open(asked.profile, directory / "local", directory / "submissions", 1)


def run_errand(asked: Asked, tell: Tell, *, timeout: float, every: float = 2.0, make: ClusterAt = cluster_at) -> Errand:
    """Submit the job, wait for its report, and make sure that it is gone, whatever happens meanwhile.

    Args:
        asked: The study and its requests.
        tell: A function that prints progress.
        timeout: The longest wait, in seconds.
        every: The interval between two queries of the queue, in seconds.
        make: A function that makes the cluster for the test job's directory.
    """
    home = asked.study.layout.internal
    parents = [path for path in (home / "doctor", home) if not path.exists()]
    directory = home / "doctor" / f"{time.time_ns():x}"
    try:
        with private():
            directory.mkdir(parents=True)
            code = directory / "code" / snapshot_code(directory / "code", "lvjobs").name
            (directory / "logs").mkdir()
            cluster = make(asked, directory)
            request = asked.request(directory, log=directory / "logs", code=code, time_limit_minutes=MINUTES)
            request = replace(request, environment={LOOK: "1"})
            _write_order(asked, cluster, request)
            return _see_through(_TestJob(cluster, request), tell, timeout, every)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        for path in parents:  # for a user who has no study here yet
            with contextlib.suppress(OSError):
                path.rmdir()


def _write_order(asked: Asked, cluster: Cluster, request: JobRequest) -> None:
    paths = {str(asked.study.root): "rw"}
    if asked.is_study and asked.training is not None:
        paths[str(data_of(asked.study, asked.training))] = "r"
        found = [directory_of(model) for model in models_of(asked)]
        paths |= {str(directory): "r" for directory in found if directory is not None}
    order: dict[str, Any] = {"paths": paths}
    if asked.container is not None:
        image = asked.container.path(asked.study.root)
        paths |= dict.fromkeys([*asked.container.bind, *([str(image)] if image is not None else [])], "r")
        order |= {"container": asked.container.model_dump(mode="json"), "root": str(asked.study.root)}
    directory = request.run_directories[0]
    write_json(directory / ORDER, order)
    (directory / SCRIPT).write_text(cluster.script(request), encoding="utf-8")


def _see_through(test: _TestJob, tell: Tell, timeout: float, every: float) -> Errand:
    """Submit the job and wait for its end; closing the terminal has the same effect as Ctrl-C."""
    interrupted, refused, job_id = False, "", ""
    submitted = time.monotonic()
    with interruptible():
        try:
            job_id = test.cluster.submit(test.request)
            tell(f"test job {job_id}: submitted; waiting {timeout / 60:g} min at most, Ctrl-C cancels it")
            report = _wait(test, tell, submitted + timeout, every)
        except SubmitUnclear as error:
            refused, report = f"sbatch did not answer: {error}", None
        except ClusterError as error:
            return Errand(refused=str(error))
        except KeyboardInterrupt:
            interrupted, report = True, test.report()
    left = _remove(test, patience=_ENDING_SECONDS if report is not None else 0.0)
    return Errand(
        job_id=job_id,
        report=report,
        refused=refused,
        ended=test.job.state if test.job is not None and test.is_over else "",
        last_reason=explain(test.reason) if test.reason else "",
        waited=None if test.begun is None else test.begun - submitted,
        log=_log(test.request.log_directory),
        interrupted=interrupted,
        left=left,
        left_job=test.request.job_name if left else "",
    )


def _wait(test: _TestJob, tell: Tell, deadline: float, every: float) -> NodeReport | None:
    said = ""
    while True:
        report, now = test.report(), time.monotonic()
        if report is not None and report.torch is not None:
            test.begun = test.begun or now
            return report
        test.look()
        if (words := _words(test.job)) and words != said:
            said = words
            tell(f"test job {test.job.id if test.job else ''}: {words}")
        if test.is_over:
            deadline = min(deadline, now + _LATE_SECONDS)
        if now >= deadline:
            return report
        time.sleep(min(every, max(0.1, deadline - now)))


def _words(job: Job | None) -> str:
    if job is None or job.is_ended:
        return ""
    if job.is_pending:
        return f"waits: {explain(job.reason, job.id)}" if job.reason else ""
    if not job.is_active:
        return f"is {job.state}"
    return f"runs on {job.nodes}" if job.nodes else "runs"


def _remove(test: _TestJob, patience: float) -> str:
    """End the job, and wait until it is off its node; return why that is not known, or an empty text.

    A job whose id is not known is found by its name. For `patience` seconds it may end by itself.
    """
    begun = time.monotonic()
    problem = ""
    while True:
        is_known = test.look()
        if is_known and test.is_over:
            return ""
        waited = time.monotonic() - begun
        try:
            if is_known and test.job is not None and waited >= patience:
                test.cluster.cancel(test.job.id)
        except ClusterError as error:
            problem = f" ({error})"
        if waited >= _LEAVING_SECONDS:
            is_absent = is_known and not test.was_seen
            return "" if is_absent else f"a job called {test.request.job_name} may still be in the queue{problem}"
        time.sleep(0.5)


def _log(directory: Path) -> str:
    """Return the end of what the job printed."""
    with contextlib.suppress(OSError):
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(directory.glob("*.out")))
        return cleaned(text)[-_LOG_CHARACTERS:].strip()
    return ""
