"""A study on a private Slurm cluster in trouble, with nobody there; and the same study left alone, to compare it with.

    python tests/chaos/storm.py [--runs 30] [--steps 15000] [--minutes 60] [--every 10] [--seed 0]

A stage of so many runs, one from its winner, and evaluations, from one command; then only what stands in the queue goes
on. As long as it storms, something happens every so many seconds on average, at random instants drawn from the seed: of
ten times six preemptions, three SIGKILLs and a node that is lost; and now and then slurmctld is killed and started again.
Prints what happened, goodput and ETTR, and whether winners, weights and tables are those of the study left alone.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("slurm", ".")]

from driving import Study

from lvjobs.errors import UsageError
from lvjobs.forecasting.data import make_dataset
from lvjobs.lab import Lab, LabConfig, LabError

# The first line still belongs to [policy], with which the tests' usual study.toml ends.
STAGES = """
no_progress_deaths = 10

[evaluation]
series = 2

[[stage]]
name = "many"
steps = {steps}
set = {{ checkpoint_every = {every} }}
grid = {{ lora_rank = [2, 4], learning_rate = [{rates}] }}

[[stage]]
name = "last"
from = "many"
steps = {last}
set = {{ checkpoint_every = {every} }}

[[stage]]
name = "table"
zero_shot = ["raw"]
evaluate = ["many", "last"]
"""
PROGRAM = Path(__file__).parent.parent / "programs" / "counter.py"
EVENTS = ["preempted"] * 6 + ["killed"] * 3 + ["node lost"]
LEAST = 3
RESTART_EVERY = 15
"""Events between two restarts of slurmctld."""


@dataclass(frozen=True)
class Weather:
    """A storm: a fault every `every` seconds on average, for `minutes`; `seed` decides which, when and to whom."""

    minutes: float
    every: float
    seed: int = 0


def declare(study: Study, runs: int, steps: int, checkpoint_every: int) -> None:
    """The stages, under the tests' usual settings."""
    rates = ", ".join(f"{0.008 * 0.8**number:.3g}" for number in range(max(1, runs // 2)))
    path = study.root / "study.toml"
    text = STAGES.format(steps=steps, last=2 * steps, every=checkpoint_every, rates=rates)
    path.write_text(path.read_text() + text)


def submit_program(study: Study, steps: int, checkpoint_every: int) -> None:
    """One more run, of a program that knows nothing of lvjobs and saves in place."""
    words = [sys.executable, str(PROGRAM), "--steps={steps}", "--every={checkpoint_every}", "--out={out}", "--in-place"]
    pace = ["--slow-save=0.2", "--seconds-per-step=0.02"]
    options = ["--steps", str(steps), "--checkpoint-every", str(checkpoint_every), "--flops", "1e6"]
    saves = ["--checkpoint", "{out}/checkpoint.json", "--resume", "--resume={checkpoint}"]
    lines = ["--progress", r"^step (?P<step>\d+): loss (?P<loss>\S+)"]
    study.type("submit", "run", "--name", "program", *options, *saves, *lines, "--", *words, *pace)


def results(study: Study) -> tuple[dict, dict, list]:
    """Winners and why, final weights, and the tables of the evaluations: what must not depend on what died."""
    shown = study.summary()
    assert {run["state"] for run in shown["runs"]} == {"completed"}
    trained = [run["name"] for run in shown["runs"] if run["stage"] not in ("table", "run")]
    tables = json.loads(study.type("evaluate", "--table", "--json"))["tables"]
    assert [row["mae"]["value"] for table in tables for row in table["rows"]]
    winners = {stage["name"]: (stage["winner"], stage["because"]) for stage in shown["stages"]}
    weights = {name: study.weights(name) for name in trained}
    weights["program"] = (study.files("program") / "final" / "out" / "result.json").read_text()
    return winners, weights, tables


def leave_alone(root: Path, data: Path, size: tuple[int, int, int]) -> tuple[dict, dict, list]:
    """The study on this machine, with nothing to disturb it; its results."""
    study = Study(root, data, profile="local")
    declare(study, *size)
    submit_program(study, *size[1:])
    study.type("sweep", "all", "--wait", timeout=7200)
    study.until("program", "completed")
    return results(study)


class Storm:
    """The faults that happen to the jobs of a study."""

    def __init__(self, study: Study, lab: Lab, weather: Weather):
        self.met: Counter[str] = Counter()
        self._study, self._lab, self._weather = study, lab, weather
        self._random = random.Random(weather.seed)
        self._over = time.monotonic() + 60 * weather.minutes
        self._bag: list[str] = []
        self._wait()

    @property
    def is_over(self) -> bool:
        """Return whether all has happened that will: three things at least, however late."""
        return time.monotonic() > self._over and self.met.total() >= LEAST

    def _wait(self) -> None:
        self._next = time.monotonic() + self._random.expovariate(1 / self._weather.every)

    def blow(self) -> None:
        """The next thing, if it is time and there is somebody whom it can meet."""
        if self.is_over or time.monotonic() < self._next:
            return
        self._bag = self._bag or self._random.sample(EVENTS, len(EVENTS))
        with suppress(LabError, UsageError, ProcessLookupError):  # it ended just then
            if not (running := self._running()):
                return
            job_id = self._random.choice(running)
            if self.met.total() % RESTART_EVERY == RESTART_EVERY - 1:
                self._lab.kill_controller()
                self._lab.start_controller()
                self.met["slurmctld restarted"] += 1
            elif self._happens(self._bag[-1], job_id):
                self.met[self._bag.pop()] += 1
        self._wait()

    def _running(self) -> list[str]:
        rows = [line.split() for line in self._lab.run("squeue", "-h", "-r", "-t", "R", "-o", "%i %j").splitlines()]
        return [job_id for job_id, name in rows if not name.startswith(("driver.", "lab-"))]

    def _happens(self, what: str, job_id: str) -> bool:
        if what == "preempted":
            self._lab.preempt(job_id)
        elif what == "killed":
            pid = self._worker_of(job_id)
            if pid is None:
                return False  # it has not begun
            os.kill(pid, signal.SIGKILL)
        else:
            node = self._lab.run("squeue", "-h", "-r", "-j", job_id, "-o", "%N").strip()
            if not node:
                return False
            self._lab.fail(node)
            self._lab.restore(node)
        return True

    def _worker_of(self, job_id: str) -> int | None:
        names = [path.name for path in (self._study.root / "checkpoints").iterdir()]
        claims = [claim for name in names for claim in self._study.claims(name) if claim["job_id"] == job_id]
        return max(claims, key=lambda claim: claim["time"])["pid"] if claims else None


def is_over(study: Study) -> bool:
    """Return whether all stages, and all runs, are completed."""
    runs = {run["state"] for run in study.summary()["runs"]}
    return {*study.stands().values(), *runs} == {"completed"}


def weather(study: Study, lab: Lab, storm: Weather, size: tuple[int, int, int], seconds: float) -> Counter[str]:
    """One command, and from then on nobody but the storm, until all stages are completed; what happened how often."""
    study.type("sweep", "all")
    submit_program(study, *size[1:])
    trouble = Storm(study, lab, storm)
    deadline = time.monotonic() + seconds
    while not is_over(study):
        trouble.blow()
        assert time.monotonic() < deadline, study.type("status")
        time.sleep(0.2)
    while "driver." in lab.run("squeue", "-h", "-o", "%j"):  # the one that stood by makes its pass, and leaves too
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return trouble.met


def main() -> None:
    """An hour of it, by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30, help="an even number")
    parser.add_argument("--steps", type=int, default=15_000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=10, help="seconds between two deaths, on average")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    scratch, lab = Path(tempfile.mkdtemp(prefix="lvstorm")), Lab(tempfile.mkdtemp(prefix="lvlab"))
    data = scratch / "data.h5"
    make_dataset(data, systems=40, seed=0)
    size = (asked.runs, asked.steps, max(1, asked.steps // 30))
    try:
        alone = leave_alone(scratch / "alone", data, size)
        print(f"left alone: {len(alone[1])} runs, winners {alone[0]}", flush=True)
        lab.up(LabConfig(gpus=1, accounting=True, hold=7, grace=3, kill_wait=2, message_timeout=30))
        os.environ.update(lab.environment())
        study = Study(scratch / "storm", data, resources="gpus = 1", driver=True)
        declare(study, *size)
        started = time.monotonic()
        met = weather(study, lab, Weather(asked.minutes, asked.every, asked.seed), size, 4 * 60 * asked.minutes)
        wall = time.monotonic() - started
        same = results(study) == alone
        tally = study.tally()
        efficiency = json.loads(study.type("budget", "--json"))["efficiency"]
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{wall:.0f} s, {met.total()} events, one in {wall / max(1, met.total()):.1f} s: {dict(met)}")
    print(f"lost {tally.lost}, double {tally.double}, unaccounted {tally.unaccounted}; {tally.redone} steps redone")
    print(f"goodput {efficiency['goodput']:.3f}, ETTR {efficiency['ettr']:.3f}")
    print("winners, weights and tables: " + ("as if nothing had happened" if same else "OTHERS than left alone"))
    sys.exit(not same)


if __name__ == "__main__":
    main()
