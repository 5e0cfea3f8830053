"""The test job of `lvjobs doctor --job`: one minute long, it inspects its node. It is no run, and nothing remains."""

import contextlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lvjobs.cluster.protocol import Cluster, ClusterError, Job, JobRequest, SubmitUnclear
from lvjobs.cluster.reasons import explain
from lvjobs.cluster.states import Ending
from lvjobs.doctor.asked import Asked
from lvjobs.doctor.inputs import data_of, models_of
from lvjobs.files import private, write_json
from lvjobs.forecasting.hub import directory_of
from lvjobs.foreign import cleaned
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
ClusterAt = Callable[[Path], Cluster]


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
class _Watch:
    """The job's last known state."""

    job: Job | None = None
    told: str = ""
    reason: str = ""
    begun: float | None = None
    was_seen: bool = False

    def see(self, queue: list[Job], now: float) -> None:
        self.job = queue[-1] if queue else None
        self.was_seen = self.was_seen or bool(queue)
        if self.job is not None:
            self.reason = self.job.reason if self.job.is_pending else self.reason
            # a job that is cancelled before it begins ends without having run
            has_begun = self.job.is_active or (self.job.is_ended and self.job.ending is not Ending.CANCELLED)
            if self.begun is None and has_begun:
                self.begun = now

    @property
    def is_over(self) -> bool:
        """Return whether the job has ended, or is gone from the queue after it was seen there."""
        return self.job.is_ended if self.job is not None else self.was_seen


def cluster_at(asked: Asked) -> ClusterAt:
    """Return a function that makes the study's cluster, with its records in the test job's own directory.

    With `local`, the job then takes no slot from runs, and waits for none.
    """

    def make(directory: Path) -> Cluster:
        if asked.script is None:
            from lvjobs.cluster.local import LocalCluster

            return LocalCluster(directory / "local", kill_wait_seconds=5)
        from lvjobs.cluster.slurm import SlurmCluster

        return SlurmCluster(asked.script, directory / "submissions")

    return make


def run_errand(asked: Asked, make: ClusterAt, tell: Tell, *, timeout: float, every: float = 2.0) -> Errand:
    """Submit the job, wait for its report, and make sure that it is gone, whatever happens meanwhile.

    Args:
        asked: The study and its requests.
        make: A function that makes the cluster for a directory.
        tell: A function that prints progress.
        timeout: The longest wait, in seconds.
        every: The interval between two queries of the queue, in seconds.
    """
    home = asked.study.layout.internal
    parents = [path for path in (home / "doctor", home) if not path.exists()]
    directory = home / "doctor" / f"{time.time_ns():x}"
    try:
        with private():
            directory.mkdir(parents=True)
            code = directory / "code" / snapshot_code(directory / "code", "lvjobs").name
            (directory / "logs").mkdir()
            cluster = make(directory)
            request = _request(asked, directory, code)
            _write_order(asked, cluster, request)
            return _see_through(cluster, request, tell, timeout, every)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        for path in parents:  # for a user who has no study here yet
            with contextlib.suppress(OSError):
                path.rmdir()


def _request(asked: Asked, directory: Path, code: Path) -> JobRequest:
    changes = {"time_limit_minutes": MINUTES}
    request = asked.request(directory, log=directory / "logs", code=code, **changes)
    return replace(request, environment={LOOK: "1"})


def _write_order(asked: Asked, cluster: Cluster, request: JobRequest) -> None:
    paths = {str(asked.study.root): "rw"}
    if asked.is_study and asked.training is not None:
        paths[str(data_of(asked.study, asked.training))] = "r"
        found = [directory_of(model) for model in models_of(asked)]
        paths |= {str(directory): "r" for directory in found if directory is not None}
    directory = request.run_directories[0]
    write_json(directory / ORDER, {"paths": paths})
    (directory / SCRIPT).write_text(cluster.script(request), encoding="utf-8")


def _see_through(cluster: Cluster, request: JobRequest, tell: Tell, timeout: float, every: float) -> Errand:
    """Submit the job and wait for its end; closing the terminal has the same effect as Ctrl-C."""
    watch, interrupted, refused, job_id = _Watch(), False, "", ""
    begun = time.monotonic()
    with _interruptible():
        try:
            job_id = cluster.submit(request)
            tell(f"test job {job_id}: submitted; it waits {timeout / 60:g} min at most, Ctrl-C cancels it")
            report = _wait(cluster, request, watch, tell, begun + timeout, every)
        except SubmitUnclear as error:
            refused, report = f"sbatch was not answered: {error}", None
        except ClusterError as error:
            return Errand(refused=str(error))
        except KeyboardInterrupt:
            interrupted, report = True, _read(request)
    left = _remove(cluster, request, watch, patience=_ENDING_SECONDS if report is not None else 0.0)
    return Errand(
        job_id=job_id,
        report=report,
        refused=refused,
        ended=watch.job.state if watch.job is not None and watch.is_over else "",
        last_reason=explain(watch.reason) if watch.reason else "",
        waited=None if watch.begun is None else watch.begun - begun,
        log=_log(request.log_directory),
        interrupted=interrupted,
        left=left,
        left_job=request.job_name if left else "",
    )


def _wait(
    cluster: Cluster, request: JobRequest, watch: _Watch, tell: Tell, deadline: float, every: float
) -> NodeReport | None:
    late = None
    while True:
        report = _read(request)
        now = time.monotonic()
        if report is not None and report.torch is not None:
            if watch.begun is None:
                watch.begun = now
            return report
        _look(cluster, request, watch, now)
        if (words := _words(watch.job)) and words != watch.told:
            watch.told = words
            tell(f"test job {watch.job.id if watch.job else ''}: {words}")
        if watch.is_over:
            late = late or now + _LATE_SECONDS
            if now >= late:
                return report
        if now >= deadline:
            return report
        time.sleep(min(every, max(0.1, deadline - now)))


def _look(cluster: Cluster, request: JobRequest, watch: _Watch, now: float) -> bool:
    """Update the job's state, and return whether the scheduler answered."""
    queue = cluster.observe((), time.time(), (request.token,)).queue
    if queue is not None:
        watch.see([job for job in queue if job.token == request.token], now)
    return queue is not None


def _words(job: Job | None) -> str:
    if job is None or job.is_ended:
        return ""
    if job.is_pending:
        return f"waits: {explain(job.reason, job.id)}" if job.reason else ""
    if not job.is_active:
        return f"is {job.state}, says Slurm"
    return f"runs on {job.nodes}" if job.nodes else "runs"


def _remove(cluster: Cluster, request: JobRequest, watch: _Watch, patience: float) -> str:
    """End the job, and wait until it is off its node; return why that is not known, or an empty text.

    A job whose id is not known is found by its name. For `patience` seconds it may end by itself.
    """
    begun = time.monotonic()
    problem = ""
    while True:
        said = _look(cluster, request, watch, time.monotonic())
        if said and watch.is_over:
            return ""
        try:
            if said and watch.job is not None and time.monotonic() >= begun + patience:
                cluster.cancel(watch.job.id)
        except ClusterError as error:
            problem = str(error)
        if time.monotonic() >= begun + _LEAVING_SECONDS:
            if said and not watch.was_seen:
                return ""
            return (
                f"a job called {request.job_name} may still be in the queue {f'({problem})' if problem else ''}".strip()
            )
        time.sleep(0.5)


def _read(request: JobRequest) -> NodeReport | None:
    directory = request.run_directories[0]
    with contextlib.suppress(OSError, ValueError, json.JSONDecodeError):
        list(directory.iterdir())  # makes a network file system refresh the directory
        return NodeReport.from_json((directory / REPORT).read_text(encoding="utf-8"))
    return None


def _log(directory: Path) -> str:
    """Return the end of what the job printed."""
    with contextlib.suppress(OSError):
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(directory.glob("*.out")))
        return cleaned(text)[-_LOG_CHARACTERS:].strip()
    return ""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C, so that the job is cancelled then, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
