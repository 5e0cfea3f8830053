"""One pass of the loop over studies of 10, 1,000 and 10,000 runs: its calls of Slurm, and its time beyond them.

    python benchmarks/passes.py [--runs 10 1000 10000] [--open 100] [--repetitions 5] [--profile] [--smoke]

All runs but the last `--open` have ended, with two attempts each; those are in one array, half of it running, and
their journals have grown since the last pass. The cluster is simulated: it answers at once, and counts what it is
asked. The peer is the time that reading all of the study's rows takes, which no pass can do without; times are CPU
seconds, the median of five passes after a first one.
"""

import cProfile
import json
import pstats
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from measuring import command_line, print_table

from lvjobs.cluster.protocol import Job, Snapshot
from lvjobs.cluster.simulated import SimulatedCluster
from lvjobs.cluster.simulation import Clock
from lvjobs.control.loop import open_session
from lvjobs.control.session import Session
from lvjobs.ledger.database import open_ledger
from lvjobs.ledger.records import Attempt, Reservation, Run, Submission, Work
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import Study, StudyConfig
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Driver
from lvjobs.study.words import Cause, RunState

_TOKEN = "a" * 12
_STEPS, _EVERY = 500, 50
_GOAL = 10_000
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


def fill(study: Study, runs: int, open_: int, now: float) -> None:
    """The ledger, and the files of the runs that are open."""
    ledger = open_ledger(study.layout.database, 0)
    with ledger.transaction() as transaction:
        for number in range(runs):
            ended = number < runs - open_
            _add(transaction, number, now, ended=ended)
        ids = [_id(number) for number in range(runs - open_, runs)]
        transaction.add_submission(Submission(_TOKEN, "lab", "slurm", now - 500, len(ids), "7"), ids)
    ledger.close()
    for number in range(runs - open_ + 1, runs, 2):
        files = study.layout.run(f"run{number}")
        for directory in (files.generations, files.journals, files.revoked):
            directory.mkdir(parents=True)
        claim = {
            "generation": 1,
            "token": _TOKEN,
            "job_id": "7",
            "restart_count": 0,
            "host": "n",
            "pid": 1,
            "time": now,
        }
        files.generation(1).write_text(json.dumps(claim))
        files.journal(1).write_text(json.dumps({"kind": "start", "time": now, "resumed_from": None}) + "\n")


def _id(number: int) -> str:
    return f"{number:08x}"


def _add(transaction: Transaction, number: int, now: float, *, ended: bool) -> None:
    config = RunConfig(task="m:f", steps=_STEPS, checkpoint_every=_EVERY, seed=number)
    state = RunState.COMPLETED if ended else RunState.QUEUED
    run = Run(
        _id(number), f"run{number}", f"stage{number % 9}", config.fingerprint, config.model_dump(mode="json"), "lab",
        {}, "c0de", now - 9000, state=state, cause=Cause.COMPLETED if ended else None, rates=_RATES,
    )  # fmt: skip
    transaction.add_run(run)
    if not ended:
        transaction.reserve(Reservation(run.id, Work(_STEPS + _EVERY, 9)))
        return
    for restart, cause in enumerate((Cause.PREEMPTED, Cause.COMPLETED)):
        first = restart * 250
        attempt = Attempt(
            0, run.id, "b" * 12, f"{number}", restart, now - 8000, generation=restart + 1, ended=now - 7000,
            cause=cause, resumed_from=first, step=first + 250, executed=250, checkpoint_step=first + 250, loss=1.0,
            train_seconds=9.0, finished=bool(restart), leave_cause="" if restart else "preempted",
        )  # fmt: skip
        transaction.add_attempt(attempt)


def read_everything(session: Session) -> float:
    """CPU seconds that it takes to read the rows that a pass needs. In its own session, for each keeps what it read."""
    began = time.process_time()
    with session.ledger.transaction() as transaction:
        transaction.runs()
        transaction.attempts()
        transaction.charges()
    return time.process_time() - began


def grow(study: Study, runs: int, open_: int, step: int) -> None:
    """Every run that runs takes a step."""
    for number in range(runs - open_ + 1, runs, 2):
        with study.layout.run(f"run{number}").journal(1).open("a") as journal:
            journal.write(json.dumps({"kind": "step", "time": 0.0, "step": step, "loss": 1.0, "seconds": 0.1}) + "\n")


def measure(runs: int, open_: int, repetitions: int, *, profile: bool) -> dict[str, Any]:
    """A study of so many runs, passes over it, and what they took."""
    open_ = min(open_, runs)
    with tempfile.TemporaryDirectory() as root:
        study = Study(root=Path(root), config=StudyConfig(profile="lab", driver=Driver(job=False), stage=[]))
        clock = Clock()
        fill(study, runs, open_, clock.now)
        cluster = Counted(clock, open_)
        times, reads = [], []
        for number in range(repetitions + 1):  # the first sees claims, and journals from their beginning
            grow(study, runs, open_, number + 1)
            with open_session(study, wait=5, factory=lambda *_: cluster, clock=clock) as session:
                reads.append(read_everything(session))
            with open_session(study, wait=5, factory=lambda *_: cluster, clock=clock) as session:
                cluster.asked.clear()
                profiler = cProfile.Profile() if profile and number == repetitions else None
                began = time.process_time()
                if profiler:
                    profiler.enable()
                session.make_pass()
                if profiler:
                    profiler.disable()
                    pstats.Stats(profiler).sort_stats("cumulative").print_stats(40)
                times.append(time.process_time() - began)
        took, read = statistics.median(times[1:]), statistics.median(reads[1:])
    return {"runs": runs, "calls": sum(cluster.asked.values()), "seconds": took, "read": read}


def main() -> None:
    """Measure each size; print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 1000, 10_000])
    parser.add_argument("--open", type=int, default=100)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    sizes, repetitions = ([10], 1) if options.smoke else (options.runs, options.repetitions)
    rows = []
    for runs in sizes:
        found = measure(runs, options.open, repetitions, profile=options.profile)
        ratio = found["seconds"] / found["read"]
        goal = "1 s" if runs == _GOAL else ""
        cells = [f"{found['seconds']:.3f}", f"{found['read']:.3f}", f"{ratio:.1f}", goal]
        rows.append([f"{runs:,}", min(options.open, runs), found["calls"], *cells])
    note = f"Peer: reading the rows of runs, attempts and charges. CPU seconds, medians of {repetitions} passes."
    print_table(["runs", "open", "observing calls", "a pass, s", "reading, s", "ratio", "goal"], rows, [note])


if __name__ == "__main__":
    main()
