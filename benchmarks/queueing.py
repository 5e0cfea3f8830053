"""From the first sbatch to a stage's winner on a busy cluster: a pack, a job for each cell, and plain submitit.

    python benchmarks/queueing.py [--repetitions 5] [--limit 4] [--others 6] [--other-seconds 8] [--smoke]

A lab of two nodes with a GPU each. Others keep `--others` jobs waiting in front of whatever is submitted, to the end;
a user may have `--limit` jobs in the queue. The stage is nine cells of `tiny`, 20 steps each, on generated
data. Nobody types anything after the one command: the study's driver goes on. The peer is submitit as its manual has
it: arrays of as many jobs as the limit allows, each trained by the same worker in a directory that lvjobs prepared, the
next array when the last has ended; nothing of it survives a death. Wall seconds, the median; the lab needs root.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit
from measuring import command_line, lvjobs, print_table

from lvjobs.api.settings import Overrides, pinned, request
from lvjobs.forecasting.data import make_dataset
from lvjobs.lab import Lab, LabConfig
from lvjobs.study.config import load_study
from lvjobs.study.run import RunFile

_STUDY = """\
profile = "lab"
[resources]
gpus = 1
[train]
model = "tiny"
data = {data}
context_length = 256
batch_size = 1
checkpoint_every = {save}
validation_limit = 4
[policy]
backoff_seconds = 1
[[stage]]
name = "stage1"
steps = {steps}
grid = {{ lora_rank = {ranks}, learning_rate = {rates} }}
"""
_WAYS = {"pack": ("--pack", "9"), "pack, 3 side by side": ("--pack", "9", "--side-by-side", "3"), "job a cell": ()}


def declare(root: Path, data: Path, ranks: list[int], rates: list[float], steps: int) -> None:
    """A study with the stage."""
    words = {"data": json.dumps(str(data)), "ranks": ranks, "rates": rates, "steps": steps, "save": max(1, steps // 2)}
    (root / "study.toml").write_text(_STUDY.format(**words), encoding="utf-8")


@contextmanager
def others(lab: Lab, waiting: int, seconds: float) -> Iterator[None]:
    """Somebody else's jobs: always so many wait, each older than what comes now."""
    done = threading.Event()
    script = ["--gres=gpu:1", "--qos=others", "--partition=low", "--no-requeue", "--output=/dev/null", "--time=5"]

    def top_up() -> None:
        while not done.wait(0.2):
            rows = lab.run("squeue", "-h", "-t", "PENDING", "--name=other", "-o", "%i").split()
            for _ in range(waiting - len(rows)):
                lab.run("sbatch", "--job-name=other", *script, f"--wrap=exec sleep {seconds:g}")

    thread = threading.Thread(target=top_up)
    thread.start()
    try:
        until(lambda: len(lab.run("squeue", "-h", "-t", "PENDING", "-o", "%i").split()) >= waiting, 120)
        yield
    finally:
        done.set()
        thread.join()
        lab.run("scancel", "--quiet", "--me")


def until(condition: Any, seconds: float) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("it did not come to an end")
        time.sleep(0.2)


def ours(root: Path, options: tuple[str, ...]) -> float:
    """Seconds until the stage is decided, by passes of the driver alone."""
    started = time.monotonic()
    lvjobs(root, "sweep", "stage1", *options)
    summary = root / ".lvjobs" / "summary.json"
    until(lambda: json.loads(summary.read_text(encoding="utf-8"))["stages"][0]["state"] == "completed", 3600)
    return time.monotonic() - started


def train(directory: str) -> int:
    """What a job of submitit's runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "LVJOBS_"))}
    command = [sys.executable, "-m", "lvjobs.worker", directory]
    return subprocess.run(command, env=environment, check=True).returncode


def prepare(root: Path) -> list[str]:
    """The directories of the stage's runs, as a worker wants them, and nothing submitted."""
    study = load_study(root)
    (stage,) = study.config.stage
    directories = []
    for number, config in enumerate(request(study, Overrides(profile="local"), pinned).configs(stage, [stage])):
        layout = study.layout.run(f"cell-{number}")
        layout.root.mkdir(parents=True)
        run = RunFile(id=str(number), name=layout.root.name, stage="", fingerprint=config.fingerprint, config=config)
        layout.config.write_text(run.model_dump_json(), encoding="utf-8")
        directories.append(str(layout.root))
    return directories


def peer(root: Path, limit: int) -> float:
    """The same runs by submitit, a full array at a time."""
    directories = prepare(root)
    executor = submitit.AutoExecutor(folder=root / "submitit", cluster="slurm")
    executor.update_parameters(
        slurm_partition="low", slurm_time=10, slurm_gres="gpu:1", cpus_per_task=1, slurm_mem="2G", slurm_qos="limited"
    )
    started = time.monotonic()
    for first in range(0, len(directories), limit):
        for job in executor.map_array(train, directories[first : first + limit]):
            job.result()
    return time.monotonic() - started


def main() -> None:
    """Each way in turn; print the ratios."""
    parser = command_line(__doc__)
    parser.add_argument("--limit", type=int, default=4, help="jobs that a user may have in the queue")
    parser.add_argument("--others", type=int, default=6, help="jobs of others that always wait")
    parser.add_argument("--other-seconds", type=float, default=8, help="how long each of them runs")
    asked = parser.parse_args()
    stage = ([2, 4, 8], [8e-3, 4e-3, 1e-3], 20)
    if asked.smoke:
        asked.repetitions, asked.others, stage = 1, 0, ([2], [8e-3, 4e-3], 2)
    lab, scratch = Lab(tempfile.mkdtemp(prefix="lvlab")), Path(tempfile.mkdtemp(prefix="lvqueue"))
    ways = ("pack",) if asked.smoke else tuple(_WAYS)
    taken: dict[str, list[float]] = {name: [] for name in (*ways, "submitit")}
    try:
        lab.up(LabConfig(nodes=2, gpus=1, accounting=True, hold=7, grace=3, message_timeout=5))
        os.environ.update(lab.environment())
        for name, most in (("others", -1), ("limited", asked.limit)):
            lab.run("sacctmgr", "-i", "-Q", "add", "qos", name, f"MaxSubmitJobsPerUser={most}")
        lab.run("sacctmgr", "-i", "-Q", "modify", "user", "root", "set", "qos+=others,limited")
        data = scratch / "data.h5"
        make_dataset(data, systems=40, seed=0)
        for repetition in range(asked.repetitions):
            for name, seconds in taken.items():
                root = scratch / f"{name.replace(' ', '-').replace(',', '')}-{repetition}"
                root.mkdir()
                declare(root, data, *stage)
                with others(lab, asked.others, asked.other_seconds):
                    is_peer = name == "submitit"
                    seconds.append(peer(root, asked.limit) if is_peer else ours(root, ("--qos=limited", *_WAYS[name])))
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
    base = statistics.median(taken["submitit"])
    rows = [
        [name, f"{statistics.median(seconds):.0f}", f"{statistics.median(seconds) / base:.2f}"]
        for name, seconds in taken.items()
    ]
    note = (
        f"Peer: submitit {submitit.__version__}. Nine cells, at most {asked.limit} jobs of a user in the queue, "
        f"{asked.others} of others always before them. Wall seconds, medians of {asked.repetitions}."
    )
    print_table(["way", "seconds", "of submitit's"], rows, [note])


if __name__ == "__main__":
    main()
