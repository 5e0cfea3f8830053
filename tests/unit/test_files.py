"""Many files at once: all are on disk before the first is published, and of a full disk nothing is left."""

import os
from pathlib import Path

import pytest

from lvjobs import files
from lvjobs.ledger.copies import back_up
from lvjobs.ledger.database import open_ledger
from lvjobs.ledger.lease import acquire
from lvjobs.study.layout import RunLayout
from lvjobs.tasks.code_copies import snapshot_code
from lvjobs.worker.environment import read_environment
from lvjobs.worker.generation import claim_generation


@pytest.fixture(params=[files._FEW, 0], ids=["one by one", "at once"])
def two(tmp_path, monkeypatch, request):
    monkeypatch.setattr(files, "_FEW", request.param)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("old")
    return {tmp_path / name / "run.json": f"new {name}" for name in ("one", "two")}


def test_all_are_on_disk_before_the_first_is_published_and_their_names_after_the_last(two, monkeypatch):
    happened, fsync, rename = [], os.fsync, Path.rename

    def synced(descriptor):
        fsync(descriptor)
        happened.append(("on disk", Path(f"/proc/self/fd/{descriptor}").readlink().name))

    def published(path, target):
        assert path.read_text().startswith("new")
        happened.append(("published", target.parent.name))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", published)
    files.write_many(two)
    assert [what for what, _ in happened] == ["on disk"] * 2 + ["published"] * 2 + ["on disk"] * 2
    assert [sorted(name for _, name in happened[at : at + 2]) for at in (2, 4)] == [["one", "two"]] * 2
    assert {path: path.read_text() for path in two} == two


def test_a_claim_is_on_disk_before_it_is_published(tmp_path, monkeypatch):
    happened, fsync, link = [], os.fsync, os.link

    def synced(descriptor):
        fsync(descriptor)
        happened.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    def published(aside, path):
        assert happened == [aside]
        link(aside, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", published)
    assert files.create_exclusive(tmp_path / "1", "mine")
    assert (tmp_path / "1").read_text() == "mine"


def test_a_copy_that_need_not_last_waits_for_no_disk(two, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("it waits"))
    for path, text in two.items():
        files.write_atomic(path, text, durable=False)
    assert {path: path.read_text() for path in two} == two


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("where", ["write", "fsync"])
def test_of_a_full_disk_nothing_is_left_and_nothing_is_published(two, monkeypatch, where, at):
    calls = []

    def full(*arguments, **_):
        calls.append(arguments)
        if len(calls) == at:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((files, "_write", full) if where == "write" else (os, "fsync", full)))
    with pytest.raises(OSError, match="No space left"):
        files.write_many(two)
    for path in two:
        assert path.read_text() == "old"
        assert [each.name for each in path.parent.iterdir()] == ["run.json"]


def test_writing_no_files_touches_no_disk(monkeypatch):
    def touch(*_):
        raise AssertionError("the disk was touched")

    for name in ("open", "mkdir", "rename", "replace", "fsync", "listdir"):
        monkeypatch.setattr(os, name, touch)
    files.write_many({})


def test_a_new_directorys_name_is_on_disk_and_one_that_is_there_waits_for_none(tmp_path, monkeypatch):
    happened, fsync = [], os.fsync

    def synced(descriptor):
        happened.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    for _ in range(2):
        files.make_directory(tmp_path / "new")
        assert (tmp_path / "new").is_dir()
    assert happened == [tmp_path]


@pytest.fixture
def shared(tmp_path):
    """A directory in which others may write, and have laid links to `victim` at names that files once had aside."""
    directory, victim = tmp_path / "shared", tmp_path / "victim"
    directory.mkdir(mode=0o770)
    victim.write_text("precious")
    owner = f"{os.uname().nodename}.{os.getpid()}"
    for name in (f".new.{owner}.tmp", f".new.{owner}.claim"):
        (directory / name).symlink_to(victim)
    return directory


PUBLISH = {"replaced": files.write_atomic, "claimed": files.create_exclusive}


@pytest.mark.parametrize("publish", PUBLISH.values(), ids=PUBLISH)
def test_a_link_that_lies_in_wait_at_a_guessed_name_is_not_written_through(shared, publish):
    publish(shared / "new", "text")
    assert (shared.parent / "victim").read_text() == "precious"
    assert (shared / "new").read_text() == "text"
    assert (shared / "new").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("publish", PUBLISH.values(), ids=PUBLISH)
def test_a_link_that_lies_at_the_very_name_is_an_error_and_is_not_written_through(shared, publish, monkeypatch):
    monkeypatch.setattr(os, "urandom", lambda count: b"\0" * count)
    files.aside_of(shared / "new").symlink_to(shared.parent / "victim")
    with pytest.raises(FileExistsError):
        publish(shared / "new", "text")
    assert (shared.parent / "victim").read_text() == "precious"
    assert not (shared / "new").exists()


def test_two_files_aside_never_have_the_same_name(tmp_path):
    names = {files.aside_of(tmp_path / "new") for _ in range(100)}
    assert len(names) == 100


def test_a_copy_of_the_code_does_not_go_through_a_link_that_lies_in_wait(tmp_path):
    (tmp_path / "victim").mkdir()
    name = snapshot_code(tmp_path / "first", "toy_task:train").name
    store = tmp_path / "store"
    store.mkdir()
    (store / f".{name}.{os.uname().nodename}.{os.getpid()}.tmp").symlink_to(tmp_path / "victim")
    assert snapshot_code(store, "toy_task:train").name == name
    assert (store / name / "toy_task.py").is_file()
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.fixture
def forgetful_nfs(monkeypatch):
    """A file system whose first answer to link(2) is lost: asked again, it says that the name exists, as it now does."""
    link = os.link

    def asked_twice(aside, path):
        monkeypatch.setattr(os, "link", link)
        link(aside, path)
        link(aside, path)

    monkeypatch.setattr(os, "link", asked_twice)


@pytest.mark.usefixtures("forgetful_nfs")
def test_a_claim_that_was_made_is_won_though_its_answer_was_lost(tmp_path):
    assert files.create_exclusive(tmp_path / "1", "mine")
    assert not files.create_exclusive(tmp_path / "1", "another's")
    assert (tmp_path / "1").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.usefixtures("forgetful_nfs")
def test_no_generation_is_claimed_twice_where_an_answer_was_lost(tmp_path):
    layout, environment = RunLayout(tmp_path), read_environment({})
    assert [claim_generation(layout, environment).generation for _ in range(3)] == [1, 2, 3]


@pytest.mark.usefixtures("forgetful_nfs")
def test_a_lease_does_not_wait_for_itself_where_an_answer_was_lost(tmp_path):
    for number in (1, 2):
        with acquire(tmp_path / "lease", wait=0) as lease:
            assert lease.number == number


@pytest.mark.usefixtures("forgetful_nfs")
def test_a_backup_is_made_where_an_answer_was_lost(tmp_path):
    open_ledger(tmp_path / "runs.db", 1).close()
    back_up(tmp_path / "runs.db", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size > 0
