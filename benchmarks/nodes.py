"""From a job's start to the first step, on two nodes: after each kind of loss, against the run's undisturbed start.

    python benchmarks/nodes.py [--repetitions 5] [--smoke]

The program is tests/programs/snapshot.py, started with torchrun on two nodes of a lab, one process on each. A run
begins undisturbed. Then it loses, one after another and each after a new checkpoint: a rank (SIGKILL), a torchrun, the
agent of lvjobs on the second node, and that node itself. Commands make passes until the next execution has begun, and
none from then on. The seconds are counted from when Slurm starts the execution, as the controller's log has it, to
the line of the program's first new step; before the start Slurm holds a requeued job, here for 6 s. The peer is the
undisturbed start of the same run. The lab needs root.
"""

import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from measuring import command_line, lvjobs, print_table
from startup import whole_lines

from lvjobs.lab import Lab, LabConfig
from lvjobs.study.layout import RunLayout

_PROGRAM = Path(__file__).resolve().parent.parent / "tests" / "programs" / "snapshot.py"
_SECONDS = 300.0
_UNDISTURBED = "nothing"
_GOAL = 2.0

_STUDY = r"""
profile = "lab"
[resources]
nodes = 2
processes = 1
time_limit = "1h"
[train]
launch = "torchrun"
command = ["snapshot.py", "--epochs={steps}", "--save_every={checkpoint_every}", "--snapshot_path={out}/snapshot.pt",
           "--epoch_seconds=0.2"]
checkpoint = "{out}/snapshot.pt"
progress = '^epoch (?P<step>\d+) loss (?P<loss>\S+)'
flops = 1e6
steps = 100000
checkpoint_every = 5
[policy]
backoff_seconds = 1
"""


@dataclass
class Execution:
    """An execution of the run: its job, and when it was started, claimed the run, and made its first step (epoch)."""

    started: float
    claimed: float
    stepped: float


@dataclass
class Subject:
    """A run on two nodes, and what it was seen to do."""

    lab: Lab
    root: Path
    seen: list[Execution] = field(default_factory=list)

    def submit(self) -> None:
        """Send its job."""
        self.root.mkdir()
        (self.root / "study.toml").write_text(_STUDY, encoding="utf-8")
        shutil.copy(_PROGRAM, self.root)
        lvjobs(self.root, "submit", "run", "--name", "run")

    def lines(self, generation: int) -> list[dict[str, Any]]:
        """All lines of a generation's journal."""
        journals = RunLayout(self.root / "checkpoints" / "run").journals
        return whole_lines([journals / f"{generation:06d}.jsonl"])

    def first(self, kind: str, generation: int) -> dict[str, Any] | None:
        """The first line of this kind in a generation's journal."""
        return next((line for line in self.lines(generation) if line["kind"] == kind), None)

    def begin(self) -> None:
        """Make passes until the next generation is there, wait for its first step, and then for a checkpoint."""
        generation = len(self.seen) + 1
        if generation > 1:
            until(lambda: bool(self.lines(generation)) or not lvjobs(self.root, "resume"))
        claim = until(lambda: self.first("claim", generation))
        step = until(lambda: self.first("step", generation))
        until(lambda: self.first("checkpoint", generation))
        started = max(moment for moment in self._starts(str(claim["job_id"])) if moment <= claim["time"])
        self.seen.append(Execution(started, float(claim["time"]), float(step["time"])))

    def _starts(self, job_id: str) -> Iterator[float]:
        """Yield when Slurm started the job."""
        line = re.compile(rf"\[([\d:.T-]+)\] .*(?:Allocate|Started) JobId={job_id}\b")
        with (self.lab.layout.log / "slurmctld.log").open(encoding="utf-8") as log:
            yield from (datetime.fromisoformat(match[1]).timestamp() for each in log if (match := line.match(each)))

    def process(self, is_meant: Callable[[list[str], dict[str, str]], bool]) -> psutil.Process:
        """The one process of the study with such words and variables."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                place = " ".join([process.cwd(), *process.cmdline()])
                if str(self.root) in place and is_meant(process.cmdline(), process.environ()):
                    return process
        raise SystemExit(f"{self.root}: there is no such process")


def until(condition: Callable[[], Any]) -> Any:
    """Wait for the condition; return its value.

    Raises:
        SystemExit: it did not come in time.
    """
    deadline = time.monotonic() + _SECONDS
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing came of it in {_SECONDS:g} s")
        time.sleep(0.05)
    return value


def rank(subject: Subject) -> None:
    """Kill the rank on the second node."""
    subject.process(lambda _, variables: variables.get("RANK") == "1").kill()


def launcher(subject: Subject) -> None:
    """Kill the torchrun of the second node."""
    subject.process(lambda words, _: any("torchrun" in word for word in words) and "--node-rank=1" in words).kill()


def agent(subject: Subject) -> None:
    """Kill the process of lvjobs on the second node."""
    subject.process(
        lambda words, variables: words[1:3] == ["-m", "lvjobs.worker"] and variables.get("SLURM_NODEID") == "1"
    ).kill()


def node(subject: Subject) -> None:
    """Lose the second node, and bring it back."""
    subject.lab.fail("n2")
    subject.lab.restore("n2")


LOSSES: dict[str, Callable[[Subject], None]] = {
    "a rank": rank,
    "a launcher (torchrun)": launcher,
    "an agent": agent,
    "a node": node,
}


@contextmanager
def two_nodes() -> Iterator[Lab]:
    """A lab."""
    lab = Lab(tempfile.mkdtemp(prefix="lvlab"))
    try:
        lab.up(LabConfig(nodes=2, gpus=1, accounting=True, hold=6, kill_wait=5))
        os.environ.update(lab.environment())
        yield lab
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)


def main() -> None:
    """Lose each thing in each run; print the table."""
    parser = command_line(__doc__)
    asked = parser.parse_args()
    if asked.smoke:
        asked.repetitions = 1
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in (_UNDISTURBED, *LOSSES)}
    with two_nodes() as lab, tempfile.TemporaryDirectory(prefix="lvnodes") as scratch:
        for repetition in range(asked.repetitions):
            subject = Subject(lab, Path(scratch) / str(repetition))
            subject.submit()
            lost = 0.0
            for name, times in found.items():
                if name in LOSSES:
                    lost = time.time()
                    LOSSES[name](subject)
                subject.begin()
                seen = subject.seen[-1]
                begun = seen.started - lost if lost else 0.0
                times.append((begun, seen.claimed - seen.started, seen.stepped - seen.started))
            lvjobs(subject.root, "cancel", "run")
            until(lambda: not lab.run("squeue", "-h", "-a", "-o", "%i"))
    rows = []
    base = statistics.median(seconds for _, _, seconds in found[_UNDISTURBED])
    for name, times in found.items():
        before, claimed, seconds = (statistics.median(column) for column in zip(*times, strict=True))
        most = max(each[-1] for each in times)
        own = [f"{before:.1f}", f"{claimed:.1f}", f"{seconds:.1f}", f"{most:.1f}", f"{seconds / base:.2f}"]
        rows.append([name, *([""] if name == _UNDISTURBED else own[:1]), *own[1:]])
        rows[-1] += [f"{most / base:.2f}", f"{_GOAL:g}" if name in LOSSES else ""]
    header = [
        "lost",
        "to the next start, s",
        "claimed, s",
        "to the first step, s",
        "at most, s",
        "ratio",
        "at most",
        "goal",
    ]
    note = (
        "Peer: the undisturbed start of the same run. torchrun on two nodes, one process on each; the seconds to the "
        f"first step are from Slurm's start of the job. Medians of {asked.repetitions}, and the most."
    )
    print_table(header, rows, [note])


if __name__ == "__main__":
    main()
