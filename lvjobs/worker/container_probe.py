"""A test job's look into the container of a study's program (`lvjobs doctor --job`)."""

import json
import os
import subprocess
import time
from pathlib import Path

from lvjobs.errors import LvjobsError
from lvjobs.foreign import clean, cleaned
from lvjobs.records.node import Inside
from lvjobs.study.program.container import EXECUTABLES, ContainerConfig
from lvjobs.worker.program.container import Place, start_of
from lvjobs.worker.program.directory import gpus_here
from lvjobs.worker.program.process import environment_of

_SECONDS = 20.0
"""The longest that a command in the container may take; the job has a minute in all."""

_LOOK = """
import json, sys
found = {"python": sys.version.split()[0]}
try:
    import torch
    found["torch"] = torch.__version__
    found["devices"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
except ImportError:
    pass
except Exception as error:  # torch's libraries raise anything; the error is the answer
    found["problem"] = "torch: " + " ".join(str(error).split())
print(json.dumps(found))
"""
"""A program for the image's Python, of whatever version."""

_COMMANDS = (["python3", "-c", _LOOK], ["python", "-c", _LOOK], ["true"])
"""Commands that are tried in turn. An image without Python is started all the same."""


def probe_container(container: ContainerConfig, root: Path, work: Path) -> Inside:
    """Start the container in this job, and return what is in it.

    Args:
        container: The container.
        root: The study's directory.
        work: The working directory inside.
    """
    begun, problem = time.monotonic(), ""
    for command in _COMMANDS:
        try:
            done = _run(container, root, work, command)
        except FileNotFoundError:
            return Inside(problem=f"{EXECUTABLES[container.engine]} is not on PATH in the job")
        except subprocess.TimeoutExpired:
            return Inside(problem=f"no answer in {_SECONDS:.0f} s")
        except (OSError, LvjobsError) as error:
            return Inside(problem=cleaned(str(error)))
        if done.returncode == 0:
            return _found(done.stdout, time.monotonic() - begun)
        problem = problem or cleaned(" ".join((done.stderr or done.stdout).split()))
    return Inside(problem=problem or "it ended without a word")


def _run(container: ContainerConfig, root: Path, work: Path, command: list[str]) -> "subprocess.CompletedProcess[str]":
    job = environment_of(os.environ, "", {})
    words, environment = start_of(container, root, Place(work, has_gpus=gpus_here() != "0"), command, job, {})
    return subprocess.run(
        words,
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=_SECONDS,
        check=False,
    )


def _found(printed: str, seconds: float) -> Inside:
    """Return what `_LOOK` printed last; nothing but the time where another command was run."""
    lines = printed.strip().splitlines()
    try:
        found = clean(json.loads(lines[-1])) if lines else {}
        python, torch, devices = found.get("python", ""), found.get("torch", ""), found.get("devices", [])
        return Inside(str(found.get("problem", "")), str(python), str(torch), [*map(str, devices)], seconds)
    except (ValueError, AttributeError, TypeError):  # the image's own Python prints something else
        return Inside(problem=f"its Python answered {cleaned(lines[-1])!r}")
