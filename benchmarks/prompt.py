"""How long somebody waits at the prompt: `--help`, `status` and `budget`, with 10 to 100,000 runs in the ledger.

    python benchmarks/prompt.py [--runs 10 1000 10000 100000] [--repetitions 5] [--smoke]

Seconds of whole processes, from Python's start to the prompt. All runs have ended, so that none of it is Slurm's:
GridTK, which asks Slurm about every job that it ever submitted, gets a `squeue` and a `sacct` that answer at once and
know nothing. `lvjobs status` makes its pass, compares the books and shows the study; `gridtk list` shows its jobs. The
first pass, which closes the runs, is not measured.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import alternate, command_line, peer_python, print_table, run_process, version_of
from passes import fill

from lvjobs.study.config import load_study

_LVJOBS = (sys.executable, "-m", "lvjobs")
_COMMANDS = {
    "status": (*_LVJOBS, "status"),
    "status --no-pass": (*_LVJOBS, "status", "--no-pass"),
    "budget": (*_LVJOBS, "budget"),
}

_GOAL = ("status", 10_000)

_FILL_GRIDTK = """
import sys
from pathlib import Path
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from gridtk.models import Base, Job
engine = create_engine("sqlite:///jobs.sql3")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(
        Job(name=f"run{i}", command=["run.sh"], logs_dir=Path("logs").absolute(), is_array_job=False, grid_id=i + 1,
            state="COMPLETED", exit_code="0", nodes="n1")
        for i in range(int(sys.argv[1]))
    )
    session.commit()
"""


def study_of(root: Path, runs: int) -> Path:
    """A study whose ledger has so many runs, all of them ended."""
    root.mkdir()
    (root / "study.toml").write_text('profile = "local"\nstage = []\n', encoding="utf-8")
    fill(load_study(root), runs, 0, 1e9)
    return root


def gridtk_of(root: Path, python: Path, runs: int) -> tuple[Path, dict[str, str]]:
    """A directory whose database has so many jobs, and an environment with a Slurm that answers at once."""
    root.mkdir()
    subprocess.run([str(python), "-c", _FILL_GRIDTK, str(runs)], cwd=root, check=True)
    programs = root / "bin"
    programs.mkdir()
    for name, answer in (("squeue", ""), ("sacct", '{"jobs": []}')):
        (programs / name).write_text(f"#!/bin/sh\necho '{answer}'\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    return root, {"PATH": f"{programs}:/usr/bin:/bin"}


def main() -> None:
    """Measure; print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 1000, 10_000, 100_000])
    asked = parser.parse_args()
    sizes, repetitions = ([10], 1) if asked.smoke else (asked.runs, asked.repetitions)
    python = peer_python("gridtk", "gridtk")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        ours, peer = (*_LVJOBS, "--help"), (sys.executable, "-c", "import click")
        works = {"ours": ours, "peer": peer}
        found = alternate(
            {name: lambda command=command: run_process(command, root).wall for name, command in works.items()},
            repetitions,
        )
        rows = [["`lvjobs --help`", "", *_cells(found["ours"], found["peer"]), "importing click", "1.5"]]
        for runs in sizes:
            rows += _of_a_ledger(root / str(runs), runs, python, repetitions)
    notes = [f"Peers: click alone, {version_of(python, 'gridtk')}. Wall seconds, medians of {repetitions}."]
    print_table(["command", "runs", "seconds", "peer's", "ratio", "peak MiB", "peer", "goal"], rows, notes)


def _of_a_ledger(root: Path, runs: int, python: Path, repetitions: int) -> list[list[str]]:
    root.mkdir()
    study = study_of(root / "study", runs)
    run_process(_COMMANDS["status"], study)
    directory, environment = gridtk_of(root / "gridtk", python, runs)
    listing = (str(python), "-m", "gridtk", "list")
    peaks: dict[str, float] = {}
    failed: set[str] = set()

    def timed(name: str, command: tuple[str, ...], cwd: Path, environment: dict[str, str] | None = None) -> float:
        ran = run_process(command, cwd, environment)
        peaks[name] = max(peaks.get(name, 0.0), ran.peak)
        if ran.returncode:
            failed.add(name)
        return ran.wall

    works = {name: lambda n=name, c=command: timed(n, c, study) for name, command in _COMMANDS.items()}
    works["peer"] = lambda: timed("peer", listing, directory, environment)
    found = alternate(works, repetitions)
    if failed - {"peer"}:
        raise SystemExit(f"{failed} failed with {runs} runs")
    rows = []
    for name in _COMMANDS:
        theirs = None if "peer" in failed else found["peer"]
        goal = "0.5 s" if (name, runs) == _GOAL else ""
        cells = _cells(found[name], theirs, peaks[name])
        rows.append(
            [f"`lvjobs {name}`", f"{runs:,}", *cells, "`gridtk list`" + (" (fails)" * ("peer" in failed)), goal]
        )
    return rows


def _cells(ours: float, theirs: float | None, peak: float | None = None) -> list[str]:
    memory = "" if peak is None else f"{peak:.0f}"
    if theirs is None:
        return [f"{ours:.3f}", "", "", memory]
    return [f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}", memory]


if __name__ == "__main__":
    main()
