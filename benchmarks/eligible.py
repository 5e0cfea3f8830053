"""From a death to the next attempt's being eligible: seconds for each cause, with the study's driver present.

    python benchmarks/eligible.py [--hold 120] [--causes killed hung ...] [--side-by-side 9] [--repetitions 5] [--smoke]

A lab with Slurm's usual hold on requeued jobs. Each death is provoked for real, three times side by side: of a run of
a study, of `sbatch --requeue`, and of a submitit job with a `checkpoint` method that requeues itself. It is counted
from the end of the process (node_fail: from when Slurm calls the node down; launch_failed: from the end of srun; hung:
from when the bound on silence is over) to when Slurm deems the next execution eligible, which it tells in whole
seconds, and to that execution's first line. Each death has a study and a driver of its own, so that no death is seen
because another one woke the driver; it falls, in one repetition after another, early and late in the time for which
that driver sleeps. A peer whose job was not requeued by the time that the hold would be over goes on `never`. The lab
needs root.
"""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from measuring import command_line, peer_python, print_table, version_of
from peers.mortal import Cause, Start, Subject, Submitit, gone, lines, until

from lvjobs.lab import Lab, LabConfig

_HUNG = 250.0
"""More than twice the hold, as any bound is that a study would set: the default is half an hour."""
_GRACE = 10

_STUDY = """\
profile = "lab"
[resources]
partition = "{partition}"
memory_mb = {memory}
time_limit = "{minutes}m"
[train]
task = "ticking:train"
steps = 100000
checkpoint_every = 5
[driver]
partition = "steering"
[policy]
hung_seconds = {hung}
"""

TICKING = """\
import time
import lvjobs

@lvjobs.task(flops=1000)
def train(run):
    run.resume()
    hungry = run.directory.parent.parent / "hungry"
    for step in range(run.step + 1, run.config.steps + 1):
        time.sleep(0.2)
        run.log(step, loss=1.0)
        if hungry.exists():
            hungry.unlink()
            much = b"x" * 2_000_000_000
            time.sleep(3600)
        stop = run.should_stop()
        if stop or run.due(step):
            run.checkpoint(step, {"place": {"step": step}})
        if stop:
            return
"""


class Lvjobs(Subject):
    """A study with one run, and its driver."""

    def submit(self) -> None:
        """Send its job."""
        cause = self.cause
        text = _STUDY.format(partition=cause.partition, memory=800, minutes=cause.minutes, hung=cause.hung)
        (self.root / "study.toml").write_text(text, encoding="utf-8")
        (self.root / "ticking.py").write_text(TICKING, encoding="utf-8")
        self.type(sys.executable, "-m", "lvjobs", "submit", "run", "--name", "run")

    def _journals(self) -> Iterator[list[dict[str, Any]]]:
        for path in sorted((self.root / "checkpoints" / "run").glob("*.jsonl")):
            yield lines(path)[1:]  # the first is the claim

    def starts(self) -> list[Start]:
        """All executions until now."""
        began = [journal[0] for journal in self._journals() if journal]
        return [Start(line["time"], line["pid"], line["job_id"]) for line in began]

    def is_over(self) -> bool:
        """No: a pass is to come."""
        return False

    def alive_until(self) -> float:
        """When it last showed life."""
        return float(list(self._journals())[-1][-1]["time"])

    def check(self) -> None:
        """What the ledger calls it is what was provoked."""

        def recorded() -> str:
            with contextlib.closing(sqlite3.connect(self.root / "runs.db", timeout=60)) as connection:
                rows = connection.execute("SELECT cause FROM attempts ORDER BY id LIMIT 1").fetchall()
            return rows[0][0] or "" if rows else ""

        if (cause := until(recorded)) != self.cause.provoke.__name__:
            raise SystemExit(f"{self.root}: {self.cause.provoke.__name__} was provoked, and the ledger says {cause}")

    def sleep_until_due(self, share: float) -> None:
        """Wait until the driver has so much of its sleep before it, and the run a checkpoint."""
        driver = json.loads(self.type(sys.executable, "-m", "lvjobs", "driver", "status", "--json"))["name"]
        asked = ("squeue", "-h", f"--name={driver}", "-t", "PENDING", "-o", "%r|%S")

        def left() -> float:
            """Seconds until its own next pass; 0 while it makes one."""
            rows = [row.split("|") for row in self.type("env", "SLURM_TIME_FORMAT=%s", *asked).splitlines()]
            return max((float(start) - time.time() for reason, start in rows if reason == "BeginTime"), default=0.0)

        wanted = share * (self.lab.config or LabConfig()).hold
        until(lambda: left() > wanted, pause=1.0)
        until(lambda: left() <= wanted, pause=1.0)


def preempted(subject: Subject) -> float:
    """An urgent job takes its node."""
    subject.lab.preempt(subject.starts()[-1].job_id)
    return gone(subject.starts()[0].pid)


def node_fail(subject: Subject) -> float:
    """Its node is lost, and its process lives on there."""
    node = subject.type("squeue", "-h", "-j", subject.starts()[-1].job_id, "-o", "%N")
    subject.lab.fail(node)
    return time.time()


def timeout(subject: Subject) -> float:
    """It is told shortly before the shortest time limit that Slurm knows, a minute."""
    return gone(subject.starts()[0].pid)


def killed(subject: Subject) -> float:
    """SIGKILL to the process that trains."""
    psutil.Process(subject.starts()[0].pid).kill()
    return gone(subject.starts()[0].pid)


def out_of_memory(subject: Subject) -> float:
    """It takes more memory than it asked for."""
    (subject.root / "hungry").touch()
    return gone(subject.starts()[0].pid)


def launch_failed(subject: Subject) -> float:
    """Its srun fails."""
    (subject.root / "provoked").touch()
    until((subject.root / "ended").exists)
    return float((subject.root / "ended").read_text(encoding="utf-8"))


def hung(subject: Subject) -> float:
    """Its process is stopped; the end is when the bound on a silence is over."""
    psutil.Process(subject.starts()[0].pid).suspend()
    return subject.alive_until() + subject.cause.hung


CAUSES = {
    "preempted": Cause(preempted, 5),
    "preempted, no grace": Cause(preempted, 5, "abrupt"),
    "preempted, cancelled": Cause(preempted, 5, "cancelling"),
    "timeout": Cause(timeout, 5, minutes=1),
    "killed": Cause(killed, 5),
    "out_of_memory": Cause(out_of_memory, 5),
    "launch_failed": Cause(launch_failed, launches=True),
    "node_fail": Cause(node_fail),
    "hung": Cause(hung, hung=_HUNG),
}
WAYS: dict[str, type[Subject]] = {"lvjobs": Lvjobs, "sbatch --requeue": Subject, "submitit": Submitit}
Waits = tuple[float, float] | None
"""Seconds until eligible, and until started; None: never."""


def observe(subject: Subject, share: float, hold: float) -> Waits:
    """Submit it, let it die, and wait for its next execution."""
    launches = subject.cause.launches
    subject.prepare()
    subject.submit()
    until((subject.root / "began").exists if launches else subject.starts)
    if subject.cause.provoke is not timeout:  # which comes when it comes
        subject.sleep_until_due(share)
    ended = subject.cause.provoke(subject)
    expected = 1 if launches else 2

    def is_decided() -> bool:
        return len(subject.starts()) >= expected or (time.time() > ended + hold and subject.is_over())

    until(is_decided)
    if len(subject.starts()) < expected:
        return None
    start = subject.starts()[expected - 1]
    shown = subject.type("env", "SLURM_TIME_FORMAT=%s", "scontrol", "-o", "show", "job", start.job_id)
    eligible = re.search(r"EligibleTime=(\d+)", shown)
    assert eligible is not None, shown
    subject.check()
    return float(eligible[1]) - ended, start.time - ended


@contextlib.contextmanager
def cluster(hold: int, runs: int) -> Iterator[Lab]:
    """A lab with a node for each run, some to go on at, and one for drivers."""
    lab = Lab(tempfile.mkdtemp(prefix="lvlab"))
    nodes = min(64, runs + 5)
    work = f"Nodes=n[2-{nodes}] MaxTime=60 DefaultTime=30 State=UP PriorityTier=1"
    extra = (
        f"PartitionName=work {work} PreemptMode=REQUEUE GraceTime={_GRACE}",
        f"PartitionName=abrupt {work} PreemptMode=REQUEUE GraceTime=0",
        f"PartitionName=cancelling {work} PreemptMode=CANCEL GraceTime={_GRACE}",
        "PartitionName=steering Nodes=n1 MaxTime=60 State=UP PriorityTier=1 PreemptMode=OFF",
        "JobAcctGatherParams=OverMemoryKill",
        "JobAcctGatherFrequency=task=1",
    )
    try:
        lab.up(LabConfig(nodes=nodes, gpus=1, accounting=True, hold=hold, grace=_GRACE, extra=extra))
        os.environ.update(lab.environment())
        yield lab
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)


def clear(lab: Lab) -> None:
    """Empty the queue, and bring failed nodes back."""
    lab.run("scancel", "--quiet", "--signal=KILL", "--full", f"--user={os.getuid()}")
    lab.run("scancel", "--quiet", f"--user={os.getuid()}")
    for node in lab.status().nodes:
        if not node.slurmd:
            lab.restore(node.name)
    until(lambda: not lab.run("squeue", "-h", "-a", "-o", "%i"), 180)


def shown(waits: list[Waits], which: int) -> str:
    """The median, where it goes on at all."""
    went = [wait[which] for wait in waits if wait is not None]
    return f"{statistics.median(went):.1f}" if len(went) > len(waits) / 2 else "never"


def main() -> None:
    """All causes at once, again and again; print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--hold", type=int, default=120, help="seconds for which Slurm holds a requeued job back")
    parser.add_argument("--causes", nargs="+", choices=CAUSES, default=list(CAUSES))
    parser.add_argument("--side-by-side", type=int, default=len(CAUSES), help="causes at once, each in three ways")
    asked = parser.parse_args()
    if asked.smoke:
        asked.hold, asked.causes, asked.repetitions = 7, ["preempted, no grace", "node_fail", "killed"], 1
    python = peer_python("submitit", "submitit")
    found: dict[tuple[str, str], list[Waits]] = {(cause, way): [] for cause in asked.causes for way in WAYS}
    lock = threading.Lock()
    subjects = min(asked.side_by_side, len(asked.causes)) * len(WAYS)
    with cluster(asked.hold, subjects) as lab, tempfile.TemporaryDirectory(prefix="lvdeath") as scratch:

        def one(repetition: int, number: int, cause: str, way: str) -> None:
            share = ((repetition + number) % asked.repetitions + 0.5) / asked.repetitions
            root = Path(scratch) / f"{repetition}-{number}-{way.partition(' ')[0]}"
            waits = observe(WAYS[way](lab, root, CAUSES[cause]), share, asked.hold)
            with lock:
                found[cause, way].append(waits)

        for repetition in range(asked.repetitions):
            for first in range(0, len(asked.causes), asked.side_by_side):
                at_once = list(enumerate(asked.causes))[first : first + asked.side_by_side]
                with ThreadPoolExecutor(subjects) as threads:
                    each = [threads.submit(one, repetition, *cause, way) for cause in at_once for way in WAYS]
                for future in each:
                    future.result()
                clear(lab)
    rows = []
    for cause in asked.causes:
        ours, theirs, submitits = (found[cause, way] for way in WAYS)
        cells = [shown(ours, 0), shown(ours, 1), shown(theirs, 0), shown(submitits, 0)]
        peers = [float(cell) for cell in cells[2:] if cell != "never"]
        ratio = f"{float(cells[0]) / min(peers):.2f}" if peers else ""
        rows.append([cause, *cells, ratio, f"{CAUSES[cause].goal:g} s"])
    header = ["cause", "lvjobs, s", "started, s", "sbatch --requeue, s", "submitit, s", "ratio", "goal"]
    note = (
        f"Peers: `sbatch --requeue` of Slurm itself, and {version_of(python, 'submitit')}; ratio: to the quicker. "
        f"Slurm's hold is {asked.hold} s. Seconds until eligible (started: until the next attempt's first line), "
        f"medians of {asked.repetitions}. hung: after the bound, {_HUNG:g} s of silence."
    )
    print_table(header, rows, [note])


if __name__ == "__main__":
    main()
