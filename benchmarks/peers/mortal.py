"""What dies in benchmarks/eligible.py: jobs of `sbatch --requeue` and of submitit; and how one waits for that."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from measuring import peer_python

from lvjobs.lab import Lab

PATIENCE = 900.0

_BODY = Path(__file__).parent / "dying.py"

# The first srun of a job: it waits until it is told to, and fails, as where a node cannot make the step.
_SRUN = """\
#!/bin/sh
[ -e {root}/ended ] && exec {real} "$@"
touch {root}/began
while [ ! -e {root}/provoked ]; do sleep 0.1; done
date +%s.%N > {root}/ending && mv {root}/ending {root}/ended
echo "srun: error: Unable to create step" >&2
exit 1
"""


class Start(NamedTuple):
    """An execution that began, by its own first line."""

    time: float
    pid: int
    job_id: str


@dataclass(frozen=True)
class Cause:
    """How it is provoked, returning when the execution ended; and what a study's jobs ask for meanwhile."""

    provoke: Callable[["Subject"], float]
    goal: float = 10.0
    partition: str = "work"
    minutes: int = 30
    hung: float = 1800.0
    launches: bool = False
    """Whether it dies before it has begun."""


def lines(path: Path) -> list[dict[str, Any]]:
    """A file's whole lines, each a JSON object; none where there is no file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def until(condition: Callable[[], Any], seconds: float = PATIENCE, pause: float = 0.1) -> Any:
    """What the condition comes to within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(pause)
    return value


def gone(pid: int) -> float:
    """When the process is no more."""

    def is_over() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return True

    until(is_over, pause=0.02)
    return time.time()


@dataclass
class Subject:
    """What dies: a job of `sbatch --requeue`, or of one of the other ways."""

    lab: Lab
    root: Path
    cause: Cause
    submitted: str = ""

    def prepare(self) -> None:
        """Make its directory; where a launch is to fail, with an srun that does so."""
        self.root.mkdir()
        if self.cause.launches:
            srun = self.root / "bin" / "srun"
            srun.parent.mkdir()
            srun.write_text(_SRUN.format(root=self.root, real=shutil.which("srun")), encoding="utf-8")
            srun.chmod(0o755)

    def submit(self) -> None:
        """Send its job."""
        body = f"exec srun --ntasks=1 {sys.executable} {_BODY} work {self.root}"
        asked = {"partition": self.cause.partition, "time": self.cause.minutes, "gres": "gpu:1", "mem": "800M"}
        options = [f"--{key}={value}" for key, value in asked.items()]
        options += ["--requeue", "--signal=USR2@6", "--parsable", "--output=/dev/null", f"--wrap={body}"]
        self.submitted = self.type("sbatch", *options)

    def starts(self) -> list[Start]:
        """All executions until now."""
        return [Start(**line) for line in lines(self.root / "starts")]

    def alive_until(self) -> float:
        """When it last showed life."""
        return time.time()

    def is_over(self) -> bool:
        """Whether nothing goes on by itself: its job ended, or runs on, and was not requeued."""
        shown = self.type("scontrol", "-o", "show", "job", self.submitted)
        return "Restarts=0 " in shown and "JobState=PENDING" not in shown

    def check(self) -> None:
        """Whether it died of what was provoked, where that is known."""

    def sleep_until_due(self, share: float) -> None:  # noqa: ARG002 - what has a driver waits for that
        """Wait until it is time to die; a node that came up just now and is lost may return once more."""
        time.sleep(5)

    def type(self, *command: str) -> str:
        """What a command prints; its jobs find the srun that is made for them first."""
        environment = {**os.environ, "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command[:3])} failed:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()


class Submitit(Subject):
    """submitit, which requeues by itself at a time limit."""

    def submit(self) -> None:
        """Send its job."""
        python, cause = peer_python("submitit", "submitit"), self.cause
        arguments = ["submit", str(self.root), cause.partition, str(cause.minutes)]
        self.submitted = self.type(str(python), str(_BODY), *arguments)
