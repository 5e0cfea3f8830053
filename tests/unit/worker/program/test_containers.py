"""A program in a real container (charliecloud): what reaches it, what lvjobs sees of it, and what ends with it."""

import io
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from container_images import make_image

from lvjobs.errors import LvjobsError
from lvjobs.study.program.container import ContainerConfig
from lvjobs.worker.program.container import Place, start_of
from lvjobs.worker.program.process import Program, Start, files_being_written

HOSTILE = [
    "a b",
    "'",
    "''",
    '"',
    "$(touch x)",
    "`touch x`",
    ";touch x",
    "--rm",
    "--",
    "&& touch x",
    "*",
    "\\",
    "$HOME",
    "",
]
OWN = {f"V{number}": text for number, text in enumerate([*HOSTILE, "two\nlines"])}


@pytest.fixture
def tmp_path():
    """A directory outside of /tmp, which ch-run shows in each container anyway."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def job(monkeypatch):
    """The environment of a job, as `Execution` passes it on; it lacks USER, without which ch-run ends."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    return {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": "/opt/lib", "TMPDIR": "/var/tmp", "WANDB_API_KEY": "0123456789"}


@pytest.fixture
def container(tmp_path):
    """A container whose image and working directory have names that a shell would not leave alone."""
    make_image(tmp_path / "-image; $(touch x)", show="show.c", keep="keep.c")
    return ContainerConfig(image="-image; $(touch x)", engine="charliecloud")


@pytest.fixture
def work(tmp_path):
    directory = tmp_path / "work $(touch x)'"
    directory.mkdir()
    return directory


def started(container, place, job, *command, **own):
    words, environment = start_of(container, place.work.parent, place, command, job, own)
    return Program([Start(0, words, environment)], place.work)


def wait_for(condition):
    while not condition():
        time.sleep(0.01)


def test_arguments_and_variables_reach_the_program_as_they_are(container, work, job, tmp_path):
    (tmp_path / "-image; $(touch x)" / "ch").mkdir()
    (tmp_path / "-image; $(touch x)" / "ch" / "environment").write_text("OF_THE_IMAGE=1\nV0=of the image\n")
    names = ["OF_THE_IMAGE", "WANDB_API_KEY", "LD_LIBRARY_PATH", "TMPDIR", *OWN]
    program = started(container, Place(work), job, "/bin/show", *HOSTILE, "-names-", *names, **OWN)
    wait_for(lambda: program.has_ended)
    (end,) = program.end()
    assert end.code == 0, end.tail
    values = {"OF_THE_IMAGE": "1", "WANDB_API_KEY": "0123456789", **OWN}
    said = [f"[{text}]" for text in HOSTILE] + [f"{name}[{values.get(name, '(unset)')}]" for name in names]
    assert end.tail == "\n".join(said).splitlines()
    assert list(tmp_path.rglob("x")) == []


def test_an_open_file_is_seen_and_all_processes_end(container, work, job, tmp_path):
    """The program writes a file in its working directory, and leaves a child behind in another session."""
    outside = tmp_path / "data"
    outside.mkdir()
    (outside / "seed").write_text("1")
    (work / "data").symlink_to(outside)
    program = started(container, Place(work, [outside]), job, "keep", "out.bin", "data/seed")
    printed = []
    wait_for(lambda: printed.extend(text for _, text in program.lines()) or printed or program.has_ended)
    assert not program.has_ended, printed
    (child,) = map(int, printed)
    assert files_being_written(work) == {work / "out.bin"}
    assert psutil.Process(child).name() == "keep"
    program.end()
    assert not psutil.pid_exists(child)
    assert (work / "out.bin").exists()


def test_a_path_that_the_engine_would_misread_is_an_error(container, tmp_path, job):
    with pytest.raises(LvjobsError, match=r"the container cannot be started: '/a:b' cannot be bound"):
        start_of(container, tmp_path, Place(Path("/a:b")), ["show"], job, {})


def test_the_number_of_gpus_decides_unless_the_container_does(tmp_path):
    def has_gpus(gpu, has):
        container = ContainerConfig(image="docker://python:3.12", engine="apptainer", gpu=gpu)
        return "--nv" in start_of(container, tmp_path, Place(tmp_path, has_gpus=has), ["x"], {}, {})[0]

    assert [has_gpus(None, True), has_gpus(None, False)] == [True, False]
    assert [has_gpus(False, True), has_gpus(True, False)] == [False, True]
