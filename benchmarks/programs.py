"""A program that overwrites its one checkpoint, killed at random moments: through lvjobs, and in a loop of restarts.

    python benchmarks/programs.py [--runs 20] [--kills 5] [--repetitions 5] [--size-mb 50] [--seed 0] [--smoke]

The program is tests/programs/counter.py: a checkpoint every 10 steps of 10 ms, in place, 100 ms each. Both ways start
it, wait for its first line, and kill it with all of its processes (SIGKILL) up to a second later, `--kills` times a
run. Then they let it run to its end. lvjobs is `python -m lvjobs.worker`, as a job starts it. The peer is a loop that
starts the same command again, as `sbatch --requeue` and SkyPilot do; the program itself finds its checkpoint. A run is
stuck if three starts in a row end with an error by themselves. A kill hit a save if it left a torn file.

The times are of an undisturbed run: from the start to the exit, and from the first step's line to the last step's,
through the worker and for the program alone. The program's checkpoints have `--size-mb`, and it does not slow them.
Taking a checkpoint is what the worker does to one file: link or copy, fsync, SHA-256; the peer is `shutil.copy2`.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
from measuring import alternate, command_line, print_table

from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunFile
from lvjobs.study.settings import settings_model
from lvjobs.worker.saved_files import take

_PROGRAM = Path(__file__).resolve().parent.parent / "tests" / "programs" / "counter.py"
_KILLED = ["--in-place", "--slow-save=0.1", "--size=20000", "--seconds-per-step=0.01"]
_EVERY, _STEP = 10, b"step "
_ENDS = 3
"""Errors in a row after which a run is stuck."""
_LOOP, _ALONE, _COPY = "a loop of restarts", "the program alone", "shutil.copy2"
_PLACES = {"--in-place": "{out}/checkpoint.json", "--named": "{out}/checkpoint-{step}.json"}


@dataclass
class Killed:
    """The counts of one way; `torn` counts starts that failed with a torn checkpoint."""

    kills: int = 0
    in_saves: int = 0
    torn: int = 0
    completed: int = 0
    stuck: int = 0


@dataclass
class Way:
    """One way to run the program in `root`: what is started, where its newest file and its result are."""

    root: Path
    command: list[str]
    newest: Callable[[], Path]
    result: Path


def program(steps: int, every: int, words: list[str], out: str | Path) -> list[str]:
    """Return the command of the program."""
    return [sys.executable, str(_PROGRAM), f"--steps={steps}", f"--every={every}", f"--out={out}", *words]


def run_of(root: Path, steps: int, every: int, words: list[str]) -> RunLayout:
    """Return a run directory as `submit` makes one."""
    (kind,) = _PLACES.keys() & set(words)
    values: dict[str, Any] = {
        "command": program(steps, every, words, "{out}"),
        "resume": ["--resume={checkpoint}"],
        "checkpoint": _PLACES[kind],
        "progress": [r"^step (?P<step>\d+): loss (?P<loss>\S+)"],
        "steps": steps,
        "checkpoint_every": every,
    }
    layout = RunLayout(root / "run")
    layout.root.mkdir()
    config = settings_model(values).model_validate(values).run_config()
    run = RunFile(id="id", name="run", stage="programs", fingerprint=config.fingerprint, config=config)
    layout.config.write_text(run.model_dump_json(), encoding="utf-8")
    return layout


def worker(layout: RunLayout) -> list[str]:
    """Return the command of an attempt."""
    return [sys.executable, "-m", "lvjobs.worker", str(layout.root)]


def through_lvjobs(root: Path, steps: int) -> Way:
    """Return the way through lvjobs."""
    layout = run_of(root, steps, _EVERY, _KILLED)
    return Way(
        root,
        worker(layout),
        lambda: max(layout.root.glob("*.work"), default=layout.root) / "out/checkpoint.json",
        layout.final / "out/result.json",
    )


def in_a_loop(root: Path, steps: int) -> Way:
    """Return the peer's way."""
    out = root / "out"
    command = program(steps, _EVERY, [*_KILLED, "--resume=auto"], out)
    return Way(root, command, lambda: out / "checkpoint.json", out / "result.json")


def start(command: list[str], root: Path) -> "subprocess.Popen[bytes]":
    """Start a way; its output can be read."""
    environment = {**os.environ, "LVJOBS_BACKEND": "local"}
    return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def output_lines(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    """Return what it prints."""
    assert process.stdout is not None
    return process.stdout


def kill_all(process: "subprocess.Popen[bytes]") -> bool:
    """Kill it and all processes that come from it; return False if it had ended by itself."""
    if process.poll() is not None:
        return False
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    psutil.wait_procs(below, timeout=60)
    return process.wait() < 0


def is_torn(path: Path) -> bool:
    """Return whether there is a checkpoint that cannot be read."""
    try:
        json.loads(path.read_text(encoding="utf-8") if path.exists() else "{}")
    except ValueError:
        return True
    return False


def disturb(way: Way, counts: Killed, kills: int, chance: random.Random, expected: dict[str, Any]) -> None:
    """Start and kill the program until it has its result, or is stuck.

    Raises:
        SystemExit: it ends with a wrong result.
    """
    errors, left = 0, kills
    while True:
        process = start(way.command, way.root)
        has_begun = any(line.startswith(_STEP) for line in output_lines(process))
        if has_begun and left:
            time.sleep(chance.uniform(0, 1))
            if kill_all(process):
                left -= 1
                counts.kills += 1
                counts.in_saves += is_torn(way.newest())
        with process:
            for _line in output_lines(process):
                pass
        if process.returncode > 0:
            errors += 1
            counts.torn += is_torn(way.newest())
        else:
            errors = 0
        if errors == _ENDS:
            counts.stuck += 1
            return
        if way.result.exists():
            if json.loads(way.result.read_text(encoding="utf-8")) != expected:
                raise SystemExit(f"a run ended with another result: {way.result}")
            counts.completed += 1
            return


def killed(options: argparse.Namespace, scratch: Path) -> list[list[object]]:
    """Return the rows about kills."""
    steps = 100 if options.smoke else 200
    alone = scratch / "alone"
    alone.mkdir()
    subprocess.run(program(steps, _EVERY, ["--in-place"], alone), check=True, stdout=subprocess.DEVNULL)
    expected = json.loads((alone / "result.json").read_text(encoding="utf-8"))
    counts = {through_lvjobs: Killed(), in_a_loop: Killed()}
    for number in range(options.runs):
        for make, found in counts.items():
            root = scratch / f"{make.__name__}-{number}"
            root.mkdir()
            chance = random.Random(options.seed * 1000 + number)
            disturb(make(root, steps), found, options.kills, chance, expected)
            shutil.rmtree(root)
    ours, peers = counts.values()
    return [
        [f"runs of {options.runs} that end with the one result", ours.completed, peers.completed, "", _LOOP],
        [f"runs of {options.runs} that are stuck for ever", ours.stuck, peers.stuck, "", _LOOP],
        ["kills", ours.kills, peers.kills, "", _LOOP],
        ["kills that tore the program's file", ours.in_saves, peers.in_saves, "", _LOOP],
        ["starts that got a torn checkpoint", ours.torn, peers.torn, "", _LOOP],
    ]


def undisturbed(command: list[str], root: Path, taken: dict[str, float]) -> None:
    """Run it to its end; add its seconds, and those from its first step to its last.

    Raises:
        SystemExit: it failed.
    """
    began, times = time.monotonic(), [0.0, 0.0]
    with start(command, root) as process:
        for line in output_lines(process):
            if line.startswith(_STEP):
                times = [times[0] or time.monotonic(), time.monotonic()]
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    taken["whole"], taken["steps"] = time.monotonic() - began, times[1] - times[0]


def times_of(what: str, words: list[str], options: argparse.Namespace, scratch: Path) -> list[list[object]]:
    """Return the rows about an undisturbed run of the program with these words."""
    steps, every = (20, 10) if options.smoke else (600, 100)
    taken: dict[str, list[dict[str, float]]] = {"lvjobs": [], _ALONE: []}

    def once(name: str) -> float:
        root = scratch / "undisturbed"
        root.mkdir()
        own = name == "lvjobs"
        command = worker(run_of(root, steps, every, words)) if own else program(steps, every, words, root)
        taken[name].append({})
        undisturbed(command, root, taken[name][-1])
        shutil.rmtree(root)
        return taken[name][-1]["whole"]

    alternate({name: lambda name=name: once(name) for name in taken}, options.repetitions)  # type: ignore[misc]
    rows = []
    for key, words_of in (("steps", "first step to last"), ("whole", "start to exit")):
        ours, peers = (sorted(each[key] for each in taken[name])[len(taken[name]) // 2] for name in taken)
        rows.append([f"s, {words_of}, {what}", f"{ours:.2f}", f"{peers:.2f}", f"{ours / peers:.2f}", _ALONE])
    return rows


def taking(options: argparse.Namespace, scratch: Path) -> list[list[object]]:
    """Return the rows about one checkpoint that is taken."""
    source = scratch / "checkpoint.bin"
    source.write_bytes(os.urandom(int(options.size_mb * 1e6)))
    os.sync()

    def timed(work: Callable[[Path], object]) -> float:
        target = scratch / "taken.bin"
        began = time.monotonic()
        work(target)
        seconds = time.monotonic() - began
        target.unlink()
        return seconds

    works: dict[str, Callable[[], float]] = {
        "a hard link": lambda: timed(lambda target: take(source, target, link=True)),
        "a copy": lambda: timed(lambda target: take(source, target, link=False)),
        _COPY: lambda: timed(lambda target: shutil.copy2(source, target)),
    }
    found = alternate(works, options.repetitions)
    peer = found.pop(_COPY)
    what = f"ms to take a checkpoint of {options.size_mb:g} MB"
    return [
        [f"{what}, {way}", f"{1000 * seconds:.0f}", f"{1000 * peer:.0f}", f"{seconds / peer:.2f}", _COPY]
        for way, seconds in found.items()
    ]


def main() -> None:
    """Read the command line, measure, print."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=int, default=20, help="that are killed, of each way")
    parser.add_argument("--kills", type=int, default=5, help="of a run, at most")
    parser.add_argument("--size-mb", type=float, default=50, help="of a checkpoint whose cost is measured")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    if options.smoke:
        options.runs, options.kills, options.repetitions, options.size_mb = 1, 1, 1, 1
    slow, size_mb = [f"--size={options.size_mb * 1e6:.0f}", "--seconds-per-step=0.01"], f"{options.size_mb:g} MB"
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        rows = killed(options, scratch)
        rows += times_of("small checkpoints", ["--in-place", "--seconds-per-step=0.01"], options, scratch)
        rows += times_of(f"{size_mb} by name", ["--named", *slow], options, scratch)
        rows += times_of(f"{size_mb} in place", ["--in-place", *slow], options, scratch)
        rows += taking(options, scratch)
    note = (
        f"Peers: {_LOOP} (`--resume auto`), {_ALONE}, `{_COPY}`. A run is killed at most {options.kills} times; a "
        f"stuck one no more. Steps of 10 ms; times are medians of {options.repetitions}, of 600 steps with 6 "
        "checkpoints. By name: a hard link; in place: a copy. Taking includes fsync and SHA-256; a plain copy does not."
    )
    print_table(["what", "lvjobs", "peer's", "ratio", "peer"], rows, [note])


if __name__ == "__main__":
    main()
