"""What a great many runs cost a site: bytes, files, requests to the controller; and how many runs use up a quota.

    python benchmarks/scale.py [--runs 1000 10000 100000] [--steps 40] [--passes 5] [--queue 1000] [--smoke]

Rows of a ledger are written as passes leave them: two attempts a run, all but 100 of which are over. The peer is
GridTK's database with as many jobs. Files are counted (directories too, as quotas do) after a run of `tiny` with a
checkpoint every quarter of its steps, two of which are kept; the peer is HF Trainer in a job of submitit's, with as
many saved and kept, and each step logged. Requests are all that slurmctld answers, save its nodes' own, while the
driver of a study whose one run trains makes passes in a lab; its period is Slurm's hold on requeued jobs. The peer is
`squeue --me` once a minute. What it takes of the controller's time is by `sdiag`, with so many jobs in the queue.
Nothing is repeated: but for that time these are counts. The lab needs root.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from eligible import TICKING
from measuring import command_line, lvjobs, peer_python, print_table, trainers_python, version_of
from passes import fill
from prompt import gridtk_of
from startup import chunks_of

from lvjobs.forecasting.data import make_dataset
from lvjobs.forecasting.hub import TINY_DIRECTORY
from lvjobs.lab import Lab, LabConfig
from lvjobs.study.config import load_study
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.params import TRAIN_TASK
from lvjobs.study.run import RunConfig, RunFile

_OPEN = 100
_FILES = 1_000_000
"""A user's quota on CSD3's hpc-work (and 1 TB)."""
_HOLD, _MINUTE, _HOUR = 120, 60, 3600
_USERS = 100
_PEER = Path(__file__).parent / "peers" / "resume_hf.py"
_TRAINS = {"model": "tiny", "context_length": 64, "batch_size": 1, "validation_limit": 2}

_STUDY = """\
profile = "lab"
[train]
task = "ticking:train"
steps = 1000000
checkpoint_every = 100
"""

_RPC = re.compile(r"^\s*(\w+)\s+\(\s*\d+\)\s+count:(\d+)\s+ave_time:(\d+)", re.MULTILINE)
_OF_NODES = ("NODE_REGISTRATION", "PING", "STATS_INFO", "CONTROL_STATUS")


@dataclass(frozen=True)
class Left:
    """What a training left on the disk: files and directories, and bytes of what it told of its steps, a step."""

    files: int
    a_step: float


def count(root: Path) -> int:
    """Files and directories in it, itself too."""
    return 1 + sum(1 for _ in root.rglob("*"))


def ours(root: Path, data: Path, steps: int) -> Left:
    """A run that a worker trained to its end, and its log."""
    layout = RunLayout(root)
    root.mkdir(parents=True)
    params = _TRAINS | {"data": str(data)}
    config = RunConfig(task=TRAIN_TASK, steps=steps, checkpoint_every=steps // 4, params=params)
    run = RunFile(id="0", name=root.name, stage="", fingerprint=config.fingerprint, config=config)
    layout.config.write_text(run.model_dump_json(), encoding="utf-8")
    _train([sys.executable, "-m", "lvjobs.worker", str(root)])
    beside = 1  # the log
    journal = [line for line in layout.journal(1).read_bytes().splitlines() if json.loads(line)["kind"] == "step"]
    return Left(count(root) + beside, sum(len(line) + 1 for line in journal) / len(journal))


def peer(root: Path, data: Path, steps: int, python: Path) -> Left:
    """HF Trainer, the same, in a job of submitit's."""
    root.mkdir()
    (root / "work").mkdir()
    np.save(root / "work" / "chunks.npy", chunks_of(_TRAINS | {"data": str(data)}))
    job = {"model": str(TINY_DIRECTORY), "chunks": str(root / "work" / "chunks.npy"), "rank": 4, "batch": 1}
    job |= {"output": str(root / "output"), "steps": str(root / "work" / "told"), "last": steps, "save": steps // 4}
    (root / "work" / "job.json").write_text(json.dumps(job), encoding="utf-8")
    _train([str(python), str(_PEER), str(root / "work" / "job.json"), str(root / "submitit")])
    told = sum(path.stat().st_size for path in root.glob("output/*/trainer_state.json"))  # in each checkpoint, whole
    return Left(count(root / "output") + count(root / "submitit"), told / steps)


def _train(command: list[str]) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "LVJOBS"))}
    kept |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def ledger_bytes(root: Path, runs: int, python: Path) -> tuple[float, float]:
    """Bytes a run of our ledger with so many, and of GridTK's."""
    root.mkdir()
    (root / "ours").mkdir()
    (root / "ours" / "study.toml").write_text('profile = "local"\nstage = []\n', encoding="utf-8")
    study = load_study(root / "ours")
    fill(study, runs, min(_OPEN, runs // 2), 1e9)
    theirs, _ = gridtk_of(root / "gridtk", python, runs)
    return study.layout.database.stat().st_size / runs, (theirs / "jobs.sql3").stat().st_size / runs


# -- the controller -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Requests that a while brought the controller, and the seconds that it was at them."""

    requests: float
    seconds: float

    def __mul__(self, times: float) -> "Load":
        """So often."""
        return Load(self.requests * times, self.seconds * times)


def load_of(sdiag: str) -> Load:
    """What `sdiag` counted since it was reset, its nodes' own requests left out."""
    kinds = sdiag.partition("Remote Procedure Call statistics by message type")[2].partition("statistics by user")[0]
    found = [row for row in _RPC.findall(kinds) if not any(word in row[0] for word in _OF_NODES)]
    return Load(sum(int(row[1]) for row in found), sum(int(row[1]) * int(row[2]) for row in found) / 1e6)


@contextmanager
def cluster(queued: int) -> Iterator[Lab]:
    """A lab with a queue of so many jobs that never start, whose driver comes back soon."""
    lab = Lab(tempfile.mkdtemp(prefix="lvlab"))
    try:
        lab.up(LabConfig(nodes=3, gpus=1, accounting=True, hold=7))
        os.environ.update(lab.environment())
        for _ in range(queued):  # not an array, which is one entry of the queue for as long as it waits
            lab.run("sbatch", "--hold", "--partition=low", "--wrap=true")
        yield lab
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)


def driven(lab: Lab, root: Path, passes: int) -> Load:
    """What each pass of a driver, and its coming back, brings the controller."""
    root.mkdir()
    (root / "study.toml").write_text(_STUDY, encoding="utf-8")
    (root / "ticking.py").write_text(TICKING, encoding="utf-8")
    lvjobs(root, "submit", "run", "--name", "run")
    layout = StudyLayout(root)

    def made() -> int:
        return max((int(path.name) for path in layout.lease.iterdir() if path.name.isdecimal()), default=0)

    def wait(number: int) -> None:
        deadline = time.monotonic() + 600 * passes
        while made() < number:
            if time.monotonic() > deadline:
                raise SystemExit("its driver makes no passes")
            time.sleep(0.05)

    wait(made() + 3)  # the run trains, and the driver stands
    lab.run("sdiag", "--reset")
    first = made()
    wait(first + passes)
    load = load_of(lab.run("sdiag"))
    lab.run("scancel", "--quiet", "--name=run", "--me")
    return load * (1 / passes)


def asked(lab: Lab, times: int) -> Load:
    """What a `squeue --me` brings it."""
    lab.run("sdiag", "--reset")
    for _ in range(times):
        lab.run("squeue", "--me")
    return load_of(lab.run("sdiag")) * (1 / times)


def main() -> None:
    """Count all of it; print the table."""
    parser = command_line(__doc__, repeats=False)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--steps", type=int, default=40, help="of the run whose files are counted")
    parser.add_argument("--passes", type=int, default=5, help="of a driver, while requests are counted")
    parser.add_argument("--queue", type=int, default=1000, help="jobs that wait meanwhile")
    options = parser.parse_args()
    if options.smoke:
        options.runs, options.steps, options.passes, options.queue = [10], 4, 1, 10
    gridtk, trainers = peer_python("gridtk", "gridtk"), trainers_python()
    with tempfile.TemporaryDirectory(prefix="lvscale") as scratch:
        root = Path(scratch)
        rows = [
            _row(f"bytes of the ledger a run, of {runs:,}", *ledger_bytes(root / str(runs), runs, gridtk), "GridTK")
            for runs in options.runs
        ]
        rows += _on_disk(root, options, trainers)
        with cluster(options.queue) as lab:
            ours_, theirs = driven(lab, root / "driven", options.passes), asked(lab, 20)
        rows += _of_the_controller(ours_, theirs)
    note = (
        f"Peers: {version_of(gridtk, 'gridtk')}, {version_of(trainers, 'submitit')}, "
        f"{version_of(trainers, 'transformers')}; squeue --me once a minute. `used up`: how many runs use up a million "
        f"files, or how many such users the whole of the controller's time. {options.queue:,} jobs in its queue."
    )
    print_table(["what", "lvjobs", "peer's", "ratio", "peer", "used up"], rows, [note])


def _on_disk(root: Path, options: argparse.Namespace, trainers: Path) -> list[list[str]]:
    data = root / "data.h5"
    make_dataset(data, systems=40, seed=0)
    mine, theirs = ours(root / "run", data, options.steps), peer(root / "peer", data, options.steps, trainers)
    return [
        _row("files a run", mine.files, theirs.files, "submitit, HF Trainer", f"{_FILES // mine.files:,} runs"),
        _row("bytes told of a step", mine.a_step, theirs.a_step, "trainer_state.json"),
    ]


def _of_the_controller(ours: Load, theirs: Load) -> list[list[str]]:
    mine, peer = ours * (_HOUR / _HOLD), theirs * (_HOUR / _MINUTE)
    busy, theirs_busy = (100 * _USERS * load.seconds / _HOUR for load in (mine, peer))
    users = f"{_USERS * 100 / busy:,.0f} users" if busy else ""
    return [
        _row("requests an hour and study", mine.requests, peer.requests, "squeue --me"),
        _row(f"% of slurmctld's time, {_USERS} users", busy, theirs_busy, "squeue --me", users),
    ]


def _row(what: str, mine: float, theirs: float, peer: str, used_up: str = "") -> list[str]:
    return [what, f"{mine:,.3g}" if mine < 1 else f"{mine:,.0f}", f"{theirs:,.3g}" if theirs < 1 else f"{theirs:,.0f}",
            f"{mine / theirs:.2f}" if theirs else "", peer, used_up]  # fmt: skip


if __name__ == "__main__":
    main()
