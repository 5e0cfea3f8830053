"""A study of very many runs from its first submission to its last completion, on a simulated cluster.

    python benchmarks/capacity.py [--runs 1000 10000 100000] [--part 10000] [--smoke]

Submissions of a part each, until every run is in the queue. Then all begin at once, train, and end at once, with passes
in between. Nothing is left out but Slurm and the training itself: each run has its row, reservation and line
in a submission's file, then a directory with a claim, a journal and a done marker, and in the end all is charged. The
first part's submission is set against the last's. After that `status --no-pass`, `status` and `ledger check` are typed,
and the ledger is lost and rebuilt from its log. CPU seconds, once each; `peak` is the most memory of the process that
submits and makes passes. Files are those below the study, directories too. There is no peer: the figures of fewer runs
stand beside.
"""

import gc
import json
import os
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from measuring import command_line, print_table, run_process
from simulator.cluster import SimulatedCluster
from simulator.engine import Clock, Manners, SimulatedJob

from lvjobs.cli import _NEW_OBJECTS
from lvjobs.control.loop import Loop, open_session
from lvjobs.control.stages.submit_runs import enter
from lvjobs.control.submission.declare import RunRequest
from lvjobs.records.run_files import CheckpointName, Claim, Done
from lvjobs.study.config import StudyContext, load_study
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Resources
from lvjobs.worker.submission import Submission

_DRIVER_MIB = 1000
"""`memory_mb` in slurm_templates/driver.sh.j2."""

_STEPS = 3
_TASK = """\
import lvjobs

@lvjobs.task(flops={"training": 1000, "validation": 0})
def train(run):
    raise NotImplementedError("the simulated cluster trains")
"""
_STUDY = """\
profile = "lab"
stage = []
[driver]
job = false
[train]
task = "counted:train"
steps = 3
checkpoint_every = 3
"""


class Worker:
    """What a job does: claims and begins in its first step, trains in the others, and is done after the last."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __call__(self, job: SimulatedJob) -> int | None:
        """Take a step; return the exit code at the end."""
        files = RunLayout(job.run_directory)
        if job.step == 1:
            Submission(files, job.request.token).read_run()
            claim = Claim(1, job.request.token, job.id, 0, job.node, 1, self.clock.now)
            files.journal(1).write_text(claim.to_line(), encoding="utf-8")
            self._tell(files, "start", resumed_from=None)
            return None
        self._tell(files, "step", step=job.step - 1, loss=1.0, seconds=0.1)
        if job.step <= _STEPS:
            return None
        name = CheckpointName(1, _STEPS)
        files.done.write_text(Done(1, _STEPS, str(name), self.clock.now).to_json(), encoding="utf-8")
        self._tell(files, "done", step=_STEPS)
        return 0

    def _tell(self, files: RunLayout, kind: str, **more: object) -> None:
        with files.journal(1).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps({"kind": kind, "time": self.clock.now, **more}) + "\n")


class Study:
    """The study and its cluster."""

    def __init__(self, root: Path, runs: int) -> None:
        (root / "study.toml").write_text(_STUDY, encoding="utf-8")
        (root / "counted.py").write_text(_TASK, encoding="utf-8")
        self.context: StudyContext = load_study(root)
        self.clock = Clock()
        self.cluster = SimulatedCluster(self.clock, Worker(self.clock), Manners(slots=runs))

    def within(self, work: Callable[[Loop], object]) -> float:
        """Do it in a session of its own, as a command does; return the CPU seconds."""
        before = time.process_time()
        with open_session(self.context, wait=5, factory=lambda *_: self.cluster, clock=self.clock) as session:
            work(session)
        return time.process_time() - before

    def submit(self, first: int, count: int) -> float:
        """Submit so many runs in one array; return the CPU seconds."""
        numbers = range(first, first + count)
        configs = [
            RunConfig(task="counted:train", steps=_STEPS, checkpoint_every=_STEPS, seed=number) for number in numbers
        ]
        names = [f"run{number:06d}" for number in numbers]
        wanted = RunRequest(configs, names, f"part{first}", "lab", Resources())
        return self.within(lambda session: enter(session, wanted))

    def one_pass(self) -> float:
        """Make a pass; return the CPU seconds."""
        return self.within(lambda session: session.make_pass())


def typed(root: Path, *words: str) -> tuple[float, float]:
    """Type a command of ours in the study; return its seconds and its most memory, in MiB.

    Raises:
        SystemExit: It failed.
    """
    ran = run_process([sys.executable, "-m", "lvjobs", *words], root)
    if ran.returncode:
        raise SystemExit(f"lvjobs {' '.join(words)}: exit code {ran.returncode}")
    return ran.wall, ran.peak


def live(root: Path, runs: int, part: int) -> list[float]:
    """Let a study of so many runs live; return the seconds of each phase, then this process's peak in MiB."""
    gc.set_threshold(_NEW_OBJECTS)
    study = Study(root, runs)
    submitted = [study.submit(first, min(part, runs - first)) for first in range(0, runs, part)]
    passes = [study.one_pass()]
    for seconds in (2, 1, 2, 0):  # all have begun; all have trained a step; all have ended; nothing happened
        study.cluster.advance(seconds)
        passes.append(study.one_pass())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [sum(submitted), submitted[0], submitted[-1], *passes, peak]


def measure(runs: int, part: int) -> list[str]:
    """A column of the table: the study of so many runs."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # a process that was forked begins with our peak
            *times, peak = pool.submit(live, root, runs, part).result()
        _check(root, runs)
        commands = [typed(root, *words) for words in (["status", "--no-pass"], ["status"], ["ledger", "check"])]
        files = 1 + sum(len(names) + len(more) for _, names, more in os.walk(root))
        layout = StudyLayout(root)
        sizes = [path.stat().st_size / 1e6 for path in (layout.database, layout.ledger_log)]
        layout.database.unlink()
        commands.append(typed(root, "ledger", "rebuild"))
        _check(root, runs)
    seconds = [f"{each:.2f}" for each in (*times, *(wall for wall, _ in commands))]
    peaks = [f"{each:.0f}" for each in (peak, *(most for _, most in commands))]
    return [f"{runs:,}", *seconds, *peaks, *(f"{size:.1f}" for size in sizes), f"{files:,}"]


def _check(root: Path, runs: int) -> None:
    """Refuse figures of a study in which a run is not complete. Raises SystemExit."""
    with closing(sqlite3.connect(StudyLayout(root).database)) as ledger:
        found = ledger.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall()
        (charged,) = ledger.execute("SELECT sum(units) FROM charges WHERE kind = 'useful'").fetchone()
    if found != [("completed", runs)] or charged != runs * _STEPS:
        raise SystemExit(f"of {runs} runs: {found}, {charged} steps charged")


_ROWS = (
    "runs", "submissions, s", "the first one, s", "the last one, s", "pass: all wait, s", "pass: all have begun, s",
    "pass: all train, s", "pass: all have ended, s", "pass: nothing happened, s", "`status --no-pass`, s",
    "`status`, s", "`ledger check`, s", "`ledger rebuild`, s", "peak of passes, MiB", "peak of `status --no-pass`, MiB",
    "peak of `status`, MiB", "peak of `ledger check`, MiB", "peak of `ledger rebuild`, MiB", "runs.db, MB",
    "ledger.log, MB", "files",
)  # fmt: skip


def main() -> None:
    """Measure each number of runs; print the table."""
    parser = command_line(__doc__, repeats=False)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--part", type=int, default=10_000, help="runs of one submission")
    asked = parser.parse_args()
    columns = [measure(runs, asked.part) for runs in ([20] if asked.smoke else asked.runs)]
    header, *rows = [list(row) for row in zip(_ROWS, *columns, strict=True)]
    note = f"Submissions of {asked.part:,} runs. CPU seconds of passes, wall seconds of commands, once each."
    if len(columns) > 1:
        at = _ROWS.index("peak of passes, MiB")
        (few, low), (many, high) = ((int(each[0].replace(",", "")), float(each[at])) for each in columns[-2:])
        most = few + (_DRIVER_MIB - low) / (high - low) * (many - few)
        note += (
            f" The first to break is memory: the driver's job asks for {_DRIVER_MIB} MiB by default ([driver] "
            f"memory_mb), which a pass reaches at about {most:,.0f} open runs that change at once."
        )
    print_table(header, rows, [note])


if __name__ == "__main__":
    main()
