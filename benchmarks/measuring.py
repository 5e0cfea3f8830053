"""What the benchmarks have in common: alternating repetitions, medians, processes, peers' environments, one table."""

import argparse
import json
import os
import platform
import pstats
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from filelock import FileLock
from tabulate import tabulate

REPETITIONS = 5


@dataclass(frozen=True)
class Ran:
    """What a process took: seconds of wall clock, and the most memory, in MiB."""

    wall: float
    peak: float
    returncode: int


def command_line(doc: str | None, *, repeats: bool = True) -> argparse.ArgumentParser:
    """What every benchmark takes; `doc` is its module's. One whose figures are no times need not repeat anything."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if repeats:
        parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="of each way, in turn")
    parser.add_argument("--smoke", action="store_true", help="only see that it works")
    return parser


def run_process(command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> Ran:
    """Run it to its end; what it prints is thrown away."""
    measured = [sys.executable, "-I", "-S", "-c", _MEASURED, *command]
    wall, peak, code = json.loads(output_of(measured, cwd, environment))
    return Ran(wall, peak, code)


_MEASURED = """
import json, resource, subprocess, sys, time
began, null = time.monotonic(), subprocess.DEVNULL
code = subprocess.call(sys.argv[1:], stdin=null, stdout=null, stderr=null)
wall = time.monotonic() - began
print(json.dumps([wall, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, code]))
"""
"""A small process between: Linux counts what a process had before its exec, and a benchmark may hold gigabytes."""


def output_of(command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """What it prints; `environment` is added to ours.

    Raises:
        SystemExit: it failed; with the ends of what it said.
    """
    words = [str(word) for word in command]
    added = {**os.environ, **(environment or {})}
    done = subprocess.run(words, cwd=cwd, env=added, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:200]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def lvjobs(root: Path, *typed: str) -> str:
    """What a command of ours prints that is typed in the study's directory."""
    return output_of([sys.executable, "-m", "lvjobs", *typed], root)


def alternate(works: Mapping[str, Callable[[], float]], repetitions: int = REPETITIONS) -> dict[str, float]:
    """The median of each, all of them in turn so many times: what else the machine does meets them alike."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions):
        for name, work in works.items():
            taken[name].append(work())
    return {name: statistics.median(values) for name, values in taken.items()}


def peer_python(name: str, *requirements: str) -> Path:
    """The Python of a peer's own environment, made once with pip from the package registry.

    It lies below $LVJOBS_PEERS, by default ~/.cache/lvjobs-peers.
    """
    root = Path(os.environ.get("LVJOBS_PEERS", Path.home() / ".cache" / "lvjobs-peers")) / name
    python, stamp = root / "bin" / "python", root / "installed"
    wanted = " ".join(requirements)
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{root}.lock"):
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            subprocess.run([sys.executable, "-m", "venv", str(root)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
            stamp.write_text(wanted, encoding="utf-8")
    return python


def trainers_python() -> Path:
    """Of an environment with HF Trainer, Lightning and submitit, and the versions that we have of everything else."""
    ours = ("torch", "transformers", "accelerate", "peft", "numpy", "submitit")
    return peer_python("trainers", "lightning", *(f"{name}=={version(name).partition('+')[0]}" for name in ours))


def version_of(python: Path, package: str) -> str:
    """`package 1.2`, as it is installed there."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    return f"{package} {done.stdout.strip()}"


def shares(profile: pstats.Stats, functions: Sequence[str]) -> str:
    """Return what part of the profiled time each function took with all that it called, largest first: `act 15 %, ...`.

    `functions` are `module:name`, such as `act:act`.
    """
    taken: Counter[str] = Counter()
    for (path, _, name), (_, _, _, seconds, _) in profile.stats.items():  # type: ignore[attr-defined]
        taken[f"{Path(path).stem}:{name}"] += seconds
    found = sorted(((taken[each] / profile.total_tt, each) for each in functions), reverse=True)  # type: ignore[attr-defined]
    return ", ".join(f"`{each.partition(':')[2]}` {share:.0%}" for share, each in found)


def machine_line() -> str:
    """On what, in a line."""
    memory = psutil.virtual_memory().total / 2**30
    software = f"{platform.system()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {software}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()) -> None:
    """One table in Markdown, the machine below it, and what has to be known of it."""
    print(tabulate(rows, header, tablefmt="github", disable_numparse=True))
    print(f"\n{machine_line()}.")
    for note in notes:
        print(f"\n{note}")
