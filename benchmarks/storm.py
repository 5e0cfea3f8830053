"""Goodput under a preemption storm: lvjobs, submitit and a plain script with HF Trainer, Lightning's auto-requeue.

    python benchmarks/storm.py [--runs 8] [--steps 1000] [--every 15] [--grace 10 0] [--seed 0] [--cap 900]
        [--repetitions 5] [--keep FILE] [--smoke]

A lab of two nodes with a GPU each; Slurm holds requeued jobs as it does on most clusters (`--hold`). Each way trains
the same runs: `tiny`, LoRA of rank 4, the same windows of 64 tokens, batch 1, a checkpoint every 250 steps. First they
are left alone; then every `--every` seconds one of the jobs that run, drawn by the seed, is preempted: an urgent job
takes its node for 3 s. With grace (GraceTime), and without: GraceTime 0 and KillWait 1, the least that Slurm has. All
of it again for each repetition, with the next seed; what ended is in `--keep`'s file and is not done again, as this
takes hours. Seconds run from before the submission to the last result; lost are those beyond what it took alone in the
same repetition. Executed steps are those in the journals, or as many lines that peers flush; useful are those of the
results.

Peers, each run a job that Slurm may requeue, told of preemptions by the signal that suits it best: submitit, an array
of checkpointable callables that save in `checkpoint()`; `sbatch --requeue` with HF Trainer's `resume_from_checkpoint`
and its just-in-time checkpoint at SIGTERM; Lightning with `SLURMEnvironment`, resuming from the newest of all its
checkpoints. An arm ends after `--cap` seconds, or when all that is left is held by Slurm for good: then not all results
are there, and what was lost is a lower bound. lvjobs also validates at each checkpoint, and runs its driver.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from measuring import command_line, lvjobs, output_of, print_table, trainers_python, version_of

from lvjobs.errors import UsageError
from lvjobs.forecasting.data import make_dataset
from lvjobs.forecasting.hub import TINY_DIRECTORY
from lvjobs.forecasting.train import Trainer
from lvjobs.lab import Lab, LabConfig
from lvjobs.records.journal import parse_entries
from lvjobs.study.params import TRAIN_TASK
from lvjobs.study.run import RunConfig

_TRAIN = {"model": "tiny", "context_length": 64, "batch_size": 1, "learning_rate": 1e-3, "validation_limit": 2}
_STUDY = """\
profile = "lab"
[resources]
gpus = 1
[evaluation]
series = 0
[train]
checkpoint_every = {save_every}
{train}
[[stage]]
name = "storm"
steps = {steps}
grid = {{ seed = {seeds} }}
"""
_PEERS = Path(__file__).resolve().parent / "peers" / "storm.py"
_SBATCH = """\
#!/bin/bash
#SBATCH --array=0-{last} --requeue --open-mode=append --signal={signal}@30 --output={root}/%a.log
#SBATCH --partition=low --gres=gpu:1 --cpus-per-task=1 --mem=2G --time=60
exec srun --ntasks=1 --kill-on-bad-exit=1 {python} {script} {way} {root} "$SLURM_ARRAY_TASK_ID"
"""
_GRACEFUL = {"submitit": "USR2", "hf": "TERM", "lightning": "USR1"}
"""Signals that the peers' manuals name; a job that has no grace gets nothing but SIGTERM."""
_NAMES = {
    "lvjobs": "lvjobs",
    "submitit": "submitit, HF Trainer",
    "hf": "sbatch --requeue, HF Trainer",
    "lightning": "Lightning auto-requeue",
}


@dataclass(frozen=True)
class Outcome:
    """What came of an arm; `wall` seconds after which it had all results, or was given up."""

    results: int
    executed: int
    preempted: int
    wall: float
    finished: bool


class Bench:
    """A cluster, and what every way gets on it."""

    def __init__(self, lab: Lab, scratch: Path, asked: argparse.Namespace, python: Path) -> None:
        self.lab, self.scratch, self.asked, self.python = lab, scratch, asked, python
        self.data, self.windows = scratch / "data.h5", scratch / "windows.npz"
        if not self.data.exists():
            make_dataset(self.data, systems=40, seed=0)
            trained = Trainer(RunConfig(task=TRAIN_TASK, steps=1, params={**_TRAIN, "data": str(self.data)})).training
            ids, attention, labels = trained.ids, trained.attention, trained.labels
            np.savez(self.windows, input_ids=ids, attention_mask=attention, labels=labels)

    def arm(self, way: str, storm: random.Random | None) -> Outcome:
        """One way, from its submission to its last result; `storm` draws whom it hits."""
        root = Path(tempfile.mkdtemp(dir=self.scratch))
        started = time.monotonic()
        (self._submit_ours if way == "lvjobs" else self._submit_peer)(root, way)
        cap = self.asked.cap if storm else 3600
        preempted, due = 0, self.asked.every
        results, executed = (_our_results, _our_steps) if way == "lvjobs" else (_their_results, _their_steps)
        while results(root) < self.asked.runs and (wall := time.monotonic() - started) < cap and self._queue():
            if storm and wall >= due:
                due += self.asked.every
                preempted += self._strike(storm)
            time.sleep(0.3)
        wall = time.monotonic() - started
        came, made = results(root), executed(root)
        self._clear()
        if not storm and came < self.asked.runs:
            raise SystemExit(f"{way}, left alone: {came} of {self.asked.runs} results\n{_logs(root)}")
        return Outcome(came, made, preempted, wall, came == self.asked.runs)

    def _submit_ours(self, root: Path, _way: str) -> None:
        train = "\n".join(
            f"{name} = {json.dumps(value)}" for name, value in (_TRAIN | {"data": str(self.data)}).items()
        )
        shape = {"save_every": self.asked.save_every, "steps": self.asked.steps, "seeds": list(range(self.asked.runs))}
        (root / "study.toml").write_text(_STUDY.format(train=train, **shape), encoding="utf-8")
        lvjobs(root, "sweep", "storm")

    def _submit_peer(self, root: Path, way: str) -> None:
        config = self.lab.config
        assert config
        signals = _GRACEFUL if config.grace else dict.fromkeys(_GRACEFUL, "TERM")
        shape = {name: getattr(self.asked, name) for name in ("runs", "steps", "save_every")}
        options = {"model": str(TINY_DIRECTORY), "windows": str(self.windows), "signals": signals, **shape}
        (root / "options.json").write_text(json.dumps(options), encoding="utf-8")
        environment = {"OMP_NUM_THREADS": "1", "SUBMITIT_PREEMPT_SIGNAL": signals["submitit"], "HF_HUB_OFFLINE": "1"}
        if way == "submitit":
            output_of([self.python, _PEERS, "submit", root], root, environment)
            return
        words = {"python": self.python, "script": _PEERS, "root": root, "way": way, "signal": signals[way]}
        (root / "job.sh").write_text(_SBATCH.format(last=self.asked.runs - 1, **words), encoding="utf-8")
        output_of(["sbatch", "job.sh"], root, environment)

    def _queue(self) -> list[list[str]]:
        """Jobs that may still run: id, name, state, node, node asked for. One of priority 0 is held for good."""
        rows = [line.split("|") for line in self.lab.run("squeue", "-h", "-r", "-o", "%i|%j|%T|%N|%n|%Q").splitlines()]
        return [row[:5] for row in rows if row[5] != "0" and row[1] != "lab-urgent"]

    def _strike(self, storm: random.Random) -> bool:
        """Preempt one of the jobs that run, unless a preemption is under way on its node."""
        taken = self.lab.run("squeue", "-h", "--name=lab-urgent", "-t", "PENDING,RUNNING", "-o", "%n").split()
        running = sorted(
            job for job, name, state, node, _ in self._queue()
            if state == "RUNNING" and not name.startswith("driver.") and node not in taken
        )  # fmt: skip
        if not running:
            return False
        try:
            self.lab.preempt(storm.choice(running))
        except UsageError:  # it ended just then
            return False
        return True

    def _clear(self) -> None:
        """Nothing of this arm is left in the queue."""
        while self.lab.run("squeue", "-h", "-a", "-o", "%i"):
            self.lab.run("scancel", "--quiet", "--me")
            time.sleep(0.5)


def _logs(root: Path) -> str:
    """The ends of what its jobs printed."""
    files = [path for pattern in ("*.log", "logs/*/*.out", "submitit/*_log.*") for path in root.glob(pattern)]
    return "\n".join(f"{path.name}:\n{path.read_text(encoding='utf-8')[-1500:]}" for path in files)


def _our_results(root: Path) -> int:
    return len(list(root.glob("checkpoints/*/done.json")))


def _our_steps(root: Path) -> int:
    journals = (parse_entries(path.read_bytes())[0] for path in root.glob("checkpoints/*/*.jsonl"))
    return sum(entry.kind == "step" for entries in journals for entry in entries)


def _their_results(root: Path) -> int:
    return len(list(root.glob("*/done")))


def _their_steps(root: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in root.glob("*/executed"))


@contextmanager
def cluster(asked: argparse.Namespace, grace: int) -> Iterator[Lab]:
    """A lab that preempts so, and that jobs of this process talk to."""
    lab = Lab(tempfile.mkdtemp(prefix="lvlab"))
    try:
        lab.up(LabConfig(nodes=2, gpus=1, accounting=True, hold=asked.hold, grace=grace, kill_wait=1, user_signal=True))
        os.environ.update(lab.environment())
        yield lab
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)


Storms = dict[tuple[int, str, int | None], Outcome]
"""What came of each repetition's arms, by way and grace; None: undisturbed."""


def read_kept(file: Path | None) -> Storms:
    """The arms that ended before."""
    if file is None or not file.exists():
        return {}
    rows = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    return {(row["repetition"], row["way"], row["grace"]): Outcome(**row["outcome"]) for row in rows}


def rows_of(grace: int, found: Storms, asked: argparse.Namespace) -> list[list[str]]:
    """The table's rows of the arms with such a grace."""
    arms = {way: [found[n, way, grace] for n in range(asked.repetitions)] for way in asked.ways}
    alone = {way: [found[n, way, None].wall for n in range(asked.repetitions)] for way in asked.ways}
    lost = {
        way: [(one.wall if one.finished else asked.cap) - calm for one, calm in zip(ones, alone[way], strict=True)]
        for way, ones in arms.items()
    }
    typical = {way: statistics.median(values) for way, values in lost.items()}
    # as soon as the upper of the middle ones was given up, the median is more than what is known of it
    unknown = {way for way, ones in arms.items() if 2 * sum(not one.finished for one in ones) >= len(ones)}
    best = min((way for way in arms if way != "lvjobs"), key=typical.__getitem__, default="lvjobs")
    rows = []
    for way, ones in arms.items():
        at_least = "> " if way in unknown else ""
        ratio = "" if way in unknown else f"{'< ' if best in unknown else ''}{typical[way] / typical[best]:.2f}"
        useful = min(one.results * asked.steps / max(1, one.executed) for one in ones)
        calm = statistics.median(alone[way])
        most = f"{'' if all(one.finished for one in ones) else '> '}{max(lost[way]):.0f}"
        rows.append([
            f"{_NAMES[way]}, {f'{grace} s of' if grace else 'no'} grace",
            f"{sum(one.results for one in ones)} of {asked.runs * len(ones)}",
            f"{statistics.median(one.preempted for one in ones):g}", f"{useful:.3f}", f"{calm:.0f}",
            f"{at_least}{typical[way]:.0f} ({min(lost[way]):.0f} to {most})",
            f"{at_least}{1 + typical[way] / calm:.2f}", ratio,
        ])  # fmt: skip
    return rows


def main() -> None:
    """All ways, undisturbed and in each storm; print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--ways", nargs="+", choices=_NAMES, default=list(_NAMES))
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000, help="of each run")
    parser.add_argument("--save-every", type=int, default=250, help="steps between two checkpoints")
    parser.add_argument("--every", type=float, default=15, help="seconds between two preemptions")
    parser.add_argument("--seed", type=int, default=0, help="of whom they hit")
    parser.add_argument("--grace", type=int, nargs="+", default=[10, 0], help="seconds; 0: none")
    parser.add_argument("--hold", type=int, default=120, help="seconds for which Slurm holds a requeued job")
    parser.add_argument("--cap", type=float, default=900, help="seconds after which an arm is given up")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="of the arms that ended, which are not done again")
    asked = parser.parse_args()
    if asked.smoke:
        asked.runs, asked.steps, asked.save_every, asked.every, asked.cap = 1, 20, 10, 1, 3
        asked.grace, asked.hold, asked.repetitions = [10], 6, 1
    python = trainers_python()
    found = read_kept(asked.keep)
    with tempfile.TemporaryDirectory(prefix="lvstorm") as scratch:
        for repetition in range(asked.repetitions):
            for grace in asked.grace:
                _storm(repetition, grace, found, Path(scratch), asked, python)
    rows = [row for grace in asked.grace for row in rows_of(grace, found, asked)]
    header = ["way", "results", "preempted", "useful", "alone, s", "lost, s", "wall / alone", "lost / best peer's"]
    versions = ", ".join(version_of(python, name) for name in ("submitit", "transformers", "lightning"))
    note = (
        f"Peers: {versions}. {asked.runs} runs of {asked.steps} steps, two at a time; a preemption every "
        f"{asked.every:g} s; Slurm holds a requeued job for {asked.hold} s; given up after {asked.cap:g} s. Medians of "
        f"{asked.repetitions} storms, each with its own seed (lost: from least to most; useful: least share of the "
        "executed steps). Goals: with grace 0.99 of the steps useful, without it at most half of the time lost that "
        "the best peer loses."
    )
    print_table(header, rows, [note])


def _storm(repetition: int, grace: int, found: Storms, scratch: Path, asked: argparse.Namespace, python: Path) -> None:
    """The arms of a repetition that are not in `found` yet: each way alone, unless it was, and in the storm."""
    arms = [(repetition, way, each) for way in asked.ways for each in (None, grace)]
    if all(arm in found for arm in arms):
        return
    with cluster(asked, grace) as lab:
        bench = Bench(lab, scratch, asked, python)
        for arm in arms:
            if arm not in found:
                _, way, storm = arm
                draws = None if storm is None else random.Random(asked.seed + repetition)
                found[arm] = bench.arm(way, draws)
                print(f"{arm}: {found[arm]}", file=sys.stderr, flush=True)
                if asked.keep:
                    row = {"repetition": repetition, "way": way, "grace": storm, "outcome": asdict(found[arm])}
                    with asked.keep.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
