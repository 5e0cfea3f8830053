"""A small file system of its own for a test: full, or read-only, by the kernel's own word."""

import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def mounted(point):
    """4 MiB at `point`; the test is skipped where nothing can be mounted."""
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(point)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


@contextmanager
def filled(disk, left=0):
    """The disk has only `left` bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"\0" * 65536)
        except OSError:
            pass
    with filler.open("rb+") as stream:
        stream.truncate(filler.stat().st_size - left)
    yield
    filler.unlink()


@contextmanager
def read_only(disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
