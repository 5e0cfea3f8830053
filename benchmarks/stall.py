"""How long training waits for a checkpoint, against HF Trainer's save: as a share of every 250, 50 and 10 steps.

    python benchmarks/stall.py [--repetitions 5] [--checkpoints 10] [--directory DIRECTORY] [--smoke]

Ours is a whole attempt of a run, `python -m lvjobs.worker`, as a job starts it: what it writes is hashed, fsynced and
renamed, and old checkpoints are pruned (two stay). The peer is HF Trainer + PEFT with `save_steps` and
`save_total_limit=2`: adapter, optimizer, scheduler, random states and its own state, neither fsynced nor renamed. Both
write a checkpoint every few steps. A stall is how much longer an interval between the ends of two steps is with a
checkpoint in it than without one (medians, by the journal's times and by a callback's); beside it, what the call
itself takes. Shares are the stall of N steps over the time of N steps.

Steps of `tiny` are the study's, 4 x 512 tokens; those of SmolLM2-135M (random weights) are 1 x 128, for
time: much shorter than a study's, so its shares are bounds from above. One thread; seconds of the clock, on whatever
file system DIRECTORY is (a temporary one, unless told).
"""

import argparse
import itertools
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from measuring import alternate, command_line, print_table, run_process
from peers.tuning import Tuned, random_weights

from lvjobs.forecasting.data import make_dataset
from lvjobs.records.journal import parse_entries
from lvjobs.study.layout import RunLayout
from lvjobs.study.params import TRAIN_TASK, TrainingConfig
from lvjobs.study.run import RunConfig, RunFile

OURS, HF = "lvjobs", "HF Trainer + PEFT"
KEPT = 2
UNMEASURED = 2
"""Steps at the beginning, in which memory is taken."""
SHARES = (250, 50, 10)
STEPS = {"tiny": {"batch_size": 4, "context_length": 512}, "SmolLM2-135M": {"batch_size": 1, "context_length": 128}}


@dataclass
class Measured:
    """What the repetitions of one way gave, one value each: seconds, bytes."""

    stalls: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def add(self, ends: Sequence[float], every: int, calls: Sequence[float], size: int) -> float:
        """Take a repetition: when step 1, 2, ... ended, what calls took; return its stall."""
        intervals = {step: after - before for step, (before, after) in enumerate(itertools.pairwise(ends), 1)}
        plain = statistics.median(each for step, each in intervals.items() if step % every and step >= UNMEASURED)
        stall = statistics.median(each for step, each in intervals.items() if step % every == 0) - plain
        self.stalls.append(stall)
        self.steps.append(plain)
        self.calls.append(statistics.median(calls))
        self.sizes.append(size)
        return stall


@dataclass(frozen=True)
class Plan:
    """A training that writes a checkpoint every so many steps, `checkpoints` times before its last step."""

    config: TrainingConfig
    every: int
    checkpoints: int
    directory: Path

    @property
    def steps(self) -> int:
        """One more than the last checkpoint that counts, whose interval that step ends."""
        return self.every * self.checkpoints + 1


def ours(plan: Plan, measured: Measured) -> float:
    """A worker's attempt; its journal says when steps ended. The stall."""
    layout = RunLayout(plan.directory / "run")
    layout.root.mkdir()
    config = RunConfig(
        task=TRAIN_TASK, steps=plan.steps, checkpoint_every=plan.every, validate_every=10**6, keep_last=KEPT,
        params=plan.config.model_dump(),
    )  # fmt: skip
    run = RunFile(id="id", name="run", stage="stall", fingerprint=config.fingerprint, config=config)
    layout.config.write_text(run.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "lvjobs.worker", str(layout.root)]
    ran = run_process(command, plan.directory, {"LVJOBS_BACKEND": "local"})
    if ran.returncode:
        raise RuntimeError(
            f"the worker ended with exit code {ran.returncode}: {layout.journal(1).read_text(encoding='utf-8')[-2000:]}"
        )
    entries, _ = parse_entries(layout.journal(1).read_bytes())
    written = [entry.fields for entry in entries if entry.kind == "checkpoint"]
    ends = [entry.time for entry in entries if entry.kind == "step"]
    shutil.rmtree(layout.root)
    return measured.add(ends, plan.every, [each["seconds"] for each in written], written[-1]["bytes"])


class Watch(transformers.TrainerCallback):
    """When steps of HF Trainer ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Between a step and its checkpoint, as our journal's line is."""
        self.ends.append(time.time())


def peer(plan: Plan, tuned: Tuned, measured: Measured) -> float:
    """HF Trainer, which says itself what saves took. The stall."""
    watch = Watch()
    trainer = tuned.trainer(
        plan.steps, watch, save_strategy="steps", save_steps=plan.every, save_total_limit=KEPT, seed=0
    )
    trainer.train()
    newest = max(tuned.work.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    shutil.rmtree(tuned.work)
    return measured.add(watch.ends, plan.every, trainer.saves, size)


def compare(name: str, options: argparse.Namespace, work: Path) -> list[list[str]]:
    """Rows of one model."""
    config = TrainingConfig(
        model=random_weights(name, work, layers=2 if options.smoke else None), data=str(work / "data.h5"),
        validation_limit=1, packing=True, **STEPS[name],
    )  # fmt: skip
    plan = Plan(config, options.every, options.checkpoints, work)
    tuned = Tuned(config, work / "hf")
    found = {OURS: Measured(), HF: Measured()}
    stalls = alternate(
        {OURS: lambda: ours(plan, found[OURS]), HF: lambda: peer(plan, tuned, found[HF])}, options.repetitions
    )
    rows = []
    for way, each in found.items():
        step = statistics.median(each.steps)
        shares = [f"{100 * stalls[way] / (count * step):.3f}" for count in SHARES]
        ratio = f"{stalls[way] / stalls[OURS]:.2f}"
        times = [f"{1000 * seconds:.0f}" for seconds in (step, stalls[way], statistics.median(each.calls))]
        size = f"{statistics.median(each.sizes) / 2**20:.1f}"
        rows.append([name, way, *times, *shares, "1 %" if way == OURS else "", ratio, size])
    return rows


def file_system(directory: Path) -> str:
    """Its type, by the mount that is nearest."""
    mounts = [part for part in psutil.disk_partitions(all=True) if directory.resolve().is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "of unknown type"


def main() -> None:
    """Read the command line, measure, print."""
    parser = command_line(__doc__)
    parser.add_argument("--model", action="append", choices=list(STEPS), help="all of them")
    parser.add_argument("--checkpoints", type=int, default=10, help="of a repetition")
    parser.add_argument("--every", type=int, default=2, help="steps from one to the next")
    parser.add_argument("--directory", type=Path, help="where to write")
    options = parser.parse_args()
    if options.smoke:
        options.repetitions, options.checkpoints, options.every, options.model = 1, 1, 3, ["SmolLM2-135M"]
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    rows = []
    for name in options.model or STEPS:
        with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
            make_dataset(Path(scratch) / "data.h5", systems=40, seed=0)
            rows += compare(name, options, Path(scratch))
            where = file_system(Path(scratch))
    note = (
        f"Peer: transformers {transformers.__version__}. Medians of {options.repetitions} repetitions, each with "
        f"{options.checkpoints} checkpoints that count, one every {options.every} steps, on {where}."
    )
    shares = [f"% at {count}" for count in SHARES]
    header = ["model", "way", "step, ms", "stall, ms", "call, ms", *shares, "goal at 250", "times ours", "MiB"]
    print_table(header, rows, [note])


if __name__ == "__main__":
    main()
