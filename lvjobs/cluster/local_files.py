"""What the local backend keeps on disk. It is all the state there is: any process may look, and any may end.

local/
  slots/0 ...                 locked by the wrapper (and the worker) that has the slot
  jobs/L3/                    a job: named when it is complete, so a job without its token is never met
    job.json                  the request
    launch                    who decided whether it starts: the starter, or an observer that gave it up
    parallel/0 ...            slots of this array
    wrapper.log               what went wrong with the wrapper itself
    0/                        a member
      cancelled               it was cancelled, for good
      runs/0/                 its run: a local job runs once
        wrapper.json          the process that looks after it
        worker.json           the worker, and when it began
        alive                 touched now and then
        ended.json            how it ended
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
"""A wrapper on a machine that cannot be asked is believed dead when its `alive` is older than this."""


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
    """The directories of PYTHONPATH in the shell that submitted: imports look there after the code directory."""


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no such file."""
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return value


@dataclass(frozen=True)
class RunFiles:
    """The run of one member."""

    root: Path

    @property
    def alive(self) -> Path:
        """Touched by the wrapper now and then."""
        return self.root / "alive"

    def process(self, who: str) -> Identity | None:
        """The identity of the `wrapper` or the `worker`."""
        record = read_record(self.root / f"{who}.json")
        return None if record is None else Identity.from_dict(record)

    def record(self, what: str) -> dict[str, Any] | None:
        """`worker` or `ended`."""
        return read_record(self.root / f"{what}.json")

    def write(self, what: str, value: dict[str, Any]) -> None:
        """Record `wrapper`, `worker` or `ended`."""
        write_json(self.root / f"{what}.json", value)

    def is_looked_after(self) -> bool:
        """Whether the wrapper lives; for one on another machine, whether it has given a sign lately."""
        wrapper = self.process("wrapper")
        if wrapper is None:
            return False
        if wrapper.is_of_this_host:
            return wrapper.is_alive
        return not self._is_silent()

    def last_sign(self) -> float:
        """When the wrapper last gave a sign."""
        return (self.alive if self.alive.exists() else self.root).stat().st_mtime

    def is_new(self, seconds: float) -> bool:
        """Whether it was begun less than so many seconds ago."""
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
    """One member of a job."""

    root: Path

    @property
    def cancelled(self) -> Path:
        """Exists when the member was cancelled."""
        return self.root / "cancelled"

    @property
    def run(self) -> RunFiles:
        """What its wrapper leaves, once there is one."""
        return RunFiles(self.root / "runs" / "0")


@dataclass(frozen=True)
class JobFiles:
    """One job."""

    root: Path

    @property
    def id(self) -> str:
        """`L3`."""
        return self.root.name

    @property
    def launch(self) -> Path:
        """Who decided whether the job starts."""
        return self.root / "launch"

    def spec(self) -> Spec:
        """The request."""
        return Spec(**json.loads((self.root / "job.json").read_text(encoding="utf-8")))

    def member(self, index: int) -> MemberFiles:
        """The member of that index."""
        return MemberFiles(self.root / str(index))

    def member_id(self, index: int, spec: Spec) -> str:
        """`L3` for a single job, `L3_0` for a member of an array."""
        return self.id if len(spec.run_directories) == 1 else f"{self.id}_{index}"

    def age(self, spec: Spec) -> float:
        """Seconds since it was submitted."""
        return time.time() - spec.submitted


def jobs_in(directory: Path) -> list[JobFiles]:
    """The jobs of this backend, in the order of their numbers."""
    try:
        names = [path for path in (directory / "jobs").iterdir() if path.name[:1] == "L" and path.name[1:].isdigit()]
    except FileNotFoundError:
        return []
    return [JobFiles(path) for path in sorted(names, key=lambda path: int(path.name[1:]))]
