"""Run directories of programs, for tests that execute their attempts."""

import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from worker_helpers import executed, make_run

from lvjobs.study.program.command import COMMAND_TASK
from lvjobs.study.settings import settings_model

COUNTER = Path(__file__).parents[1] / "programs" / "counter.py"
STEPS, EVERY = 40, 10
PROGRESS = r"^step (?P<step>\d+): loss (?P<loss>\S+)"


def make_program(directory, *words, steps=STEPS, every=EVERY, command=None, **keys):
    """The run directory of counter.py with further `words`, and the `keys` of [train]."""
    own = ["--steps={steps}", "--every={checkpoint_every}", "--out={out}"]
    given = {"command": command or [sys.executable, str(COUNTER), *own, *words], "progress": [PROGRESS], "flops": 1e9}
    values = {**given, "steps": steps, "checkpoint_every": every, **keys}
    config = settings_model(values).model_validate(values).run_config()
    return make_run(directory, steps=steps, task=COMMAND_TASK, checkpoint_every=every, params=config.params)


def wait_for(condition, what):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def wait_for_step(layout, step):
    wait_for(lambda: any(done >= step for done in executed(layout)[-1:]), f"step {step}")


def processes_of(layout):
    """The processes that work in the run directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(layout.root):
                found.append(process)
    return found
