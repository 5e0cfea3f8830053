"""Submitting a stage of 1 to 10,000 cells: seconds beyond the start of the process, sbatch calls, and RPCs.

    python benchmarks/submission.py [--cells 1 100 1000 10000] [--repetitions 5] [--smoke]

`lvjobs sweep` declares each cell (a row, a reservation, a cell of the stage), takes a snapshot of the code and submits
arrays; the peer is submitit's `map_array`, which pickles a function and its arguments for each. Both into the queue of
a lab whose nodes are drained, so that nothing starts. RPCs are what slurmctld counted of requests that clients make
(`sdiag`). Wall seconds, medians; the lab needs root.
"""

import json
import os
import pstats
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import alternate, command_line, output_of, peer_python, print_table, shares, version_of

from lvjobs.forecasting.data import make_dataset
from lvjobs.lab import Lab, LabConfig

STUDY = """\
profile = "lab"
[train]
model = "tiny"
data = {data}
context_length = 64
batch_size = 1
checkpoint_every = 2
validation_limit = 2
[driver]
job = false
[[stage]]
name = "many"
steps = 4
grid = {{ seed = {seeds} }}
"""

_OURS = """
import cProfile, sys, time
import lvjobs.cluster.sbatch, lvjobs.control.loop, lvjobs.control.stages.submit_runs
import lvjobs.report.terminal.status_lines, lvjobs.cli.sweep
from lvjobs.cli import main
profile = sys.argv[1:]
sys.argv[1:] = ["sweep", "many"]
began = time.monotonic()
if profile:
    cProfile.run("main()", *profile)
else:
    main()
open("took", "w").write(str(time.monotonic() - began))
"""

_PARTS = (
    "sweep:prepare_stages", "submit_runs:enter", "declare:declare", "submission_files:write_submission",
    "loop:make_pass", "observe:observe", "act:act", "advance:advance", "loop:summarise",
)  # fmt: skip
"""The functions whose share of the largest submission is shown."""

_SUBMITIT = """
import sys, time
import submitit
def train(seed):
    return seed
began = time.monotonic()
executor = submitit.AutoExecutor(folder="submitit", cluster="slurm")
executor.update_parameters(slurm_partition="low", slurm_time=10, cpus_per_task=1, slurm_mem="1G",
                           slurm_array_parallelism=10_000)
executor.map_array(train, list(range(int(sys.argv[1]))))
open("took", "w").write(str(time.monotonic() - began))
"""

_FIXED, _TIMES = 0.25, 1.5

_OF_CLIENTS = re.compile(r"^\s*(REQUEST_\w+|ACCOUNTING_\w+)\s+\(\s*\d+\)\s+count:(\d+)", re.MULTILINE)
_OF_DAEMONS = (
    "PING",
    "COMPLETE",
    "STEP",
    "EPILOG",
    "NODE_REG",
    "RECONFIGURE",
    "STATS",
    "UPDATE_NODE",
    "CANCEL",
    "KILL",
)


@contextmanager
def drained_lab() -> Iterator[Lab]:
    """A lab whose queue takes everything and starts nothing."""
    lab = Lab(tempfile.mkdtemp(prefix="lvlab"))
    try:
        lab.up(LabConfig(accounting=True, message_timeout=30))
        os.environ.update(lab.environment())
        lab.run("scontrol", "update", "nodename=ALL", "state=drain", "reason=benchmark")
        yield lab
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)


def requests(sdiag: str) -> Counter[str]:
    """How many requests of each kind clients made, by what `sdiag` printed."""
    found = _OF_CLIENTS.findall(sdiag)
    return Counter({name: int(count) for name, count in found if not any(part in name for part in _OF_DAEMONS)})


class Submission:
    """One way to submit so many cells, again and again, and what the last time took."""

    def __init__(self, lab: Lab, root: Path, command: list[str], files: dict[str, str]) -> None:
        self._lab, self._root, self._command, self._files = lab, root, command, files
        self.sbatches = self.rpcs = 0

    def __call__(self) -> float:
        """Seconds from after the imports to the last answer."""
        root = Path(tempfile.mkdtemp(dir=self._root))
        for name, text in self._files.items():
            (root / name).write_text(text, encoding="utf-8")
        self._lab.run("sdiag", "--reset")
        output_of(self._command, root)
        counted = requests(self._lab.run("sdiag"))
        self.sbatches, self.rpcs = counted["REQUEST_SUBMIT_BATCH_JOB"], counted.total()
        took = float((root / "took").read_text(encoding="utf-8"))
        self._lab.run("scancel", f"--user={os.getuid()}")
        while self._lab.run("squeue", "-h", "-a", "-o", "%i"):
            time.sleep(0.1)
        shutil.rmtree(root)
        return took


def main() -> None:
    """Each number of cells both ways; print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 100, 1000, 10_000])
    asked = parser.parse_args()
    sizes, repetitions = ([3], 1) if asked.smoke else (asked.cells, asked.repetitions)
    python = peer_python("submitit", "submitit")
    rows = []
    with drained_lab() as lab, tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_dataset(root / "data.h5", systems=40, seed=0)
        for cells in sizes:
            text = STUDY.format(data=json.dumps(str(root / "data.h5")), seeds=list(range(cells)))
            ours = Submission(lab, root, [sys.executable, "-c", _OURS], {"study.toml": text})
            theirs = Submission(lab, root, [str(python), "-c", _SUBMITIT, str(cells)], {})
            found = alternate({"ours": ours, "theirs": theirs}, repetitions)
            ratio = found["ours"] / found["theirs"]
            goal = f"{_FIXED + _TIMES * found['theirs']:.2f} s"
            calls = [ours.sbatches, theirs.sbatches, ours.rpcs, theirs.rpcs]
            rows.append([f"{cells:,}", f"{found['ours']:.2f}", f"{found['theirs']:.2f}", f"{ratio:.2f}", goal, *calls])
            if cells == max(sizes):
                profile = root / "profile"
                Submission(lab, root, [sys.executable, "-c", _OURS, str(profile)], {"study.toml": text})()
                where = shares(pstats.Stats(str(profile)), _PARTS)
    header = ["cells", "lvjobs, s", "submitit, s", "ratio", "goal", "sbatch", "submitit's", "RPCs", "submitit's"]
    note = (
        f"Peer: {version_of(python, 'submitit')}. Wall seconds, medians of {repetitions}. The goal is {_FIXED} s and "
        f"{_TIMES} times submitit's. A profile of the largest: {where} (a function includes what it calls)."
    )
    print_table(header, rows, [note])


if __name__ == "__main__":
    main()
