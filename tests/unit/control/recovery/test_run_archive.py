"""`lvjobs archive`: finished runs in one file each, which no crash loses, and which nothing else needs."""

import os
import tarfile

import pytest
from control_scenes import Scene, begun

from lvjobs.control.recovery import run_archive
from lvjobs.control.recovery.check import check
from lvjobs.errors import UsageError


@pytest.fixture
def scene(tmp_path):
    """A study whose run `one` is completed."""
    made = begun(Scene(tmp_path))
    made.go(300)
    assert made.state() == "completed"
    return made


def files_of(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def pack(scene, *names):
    with scene.session() as session:
        return run_archive.archive_runs(session, names)


def unpack(scene, *names):
    with scene.session() as session:
        return run_archive.unpack_runs(session, names)


def test_a_run_is_one_file_and_comes_back_as_it_was(scene):
    layout = scene.study.layout
    directory, path = layout.run("one").root, layout.archive("one")
    before = files_of(directory)
    assert pack(scene, "one")[0].startswith(f"one: {len(before)} files packed into {path}")
    assert [each.name for each in layout.checkpoints.iterdir()] == ["one.tar"]
    assert path.stat().st_mode & 0o077 == 0, "private, as the run was"
    assert pack(scene, "one") == ["one: is archived already"]
    with scene.session() as session:
        assert session.make_pass()["problems"] == []
    assert check(scene.study, wait=5).is_fine, "an archived run is not lost"
    assert unpack(scene, "one") == [f"one: unpacked into {directory}"]
    assert files_of(directory) == before
    assert not path.exists()


def test_links_come_back_as_they_were(scene, tmp_path):
    """A program links to data outside of its run, and to files that are gone."""
    directory = scene.study.layout.run("one").root
    work = directory / "work"
    work.mkdir()
    (work / "script.sh").write_text("true\n")
    (work / "script.sh").chmod(0o700)
    links = {"data": str(tmp_path), "gone": "/no/such/file", "above": "../../elsewhere", "near": "script.sh"}
    for name, target in links.items():
        (work / name).symlink_to(target)
    pack(scene, "one")
    assert not directory.exists()
    unpack(scene, "one")
    assert {name: str((work / name).readlink()) for name in links} == links
    assert (work / "script.sh").stat().st_mode & 0o777 == 0o700


def test_a_file_of_another_kind_is_refused_and_nothing_is_packed(scene):
    directory = scene.study.layout.run("one").root
    os.mkfifo(directory / "pipe")
    with pytest.raises(
        UsageError, match=r"pipe is neither a file, a directory nor a link; remove it, then archive one"
    ):
        pack(scene, "one")
    assert (directory / "run.json").exists()
    assert not scene.study.layout.archive("one").exists()


def test_a_run_that_is_not_finished_stays_as_it_is(tmp_path):
    scene = begun(Scene(tmp_path))
    with pytest.raises(UsageError, match="one is running, so its files are still needed; nothing was archived"):
        pack(scene, "one")
    assert scene.study.layout.run("one").config.exists()
    scene.go(300)
    assert scene.state() == "completed"


@pytest.mark.parametrize("at", ["published", "rmtree"])
def test_a_crash_leaves_the_directory_or_the_file_and_the_same_command_continues(scene, monkeypatch, at):
    layout = scene.study.layout
    before = files_of(layout.run("one").root)

    def crash(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if at == "published":
            patch.setattr(run_archive, "fsync_directory", crash)
        else:
            patch.setattr(run_archive.shutil, "rmtree", crash)
        with pytest.raises(KeyboardInterrupt):
            pack(scene, "one")
    pack(scene, "one")
    assert [each.name for each in layout.checkpoints.iterdir()] == ["one.tar"]
    unpack(scene, "one")
    assert files_of(layout.run("one").root) == before


def test_a_damaged_archive_is_kept_and_said(scene):
    pack(scene, "one")
    path = scene.study.layout.archive("one")
    data = path.read_bytes()
    path.write_bytes(data[:700])
    with pytest.raises(UsageError, match=r"one\.tar is damaged"):
        unpack(scene, "one")
    assert path.exists()
    path.write_bytes(data)
    assert unpack(scene, "one")


def test_an_archive_is_read_by_tar(scene):
    pack(scene, "one")
    with tarfile.open(scene.study.layout.archive("one")) as archive:
        assert {"one/run.json", "one/done.json"} <= {*archive.getnames()}
