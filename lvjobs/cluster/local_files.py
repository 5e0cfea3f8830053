"""The local backend's files. They hold all its state: any process may read them, and any process may end.

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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs.files import write_json
from lvjobs.processes import Identity

STARTER = "starter"
ABANDONED = "abandoned"

BEAT_SECONDS = 10.0
_SILENCE_SECONDS = 120.0
"""The age of `alive` after which a wrapper on a machine that cannot be asked is assumed to have ended."""


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


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None where there is no such file.

    Raises:
        ValueError: the file holds no JSON.
    """
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return value


@dataclass(frozen=True)
class RunFiles:
    """The files of one member's run."""

    root: Path

    @property
    def alive(self) -> Path:
        """Return the file that the wrapper touches regularly."""
        return self.root / "alive"

    def process(self, who: str) -> Identity | None:
        """Return the identity of the `wrapper` or the `worker`; None where it was not recorded."""
        record = read_record(self.root / f"{who}.json")
        return None if record is None else Identity.from_dict(record)

    def record(self, what: str) -> dict[str, Any] | None:
        """Return the record `worker` or `ended`; None where there is none."""
        return read_record(self.root / f"{what}.json")

    def write(self, what: str, value: dict[str, Any]) -> None:
        """Record `wrapper`, `worker` or `ended`."""
        write_json(self.root / f"{what}.json", value)

    def is_looked_after(self) -> bool:
        """Return whether the wrapper is alive; for one on another machine, whether it touched `alive` recently."""
        wrapper = self.process("wrapper")
        if wrapper is None:
            return False
        if wrapper.is_of_this_host:
            return wrapper.is_alive
        return not self._is_silent()

    def last_sign(self) -> float:
        """Return when the wrapper last touched `alive`, in seconds since the epoch by the file system's clock."""
        return (self.alive if self.alive.exists() else self.root).stat().st_mtime

    def is_new(self, seconds: float) -> bool:
        """Return whether the run began less than `seconds` ago."""
        return time.time() - self.root.stat().st_mtime < seconds

    def _is_silent(self) -> bool:
        # Both times come from the file system: the clocks of two hosts are never compared.
        probe = self.root / ".now"
        try:
            probe.touch()
            return probe.stat().st_mtime - self.last_sign() > _SILENCE_SECONDS
        except OSError:
            return False


@dataclass(frozen=True)
class MemberFiles:
    """The files of one member of a job."""

    root: Path

    @property
    def cancelled(self) -> Path:
        """Return the file that exists when the member was cancelled."""
        return self.root / "cancelled"

    @property
    def run(self) -> RunFiles:
        """Return the files of the member's run. They exist once there is a wrapper."""
        return RunFiles(self.root / "runs" / "0")


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

    def member(self, index: int) -> MemberFiles:
        """Return the member of that index."""
        return MemberFiles(self.root / str(index))

    def member_id(self, index: int, spec: Spec) -> str:
        """Return `L3` for a single job, `L3_0` for a member of an array."""
        return self.id if len(spec.run_directories) == 1 else f"{self.id}_{index}"

    def age(self, spec: Spec) -> float:
        """Return the seconds since the job was submitted."""
        return time.time() - spec.submitted


def jobs_in(directory: Path) -> list[JobFiles]:
    """Return the jobs of this backend, in the order of their numbers."""
    try:
        names = [path for path in (directory / "jobs").iterdir() if path.name[:1] == "L" and path.name[1:].isdigit()]
    except FileNotFoundError:
        return []
    return [JobFiles(path) for path in sorted(names, key=lambda path: int(path.name[1:]))]
