"""Images for charliecloud, made by tests: a directory with static programs, and nothing else of an operating system."""

import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"
MOUNTS = ("dev", "proc", "sys", "tmp", "etc", "bin")
"""Directories that ch-run wants in an image."""


@lru_cache
def _refusal() -> str:
    """Return why no container can be started here; empty if one can."""
    missing = [name for name in ("ch-run", "cc") if shutil.which(name) is None]
    if missing:
        return f"there is no {missing[0]} here"
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        return "user namespaces are not allowed here"
    with tempfile.TemporaryDirectory() as directory:
        command = ["cc", "-static", "-o", f"{directory}/true", str(PROGRAMS / "true.c")]
        made = subprocess.run(command, capture_output=True, check=False)
    return "" if made.returncode == 0 else "the C compiler makes no static programs here"


def make_image(directory: Path, **programs: str) -> Path:
    """Make an image whose /bin has these programs, each a C source in tests/programs; skip the test where none can run."""
    if refusal := _refusal():
        pytest.skip(refusal)
    for name in MOUNTS:
        (directory / name).mkdir(parents=True)
    for name in ("passwd", "group"):
        (directory / "etc" / name).touch()
    for name, source in programs.items():
        build(PROGRAMS / source, directory / "bin" / name)
    return directory


def build(source: Path, program: Path) -> Path:
    """Compile a static program, which needs nothing of the image that it runs in."""
    subprocess.run(
        ["cc", "-O1", "-static", "-o", program, source, "-lm"], check=True, env={**os.environ, "LC_ALL": "C"}
    )
    return program
