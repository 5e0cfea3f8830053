"""The local backend's files, and the states that they show. Any process may read them, and any process may end.

local/
  slots/0 ...                 locked by the wrapper (and the worker) that has the slot
  jobs/L3/                    a job: it gets this name when it is complete, so every job seen has its token
    job.json                  the request
    launch                    the claim on the start: of the starter, or of an observer that gave the job up
    parallel/0 ...            slots of this array
    wrapper.log               errors of the wrapper itself
    0/                        a member
      cancelled               present when the member was cancelled for good
      runs/0/                 the member's run: a local job runs once
        wrapper.json          the process that supervises the run
        worker.json           the worker, and when it started
        alive                 touched regularly
        ended.json            how the run ended
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvjobs.cluster.protocol import Job
from lvjobs.files import create_exclusive, write_json
from lvjobs.processes import Identity

STARTER = "starter"
ABANDONED = "abandoned"

BEAT_SECONDS = 10.0
_SILENCE_SECONDS = 120.0
"""The age of `alive` after which a wrapper on a machine that cannot be asked is assumed to have ended."""

_LAUNCH_SECONDS = 90.0
"""The age after which a job that nobody has started never starts: its submitter ended in between."""


@dataclass(frozen=True)
class Spec:
    """The request, as job.json holds it."""

    token: str
    name: str
    run_directories: Sequence[str]
    log_directory: str
    code_directory: str
    python: str
    environment: dict[str, str]
    time_limit_seconds: float | None
    lead_seconds: float
    max_parallel: int | None
    slots: int
    kill_wait_seconds: float
    submitted: float
    python_path: Sequence[str] = ()
    """The directories of PYTHONPATH in the shell that submitted: Python searches them after the code directory."""


@dataclass(frozen=True)
class JobFiles:
    """The files of one job."""

    root: Path

    @property
    def id(self) -> str:
        """Return the job's id, such as `L3`."""
        return self.root.name

    @property
    def launch(self) -> Path:
        """Return the file of the claim that decides whether the job starts."""
        return self.root / "launch"

    def spec(self) -> Spec:
        """Return the request."""
        return Spec(**json.loads((self.root / "job.json").read_text(encoding="utf-8")))

    def members(self) -> "list[MemberFiles]":
        """Return the members, in their order."""
        spec = self.spec()
        return [MemberFiles(self, spec, index) for index in range(len(spec.run_directories))]


@dataclass(frozen=True)
class MemberFiles:
    """The files of one member of a job, and of its run."""

    job: JobFiles
    spec: Spec
    index: int

    @property
    def id(self) -> str:
        """Return `L3` for a single job, `L3_0` for a member of an array."""
        return self.job.id if len(self.spec.run_directories) == 1 else f"{self.job.id}_{self.index}"

    @property
    def cancelled(self) -> Path:
        """Return the file that exists when the member was cancelled."""
        return self.job.root / str(self.index) / "cancelled"

    @property
    def run(self) -> Path:
        """Return the directory of the member's run. It exists once there is a wrapper."""
        return self.job.root / str(self.index) / "runs" / "0"

    @property
    def alive(self) -> Path:
        """Return the file that the wrapper touches regularly."""
        return self.run / "alive"

    def process(self, who: str) -> Identity | None:
        """Return the identity of the `wrapper` or the `worker`; None where it was not recorded."""
        record = self.record(who)
        return None if record is None else Identity.from_dict(record)

    def record(self, what: str) -> dict[str, Any] | None:
        """Return the record `wrapper`, `worker` or `ended`; None where there is none.

        Raises:
            ValueError: the file holds no JSON.
        """
        try:
            value: dict[str, Any] = json.loads((self.run / f"{what}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return value

    def write(self, what: str, value: Mapping[str, Any]) -> None:
        """Record `wrapper`, `worker` or `ended`."""
        write_json(self.run / f"{what}.json", value)

    def is_looked_after(self) -> bool:
        """Return whether the wrapper is alive; for one on another machine, whether it touched `alive` recently."""
        wrapper = self.process("wrapper")
        if wrapper is None or wrapper.is_of_this_host:
            return wrapper is not None and wrapper.is_alive
        # Both times come from the file system: the clocks of two hosts are never compared.
        probe = self.run / ".now"
        try:
            probe.touch()
            return probe.stat().st_mtime - self.last_sign() <= _SILENCE_SECONDS
        except OSError:
            return True

    def last_sign(self) -> float:
        """Return when the wrapper last touched `alive`, in seconds since the epoch by the file system's clock."""
        return (self.alive if self.alive.exists() else self.run).stat().st_mtime

    def look(self) -> Job:
        """Return the state of the member. A job that nobody started in time is given up for good."""
        blank = Job(self.id, self.spec.token, self.index, "PENDING", restart_count=0, partition="local", gpus=0)
        if not self.run.exists():
            return self._unstarted(blank)
        # The record may be written while its wrapper is looked for, just before the wrapper ends.
        looked_after = not (self.run / "ended.json").exists() and self.is_looked_after()
        ended = self.record("ended")
        if ended is None:
            return self._unended(blank, looked_after=looked_after)
        job = replace(
            blank,
            state=ended["state"],
            start=ended["start"],
            nodes=ended["host"],
            exit_code=ended["code"],
            exit_signal=ended["signal"],
        )
        return _with_end(job, ended["time"])

    def _unstarted(self, blank: Job) -> Job:
        """Return the state of a member without a wrapper: it starts soon, or its submitter ended before that."""
        if time.time() - self.spec.submitted < _LAUNCH_SECONDS:
            return replace(blank, reason="Launching")
        # The first claim decides, so that a submitter that was only slow does not start a job that was given up here.
        create_exclusive(self.job.launch, ABANDONED)
        return _with_end(replace(blank, state=self._lost_state, reason="NeverStarted"), self.spec.submitted)

    @property
    def _lost_state(self) -> str:
        return "CANCELLED" if self.cancelled.exists() else "NODE_FAIL"

    def _unended(self, blank: Job, *, looked_after: bool) -> Job:
        wrapper, worker = self.process("wrapper"), self.process("worker")
        if wrapper is None and time.time() - self.run.stat().st_mtime < _LAUNCH_SECONDS:
            return replace(blank, reason="Launching")
        if looked_after and worker is None:
            return replace(blank, reason="Resources")
        began = self.record("worker") or {}
        job = replace(blank, start=began.get("start"), nodes=began.get("host", ""))
        if looked_after or (worker is not None and worker.is_alive):
            return replace(job, state="COMPLETING" if self.cancelled.exists() else "RUNNING")
        # If only the worker was killed, its wrapper records that. Here the wrapper ended too: most likely the machine
        # failed.
        reason = "" if wrapper is not None else "NeverStarted"
        return _with_end(replace(job, state=self._lost_state, reason=reason), self.last_sign())


def _with_end(job: Job, end: float) -> Job:
    """Return the job with its end and with how long it held its slot: 0 s where its worker never started."""
    elapsed = 0.0 if job.start is None else max(0.0, end - job.start)  # a file's time may come from another clock
    return replace(job, end=end, elapsed=elapsed)


def jobs_in(directory: Path) -> list[JobFiles]:
    """Return the jobs of this backend, in the order of their numbers."""
    try:
        names = [path for path in (directory / "jobs").iterdir() if path.name[:1] == "L" and path.name[1:].isdigit()]
    except FileNotFoundError:
        return []
    return [JobFiles(path) for path in sorted(names, key=lambda path: int(path.name[1:]))]
