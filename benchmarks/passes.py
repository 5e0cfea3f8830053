"""One pass of the loop over studies of 10 to 10,000 runs: its calls of Slurm, what it reads, and its time beyond them.

    python benchmarks/passes.py [--sizes 10:10 1000:100 ...] [--real 1000] [--repetitions 5] [--smoke]

A size is runs in all, and how many of them are open. The others have ended, with two attempts each; the open ones are
in one array, half of it running, and their journals have grown by a step since the last pass. The cluster is simulated:
it answers at once, and counts what it is asked. The peer is the time that reading all of the study's rows takes, which
is what a loop has to do that keeps no account of what is over. CPU seconds, medians of passes after a first one, in a
session of their own each, with the garbage collection of the `lvjobs` command; bytes are those read of journals,
statements those put to SQLite. The last row is of a real queue: an array of so many runs in a lab whose nodes are
drained, observed with squeue and sacct; the lab needs root.
"""

import cProfile
import gc
import json
import os
import pstats
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from measuring import command_line, lvjobs, print_table, shares
from simulator.cluster import SimulatedCluster
from simulator.engine import Clock
from sqlalchemy import Engine, event
from submission import STUDY, drained_lab, requests

from lvjobs.cli import _NEW_OBJECTS
from lvjobs.cluster.protocol import Job, Snapshot
from lvjobs.control.loop import open_session
from lvjobs.control.reconcile import observe
from lvjobs.control.session import ClusterFactory, Session
from lvjobs.forecasting.data import make_dataset
from lvjobs.ledger.database import open_ledger
from lvjobs.ledger.records import AttemptRecord, RunRecord, SubmissionRecord, WorkCounts
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.run_files import Claim
from lvjobs.study.config import StudyConfig, StudyContext, load_study
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Driver
from lvjobs.study.words import Cause, LeaveCause, RunState

_TOKEN = "a" * 12
_STEPS, _EVERY = 500, 50
_GOAL = 10_000
_SIZES = [(10, 10), (1000, 100), (_GOAL, 100), (10 * _GOAL, 100), (_GOAL, _GOAL)]
_PARTS = ("observe:observe", "decide:decide", "gate:gate", "act:act", "loop:summarise", "loop:_known")
_RATES = {"official": {"training": 10**9, "validation": 10**8, "generation": 10**7}}


class Counted(SimulatedCluster):
    """A cluster that has one array in its queue, and notes each call."""

    def __init__(self, clock: Clock, members: int) -> None:
        super().__init__(clock, lambda _job: None)
        self.members = members
        self.asked: Counter[str] = Counter()

    def observe(self, *_asked: Any) -> Snapshot:
        """One squeue and one sacct, as on Slurm."""
        self.asked += Counter(["squeue", "sacct"])
        running = [
            Job(f"7_{i}", _TOKEN, i, "RUNNING" if i % 2 else "PENDING", restart_count=0) for i in range(self.members)
        ]
        return Snapshot(self.clock.now, running, [])


def fill(study: StudyContext, runs: int, open_: int, now: float) -> None:
    """The ledger, and the files of the runs that are open."""
    ledger = open_ledger(study.layout.database, 0)
    with ledger.transaction() as transaction:
        attempts = [
            each for number in range(runs) for each in _add(transaction, number, now, ended=number < runs - open_)
        ]
        transaction.save_attempts(attempts)
        ids = [_id(number) for number in range(runs - open_, runs)]
        transaction.add_submission(SubmissionRecord(_TOKEN, "lab", "slurm", now - 500, len(ids), "7"), ids)
    ledger.close()
    for number in range(runs - open_ + 1, runs, 2):
        files = study.layout.run(f"run{number}")
        files.root.mkdir(parents=True)
        claim = Claim(1, _TOKEN, "7", 0, "n", 1, now)
        files.journal(1).write_text(
            claim.to_line() + json.dumps({"kind": "start", "time": now, "resumed_from": None}) + "\n", encoding="utf-8"
        )


def _id(number: int) -> str:
    return f"{number:08x}"


def _add(transaction: Transaction, number: int, now: float, *, ended: bool) -> list[AttemptRecord]:
    """A run; returns its attempts, which are not in the ledger yet."""
    config = RunConfig(task="m:f", steps=_STEPS, checkpoint_every=_EVERY, seed=number)
    state = RunState.COMPLETED if ended else RunState.QUEUED
    run = RunRecord(
        _id(number), f"run{number}", f"stage{number % 9}", config.fingerprint, config.model_dump(mode="json"), "lab",
        {}, "c0de", now - 9000, state=state, cause=Cause.COMPLETED if ended else None, rates=_RATES,
    )  # fmt: skip
    transaction.add_runs([run])
    if not ended:
        transaction.reserve({run.id: WorkCounts(_STEPS + _EVERY, 9)})
        return []
    attempts = []
    for restart, cause in enumerate((Cause.PREEMPTED, Cause.COMPLETED)):
        first = restart * 250
        attempt = AttemptRecord(
            0, run.id, "b" * 12, f"{number}", restart, now - 8000, generation=restart + 1, ended=now - 7000,
            cause=cause, resumed_from=first, step=first + 250, executed=250, checkpoint_step=first + 250, loss=1.0,
            train_seconds=9.0, finished=bool(restart), leave_cause=LeaveCause.NONE if restart else LeaveCause.PREEMPTED,
        )  # fmt: skip
        attempts.append(attempt)
    return attempts


def read_everything(session: Session) -> float:
    """CPU seconds that it takes to read the rows that a pass needs. In its own session, for each keeps what it read."""
    began = time.process_time()
    with session.ledger.transaction() as transaction:
        transaction.runs()
        transaction.attempts()
        transaction.charges()
    return time.process_time() - began


def grow(study: StudyContext, runs: int, open_: int, step: int) -> None:
    """Every run that runs takes a step."""
    for number in range(runs - open_ + 1, runs, 2):
        with study.layout.run(f"run{number}").journal(1).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps({"kind": "step", "time": 0.0, "step": step, "loss": 1.0, "seconds": 0.1}) + "\n")


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How many statements ledgers are given meanwhile, and bytes of journals are read."""
    found: Counter[str] = Counter()
    parse = observe.parse_entries

    def noting(data: bytes) -> Any:
        found["bytes"] += len(data)
        return parse(data)

    def note(*_: Any) -> None:
        found["statements"] += 1

    event.listen(Engine, "before_cursor_execute", note)
    observe.parse_entries = noting
    try:
        yield found
    finally:
        observe.parse_entries = parse
        event.remove(Engine, "before_cursor_execute", note)


def measure(runs: int, open_: int, repetitions: int) -> tuple[list[str], pstats.Stats]:
    """A study of so many runs, passes over it, and what they took: a row of the table, and the profile of one more."""
    with tempfile.TemporaryDirectory() as root:
        study = StudyContext(root=Path(root), config=StudyConfig(profile="lab", driver=Driver(job=False), stage=[]))
        clock = Clock()
        fill(study, runs, open_, clock.now)
        cluster = Counted(clock, open_)
        times, reads = [], []
        profiler = cProfile.Profile()
        for number in range(repetitions + 2):  # the first sees claims, and journals from their beginning
            grow(study, runs, open_, number + 1)
            with open_session(study, wait=5, factory=lambda *_: cluster, clock=clock) as session:
                reads.append(read_everything(session))
            cluster.asked.clear()
            with counted() as found:
                is_last = number == repetitions + 1
                times.append(one_pass(study, lambda *_: cluster, clock, profiler if is_last else None))
        took, read = statistics.median(times[1:-1]), statistics.median(reads[1:-1])
    calls = sum(cluster.asked.values())
    return _row("simulated", runs, open_, [str(calls), *_counts(found)], took, read), pstats.Stats(profiler)


def one_pass(
    study: StudyContext,
    factory: ClusterFactory | None,
    clock: Callable[[], float],
    profiler: cProfile.Profile | None = None,
) -> float:
    """CPU seconds of a pass, this process's and its children's."""
    with open_session(study, wait=5, clock=clock, **({"factory": factory} if factory else {})) as session:
        before = _used()
        if profiler:
            profiler.enable()
        session.make_pass()
        if profiler:
            profiler.disable()
        return _used() - before


def _used() -> float:
    """CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure_real(runs: int, repetitions: int) -> list[str]:
    """The same over an array of so many cells in the queue of a real Slurm."""
    with drained_lab() as lab, tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_dataset(root / "data.h5", systems=40, seed=0)
        (root / "study.toml").write_text(
            STUDY.format(data=json.dumps(str(root / "data.h5")), seeds=list(range(runs))), encoding="utf-8"
        )
        lvjobs(root, "sweep", "many")
        study, times, reads = load_study(root), [], []
        for _ in range(repetitions + 1):
            with open_session(study, wait=5) as session:
                reads.append(read_everything(session))
            lab.run("sdiag", "--reset")
            with counted() as found:
                times.append(one_pass(study, None, time.time))
        calls = requests(lab.run("sdiag")).total()
        lab.run("scancel", f"--user={os.getuid()}")
    took, read = statistics.median(times[1:]), statistics.median(reads[1:])
    return _row("Slurm", runs, runs, [f"{calls} RPCs", *_counts(found)], took, read)


def _counts(found: Counter[str]) -> list[str]:
    return [f"{found['bytes']:,}", str(found["statements"])]


def _row(cluster: str, runs: int, open_: int, counts: Sequence[str], took: float, read: float) -> list[str]:
    goal = ("1.5 s" if open_ == runs else "1 s") if runs == _GOAL else ""
    return [cluster, f"{runs:,}", f"{open_:,}", *counts, f"{took:.3f}", f"{read:.3f}", f"{took / read:.1f}", goal]


def _size(text: str) -> tuple[int, int]:
    runs, _, open_ = text.partition(":")
    return int(runs), int(open_ or runs)


def main() -> None:
    """Measure each size; print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", type=_size, nargs="+", default=_SIZES)
    parser.add_argument("--real", type=int, default=1000, help="runs in a real queue; 0 for none")
    asked = parser.parse_args()
    gc.set_threshold(_NEW_OBJECTS)
    sizes, real, repetitions = ([(10, 10)], 3, 1) if asked.smoke else (asked.sizes, asked.real, asked.repetitions)
    measured = {size: measure(*size, repetitions) for size in sizes}
    rows = [row for row, _ in measured.values()]
    runs, open_ = max(sizes, key=lambda size: size[1])
    where = shares(measured[runs, open_][1], _PARTS)
    if real:
        rows.append(measure_real(real, repetitions))
    note = (
        f"Peer: reading the rows of runs, attempts and charges. CPU seconds, medians of {repetitions} passes. A "
        f"profile with {open_:,} runs open: {where}."
    )
    header = ["cluster", "runs", "open", "observing calls", "journal bytes", "statements", "a pass, s", "reading, s"]
    print_table([*header, "ratio", "goal"], rows, [note])


if __name__ == "__main__":
    main()
