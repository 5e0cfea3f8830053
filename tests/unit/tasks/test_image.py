"""A container's image at submission: what its engine cannot run is refused in one line, and its identity is recorded."""

import hashlib
import os
from pathlib import Path

import pytest

from lvjobs.errors import UsageError
from lvjobs.study.program.command import COMMAND_TASK
from lvjobs.study.program.container import ContainerConfig
from lvjobs.study.run import RunConfig
from lvjobs.tasks import image as images
from lvjobs.tasks.image import ImageNeed, image_identity, image_problem
from lvjobs.tasks.registry import check_needs, placed

SQUASHFS = b"hsqs" + bytes(2044)
SIF = bytes(32) + b"SIF_MAGIC" + bytes(2000)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "solver.sqfs").write_bytes(SQUASHFS)
    (tmp_path / "solver.sif").write_bytes(SIF)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "solver" / "bin").mkdir(parents=True)
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def container(image, engine="charliecloud", **own):
    return ContainerConfig(image=str(image), engine=engine, **own)


@pytest.mark.parametrize(
    ("image", "engine", "words"),
    [
        ("solver", "charliecloud", ""),
        ("solver.sqfs", "charliecloud", ""),
        ("solver", "apptainer", ""),
        ("solver.sif", "apptainer", ""),
        ("solver.sqfs", "apptainer", ""),
        ("solver.sqfs", "enroot", ""),
        ("docker://python:3.12", "apptainer", ""),
        ("python:3.12", "podman-hpc", ""),
        ("gone.sif", "apptainer", "gone.sif does not exist; correct `image` under [train]"),
        ("notes.txt/x", "apptainer", "notes.txt/x: not a directory; correct `image`"),
        ("notes.txt", "apptainer", "notes.txt is no image that apptainer runs; name a file (.sif)"),
        ("solver.sif", "charliecloud", "solver.sif is no image that charliecloud runs; name an image directory or a"),
        ("solver.sif", "enroot", "solver.sif is no image that enroot runs; name a SquashFS file"),
        ("solver", "enroot", "solver is a directory; name a SquashFS file"),
        ("fifo", "charliecloud", "fifo is neither a file nor a directory; name an image directory"),
    ],
)
def test_an_image_that_the_engine_cannot_run_is_a_problem(root, image, engine, words):
    problem = image_problem(container(image, engine), root)
    assert words in problem
    assert bool(words) is bool(problem)
    assert "\n" not in problem


def config(**container):
    params = {"command": ["heat"], "flops": {"training": 1}, "container": container}
    return RunConfig(task=COMMAND_TASK, steps=10, params=params)


def test_a_run_needs_its_image_and_no_program_of_this_machine(root):
    check_needs([config(image="solver", engine="charliecloud")], root)
    with pytest.raises(UsageError, match=r"^container: .*/gone does not exist; .*; nothing was submitted$"):
        check_needs([config(image="gone", engine="charliecloud")], root)
    beside = config(image="solver", engine="charliecloud")
    beside.params["command"] = ["./heat"]
    with pytest.raises(UsageError, match="heat does not exist"):
        check_needs([beside], root)


def test_a_study_whose_path_an_engine_would_misread_is_refused(root):
    inner = root / "my study"
    inner.mkdir()
    (inner / "solver.sqfs").write_bytes(SQUASHFS)
    ImageNeed(container("solver.sqfs"), inner, (inner / "checkpoints",)).check()
    with pytest.raises(UsageError, match=r"container: enroot would misread '.*/my study/solver.sqfs'"):
        ImageNeed(container("solver.sqfs", "enroot"), inner, (inner / "checkpoints",)).check()
    with pytest.raises(UsageError, match=r"container: enroot would misread '.*/my study/checkpoints'"):
        check_needs([config(image=str(root / "solver.sqfs"), engine="enroot")], inner)


def test_a_run_of_another_directory_has_the_same_image(root):
    moved = placed(config(image="solver", engine="charliecloud"), root)
    assert moved.params["container"] == {"image": str(root / "solver"), "engine": "charliecloud"}
    named = config(image="docker://python:3.12", engine="apptainer")
    assert placed(named, root).params["container"] == named.params["container"]


def test_a_file_is_known_by_its_content_and_read_again_only_when_it_changed(root, monkeypatch):
    found = image_identity(container("solver.sqfs"), root)
    path = root / "solver.sqfs"
    assert found == {
        "engine": "charliecloud",
        "image": str(path),
        "kind": "file",
        "sha256": hashlib.sha256(SQUASHFS).hexdigest(),
    }
    read = []
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *given, **more: (read.append(self), opened(self, *given, **more))[1])
    assert image_identity(container("solver.sqfs"), root) == found
    assert path not in read
    status = path.stat()
    path.write_bytes(SQUASHFS[:-1] + b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as rsync does: the size and the time are the old ones
    assert image_identity(container("solver.sqfs"), root)["sha256"] != found["sha256"]
    assert path in read


def test_a_damaged_cache_is_not_believed(root):
    kept = root / ".lvjobs" / "images.json"
    digest = image_identity(container("solver.sqfs"), root)["sha256"]
    for text in ("", "[1]", '{"%s": 1}' % (root / "solver.sqfs"), "\x00"):
        kept.write_text(text)
        assert image_identity(container("solver.sqfs"), root)["sha256"] == digest


def test_a_directory_is_known_by_the_list_of_its_paths(root):
    def digest():
        return image_identity(container("solver"), root)["sha256"]

    first = digest()
    assert digest() == first
    assert not (root / ".lvjobs").exists()
    seen = {first}
    tool = root / "solver" / "bin" / "tool"
    for change in (
        lambda: tool.write_text("1"),
        lambda: tool.write_text("22"),
        lambda: tool.chmod(0o755),
        lambda: os.utime(tool, ns=(0, 10**9)),
        lambda: tool.rename(tool.with_name("other")),
        lambda: (root / "solver" / "sh").symlink_to("bin/other"),
        (root / "solver" / "tmp").mkdir,
    ):
        change()
        seen.add(digest())
    assert len(seen) == 8
    assert image_identity(container("solver"), root)["kind"] == "directory"


def test_a_reference_has_a_digest_only_if_it_names_one(root):
    assert image_identity(container("docker://python:3.12", "apptainer"), root) == {
        "engine": "apptainer",
        "image": "docker://python:3.12",
        "kind": "reference",
    }
    exact = image_identity(container(f"lab/solver@sha256:{'0' * 64}", "podman-hpc"), root)
    assert exact["sha256"] == "0" * 64


def test_a_large_image_is_read_in_pieces(root, monkeypatch):
    monkeypatch.setattr(images, "_CHUNK", 100)
    assert image_identity(container("solver.sqfs"), root)["sha256"] == hashlib.sha256(SQUASHFS).hexdigest()
