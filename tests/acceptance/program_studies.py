"""Studies of the programs in tests/programs: the settings of each, its undisturbed result, and kills of its processes."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomlkit
from driving import Study, until
from program_subjects import SUBJECTS, Subject, put_files

from lvjobs.study.layout import RunLayout
from lvjobs.study.program.placeholders import arguments

LAST_FILES = {"huggingface": "trainer_state.json", "accelerate": "random_states_0.pkl"}
"""The file of a checkpoint that a library writes last, where a checkpoint is a directory."""

BITWISE = frozenset({"trainer", "trl", "accelerated", "snapshot", "heat"})
"""The programs that restore all that their result depends on."""

TOLERANCE = 0.05
"""The greatest difference between the last losses of nano.py, relative to that of the undisturbed one."""


@dataclass
class Alone:
    """The undisturbed result of each program, run outside of lvjobs once it is wanted."""

    root: Path
    printed: dict[str, str] = field(default_factory=dict)

    def final(self, name: str, **changes: Any) -> Path:
        """Return the path of the result of a program. Keys of `changes` replace those of its [train]."""
        subject, directory = SUBJECTS[name], self.root / "-".join([name, *map(str, changes.values())])
        if directory.name not in self.printed:
            (directory / "out").mkdir(parents=True)  # lvjobs makes {out} too
            put_files(subject, directory)
            values = {"seed": 0, "out": "out", **subject.train, **changes}
            values["pause"] = type(values.get("pause", 0))()
            words = arguments(values["command"], values)
            done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            self.printed[directory.name] = done.stdout
        return directory / subject.final

    def validation_loss(self, name: str) -> float:
        """Return the last loss that a program printed in a line of `validation`."""
        self.final(name)
        losses = re.findall(SUBJECTS[name].train["validation"], self.printed[name], re.MULTILINE)
        return float(losses[-1][-1])


def beside_python(patch: pytest.MonkeyPatch) -> None:
    """Let commands find python, torchrun, accelerate and trl of the environment of the tests."""
    patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


class ProgramStudy(Study):
    """A study of one program. Keys of `changes` replace those of its [train]."""

    def __init__(self, root: Path, subject: Subject, stages=(), resources=None, profile="local", **changes: Any):
        super().__init__(root, profile=profile)
        (root / "toy_task.py").unlink()
        put_files(subject, root)
        self.subject, self.train = subject, {**subject.train, "flops": 1e9, **changes}
        document = {"profile": profile, "local_slots": 2, "resources": resources or {}, "train": self.train}
        document |= {"stage": list(stages)} if stages else {}
        policy = {"backoff_seconds": 0, "unclear_seconds": 3, "lost_seconds": 5}
        policy |= {"killed_retries": 100, "no_progress_deaths": 100}
        (root / "study.toml").write_text(tomlkit.dumps({**document, "policy": policy}), encoding="utf-8")

    def layout(self, name: str) -> RunLayout:
        """Return the paths of a run."""
        return RunLayout(self.files(name))

    def final(self, name: str) -> Path:
        """Return the path of the run's result."""
        return self.layout(name).final / self.subject.final

    def works(self, name: str) -> list[Path]:
        """Return the working directories of the run's generations."""
        return sorted(self.files(name).glob("*.work"))

    def saved(self, name: str, generation: int | None = None) -> list[int]:
        """Return the steps of the checkpoints that the run, or one of its generations, published."""
        return [line["step"] for line in self.journal(name, generation) if line["kind"] == "checkpoint"]

    def program(self, name: str) -> psutil.Process | None:
        """Return the process that the run's newest worker started, if it runs."""
        with suppress(psutil.NoSuchProcess, IndexError):
            return psutil.Process(self.claims(name)[-1]["pid"]).children()[0]
        return None

    def is_inside_a_save(self, name: str, processes: list[psutil.Process]) -> bool:
        """Return whether these processes, of the newest generation, have begun a checkpoint that is not complete."""
        works, last = self.works(name), LAST_FILES.get(self.train.get("preset", ""))
        if not works:  # the run is done
            return False
        work = works[-1]
        if last:
            found = chain(work.glob("out/checkpoint-*/"), work.glob("out/epoch_*/"))
            return any(not (path / last).exists() for path in found)
        temporary = Path(tempfile.gettempdir())  # Lightning writes there, and moves the file
        return any(work in path.parents or path.parent == temporary for path in open_for_writing(processes))


def open_for_writing(processes: list[psutil.Process]) -> Iterator[Path]:
    """Yield the files that processes have open for writing, but for tables of metrics."""
    for process in processes:
        with suppress(psutil.Error):
            yield from (
                Path(each.path) for each in process.open_files() if each.mode != "r" and ".csv" not in each.path
            )


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that descend from it; none if it has ended."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def ranks(launcher: psutil.Process) -> list[psutil.Process]:
    """Return the processes that torchrun started."""
    return [process for process in launcher.children() if "snapshot.py" in process.cmdline()]


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes of which some may have ended."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def are_stopped(processes: list[psutil.Process]) -> bool:
    """Send SIGSTOP to a program's processes and wait until it has its effect; return False if the first has ended."""
    signal_all(processes, signal.SIGSTOP)
    with suppress(psutil.NoSuchProcess, IndexError):
        ended = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        while (status := processes[0].status()) not in ended:
            time.sleep(0.001)
        return status == psutil.STATUS_STOPPED
    return False


def kill(study: ProgramStudy, name: str, victim: str) -> None:
    """SIGKILL to the worker, to the program's whole tree, to the program that the worker started, or to one rank.

    What is left of the tree trains on, also where it was stopped before.
    """
    program = study.program(name)
    assert program is not None, study.story(name)
    every = tree(program)
    chosen = {
        "worker": lambda: [psutil.Process(program.ppid())],
        "program": lambda: every,
        "launcher": lambda: [program],
        "rank": lambda: ranks(program)[-1:],
    }[victim]()
    assert chosen
    signal_all(chosen, signal.SIGSTOP)
    signal_all(chosen, signal.SIGKILL)
    signal_all(every, signal.SIGCONT)


def wait_into_a_save(study: ProgramStudy, name: str, seconds: float = 60) -> bool:
    """Stop the program inside a save; return False if none was met in time. SIGKILL ends a stopped process too."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and (program := study.program(name)) is not None:
        processes = tree(program)
        for _ in range(100):  # a look for descendants takes longer than many saves
            if study.is_inside_a_save(name, processes):
                if are_stopped(processes) and study.is_inside_a_save(name, processes):
                    return True
                signal_all(processes, signal.SIGCONT)
            time.sleep(0.001)
    return False


def is_stopped_before_its_end(study: ProgramStudy, name: str) -> bool:
    """Stop the program; return False if it has ended, or has made its last step."""
    program = study.program(name)
    if program is None or not are_stopped(tree(program)) or study.layout(name).done.exists():
        return False
    is_last = study.subject.last and (study.works(name)[-1] / study.subject.last).exists()
    return max(study.executed(name), default=0) < study.train["steps"] and not is_last


def wait_for_a_checkpoint(study: ProgramStudy, name: str, generation: int = 1) -> None:
    """Wait until a generation of the run has published a checkpoint of its own."""
    until(lambda: study.saved(name, generation), 300)


def wait_a_moment(chance: random.Random, most: float) -> None:
    """Wait for a random time, `most` seconds at the most."""
    time.sleep(chance.uniform(0, most))


def end_all(study: ProgramStudy) -> None:
    """Kill each process that works for a study."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = chain(process.info["cmdline"] or (), [process.info["cwd"] or ""])
        if process.pid != os.getpid() and any(str(study.root) in word for word in words):
            signal_all([process], signal.SIGKILL)


def tensors(path: Path) -> dict[str, Any]:
    """Return the tensors in a file, by their place in it."""
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return dict(load_file(path))
    found = {}

    def visit(value: Any, place: str) -> None:
        if isinstance(value, torch.Tensor):
            found[place] = value
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
        )
        for key, each in items:
            visit(each, f"{place}/{key}")

    visit(torch.load(path, weights_only=False), "")
    return found


def are_equal(first: Path, second: Path) -> bool:
    """Return whether two files hold the same tensors, bit for bit; or, of files without tensors, the same bytes."""
    if first.suffix == ".bin":
        return first.read_bytes() == second.read_bytes()
    ours, theirs = tensors(first), tensors(second)
    assert ours
    return ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)


def verdict(name: str, study: ProgramStudy, alone: Alone, **changes: Any) -> str:
    """Compare the result of the run with that of the undisturbed program; return the comparison's result in a word.

    `changes` are the keys of [train] that the study changes.
    """
    if name in BITWISE:
        assert are_equal(study.final("run"), alone.final(name, **changes)), f"{name}: another result"
        return "bitwise"
    assert study.final("run").exists()
    if name != "nano":
        return "completed"
    losses = [line["loss"] for line in study.journal("run") if line["kind"] == "validation"]
    assert losses[-1] == pytest.approx(alone.validation_loss(name), rel=TOLERANCE)
    return f"within {TOLERANCE:.0%}"
