"""The test job of `lvjobs doctor`: it trains nothing, inspects its node, and writes down what it finds."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lvjobs
from lvjobs.cluster import inside
from lvjobs.files import write_json
from lvjobs.foreign import clean
from lvjobs.records.node import ORDER, REPORT, SCRIPT, NodeReport, Torch
from lvjobs.study.program.container import ContainerConfig
from lvjobs.tasks.installed import installed
from lvjobs.worker import signals
from lvjobs.worker.container_probe import probe_container
from lvjobs.worker.environment import DONE, JobEnvironment
from lvjobs.worker.versions import versions

_SECONDS = 20.0


def probe_node(directory: Path, environment: JobEnvironment) -> int:
    """Write the report into `directory` before torch is tried, and again after: torch may exceed the job's time."""
    signals.deafen()  # a test job has nothing to save
    with contextlib.suppress(FileNotFoundError):
        (directory / REPORT).unlink()  # of an execution that was preempted
    order = json.loads((directory / ORDER).read_text(encoding="utf-8"))
    report = _report(directory, order, environment)
    write_json(directory / REPORT, clean(asdict(report)))
    if declared := order.get("container"):
        container = ContainerConfig.model_validate(declared)
        report = replace(report, container=probe_container(container, Path(order["root"]), directory))
        write_json(directory / REPORT, clean(asdict(report)))
    report = replace(report, torch=_torch())
    write_json(directory / REPORT, clean(asdict(report)))
    if environment.has_job:
        inside.forbid_requeue(environment.job_id)
    return DONE


def _report(directory: Path, order: Mapping[str, Any], environment: JobEnvironment) -> NodeReport:
    gpus, gpu_problem = _gpus()
    scratch = tempfile.gettempdir()
    is_known = not environment.has_job or inside.query_self(environment.job_id) is not None
    return NodeReport(
        host=os.uname().nodename,
        torch=None,
        node=environment.node,
        time=time.time(),
        python=sys.executable,
        code=str(Path(lvjobs.__file__).parent),
        versions=versions(installed()),
        paths={path: _problem(Path(path), mode) for path, mode in order["paths"].items()},
        scratch=scratch,
        scratch_bytes=shutil.disk_usage(scratch).free,
        scratch_problem=_unwritable(scratch),
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        gpus=gpus,
        gpu_problem=gpu_problem,
        knows_itself="" if is_known else f"scontrol show job {environment.job_id} --json does not describe this job",
        submits=inside.would_refuse(directory / SCRIPT) if environment.has_job else "",
    )


def _problem(path: Path, mode: str) -> str:
    """Return what is wrong with a path that must be readable (`r`), or writable too (`rw`); empty if nothing."""
    try:
        path.stat()
    except OSError as error:
        return str(error.strerror).lower()
    if not os.access(path, os.R_OK):
        return "may not be read"
    return _unwritable(str(path)) if "w" in mode else ""


def _unwritable(directory: str) -> str:
    """Return why the directory cannot be written. This writes a file: on network disks, permissions prove little."""
    try:
        with tempfile.TemporaryFile(dir=directory) as stream:
            stream.write(b"lvjobs")
            stream.flush()
    except OSError as error:
        return f"cannot be written: {str(error.strerror).lower()}"
    return ""


def _gpus() -> tuple[list[str], str]:
    """Return the lines of `nvidia-smi -L`, and what was wrong with it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], "there is no nvidia-smi" if isinstance(error, FileNotFoundError) else f"nvidia-smi: {error}"
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return lines, "" if done.returncode == 0 else f"nvidia-smi: {' '.join((done.stderr or done.stdout).split())}"


def _torch() -> Torch:
    """Import torch, and compute a little on each GPU: a driver that is too old fails only then."""
    begun = time.monotonic()
    try:
        import torch
    except (ImportError, OSError) as error:
        return Torch(problem=f"torch cannot be imported: {error}", seconds=time.monotonic() - begun)
    devices: list[str] = []
    problem = ""
    try:
        if torch.version.cuda is not None:
            torch.cuda.init()  # type: ignore[no-untyped-call]
        for index in range(torch.cuda.device_count()):
            total = torch.ones(1024, device=f"cuda:{index}").sum().item()
            assert total == 1024  # noqa: PLR2004 - as many as there are
            devices.append(torch.cuda.get_device_name(index))
    except (RuntimeError, AssertionError) as error:
        problem = " ".join(str(error).split())
    return Torch(str(torch.__version__), torch.version.cuda, devices, problem, time.monotonic() - begun)
