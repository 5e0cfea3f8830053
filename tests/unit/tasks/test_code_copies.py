"""The copy of the code that jobs run: what is in it, what is left out, and that its name is the hash of its content."""

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from control_scenes import Scene, make_haste

from lvjobs.control.inspect import why
from lvjobs.control.reconcile import run_commands
from lvjobs.control.stages import submit_runs
from lvjobs.study.words import HeldFor
from lvjobs.tasks.code_copies import drift, snapshot_code

TASK = "package.train:train"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A project with one package, which can be imported."""
    package = tmp_path / "project" / "package"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text("")
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text("one = 1\n")
    monkeypatch.syspath_prepend(package.parent)
    return package


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def copied(store, copy):
    """The paths of the copy below its package."""
    root = store / copy.name / "package"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


PLAIN = {"__init__.py", "train.py"}


def test_a_dangling_link_is_left_out_and_named(package, store):
    (package / ".#train.py").symlink_to("someone@host.4242:1700000000")  # Emacs locks a file that is being edited so
    copy = snapshot_code(store, TASK)
    assert copied(store, copy) == PLAIN
    assert copy.note == "left out of the code that jobs run: package/.#train.py (dangling link)"
    assert drift(store, copy.name, TASK) == []


def test_a_linked_subpackage_of_the_project_is_copied(package, store):
    shared = package.parent / "shared"
    (shared / "deep").mkdir(parents=True)
    (shared / "tool.py").write_text("two = 2\n")
    (shared / "deep" / "inner.py").write_text("")
    (package / "sub").symlink_to(Path("..", "shared"))
    (package / "other.py").symlink_to("train.py")
    copy = snapshot_code(store, TASK)
    assert copied(store, copy) == PLAIN | {"sub/tool.py", "sub/deep/inner.py", "other.py"}
    assert not any(path.is_symlink() for path in (store / copy.name).rglob("*"))
    assert (store / copy.name / "package" / "sub" / "tool.py").read_text() == "two = 2\n"
    assert copy.note == ""
    (shared / "tool.py").write_text("two = 3\n")
    assert drift(store, copy.name, TASK) == ["package/sub/tool.py"]


def test_links_out_of_the_project_are_left_out_and_named(package, store, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large.bin").write_bytes(b"data")
    (tmp_path / "notes.py").write_text("")
    (package / "data").symlink_to(tmp_path / "data")
    (package / "notes.py").symlink_to(tmp_path / "notes.py")
    copy = snapshot_code(store, TASK)
    assert copied(store, copy) == PLAIN
    assert list(copy.left_out) == [
        "package/data (link out of the project)",
        "package/notes.py (link out of the project)",
    ]


def test_what_is_no_regular_file_is_left_out_named_and_not_waited_for(package, store):
    os.mkfifo(package / "fifo.py")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(package / "socket.py"))
        copy = snapshot_code(store, TASK)
    assert copied(store, copy) == PLAIN
    assert list(copy.left_out) == ["package/fifo.py (FIFO)", "package/socket.py (socket)"]


def test_links_that_lead_in_a_circle_end(package, store):
    (package / "itself").symlink_to(".")
    (package / "project").symlink_to("..")
    (package / "one").mkdir()
    (package / "two").mkdir()
    (package / "one" / "two").symlink_to(Path("..", "two"))
    (package / "two" / "one").symlink_to(Path("..", "one"))
    (package / "two" / "module.py").write_text("")
    (package / "self.py").symlink_to("self.py")
    copy = snapshot_code(store, TASK)
    assert copied(store, copy) == PLAIN | {"two/module.py", "one/two/module.py"}
    circle = "link to a directory that it is in"
    assert list(copy.left_out) == [
        f"package/itself ({circle})",
        f"package/one/two/one ({circle})",
        f"package/project ({circle})",
        "package/self.py (link: Too many levels of symbolic links)",
        f"package/two/one/two ({circle})",
    ]


def test_a_package_that_is_a_link_or_whose_files_are_all_links_is_copied(tmp_path, monkeypatch, store):
    """As installers make them that keep packages in a cache."""
    cache = tmp_path / "cache" / "0a1b" / "package"
    cache.mkdir(parents=True)
    for name in PLAIN:
        (cache / name).write_text("")
    site = tmp_path / "site"
    (site / "package").mkdir(parents=True)
    for name in PLAIN:
        (site / "package" / name).symlink_to(cache / name)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "package").symlink_to(cache)
    for directory in (site, tmp_path / "linked"):
        with monkeypatch.context() as context:
            context.syspath_prepend(directory)
            copy = snapshot_code(store, TASK)
            assert copied(store, copy) == PLAIN
            assert copy.note == ""


def test_earlier_copies_are_not_copied(package, store):
    (package / ".lvjobs" / "code").mkdir(parents=True)
    (package / ".lvjobs" / "code" / "old.py").write_text("")
    assert copied(store, snapshot_code(store, TASK)) == PLAIN


def test_a_file_that_is_saved_meanwhile_is_not_filed_under_the_hash_of_what_it_was(package, store, tmp_path):
    (package / "zebra.py").write_text("")
    before = snapshot_code(tmp_path / "elsewhere", TASK).name
    save = [package / "train.py"]

    def on_open(event, arguments):  # there is no taking it away again: it saves once
        if event == "open" and save and str(arguments[0]).endswith("zebra.py"):
            save.pop().write_text("one = 'saved'\n")

    sys.addaudithook(on_open)
    copy = snapshot_code(store, TASK)
    assert not save
    assert {path.name for path in store.iterdir()} == {copy.name}
    assert (store / copy.name / "package" / "train.py").read_text() == "one = 'saved'\n"
    assert copy.name == snapshot_code(tmp_path / "elsewhere", TASK).name != before
    (package / "train.py").write_text("one = 1\n")
    again = snapshot_code(store, TASK)
    assert again.name == before
    assert (store / before / "package" / "train.py").read_text() == "one = 1\n"


def test_many_paths_that_are_left_out_are_named_in_one_line(package, store):
    for number in range(10):
        (package / f"link{number}").symlink_to("nowhere")
    note = snapshot_code(store, TASK).note
    assert note.count("(dangling link)") == 8
    assert note.endswith(" and 2 more")
    assert "\n" not in note


def test_commands_say_what_was_left_out(package, tmp_path, monkeypatch):
    make_haste(monkeypatch)
    for module in (submit_runs, run_commands):
        monkeypatch.setattr(module, "snapshot_code", lambda store, *_: snapshot_code(store, TASK))
    (tmp_path / "study").mkdir()
    scene = Scene(tmp_path / "study")
    (package / "lock").symlink_to("nowhere")
    note = "left out of the code that jobs run: package/lock (dangling link)"
    with scene.session() as session:
        assert submit_runs.enter(session, scene.wanted("one")).note == note
        assert submit_runs.enter(session, scene.wanted("one")).note == ""  # it exists already: nothing was submitted
    with scene.session() as session:
        run_commands.pause(session, ["one"], "a test", held_for=HeldFor.NOTHING)
    assert scene.resume_runs("one") == [note, "one: resumed by the user"]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A study and a module of one file in one directory, which is no project and not on sys.path."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    make_haste(monkeypatch)
    for module in (submit_runs, run_commands):
        monkeypatch.setattr(module, "snapshot_code", snapshot_code)
    (tmp_path / "alone_in_a_file.py").write_text("one = 1\n")
    (tmp_path / "study").mkdir()
    return Scene(tmp_path / "study")


def submitted_by_name(scene):
    """Submit a run whose task study.toml does not name, as `lvjobs submit run` does; then let a new process begin."""
    before = [*sys.path]
    wanted = scene.wanted("one")
    configs = [config.model_copy(update={"task": "alone_in_a_file:train"}) for config in wanted.configs]
    with scene.session() as session:
        submit_runs.enter(session, replace(wanted, configs=configs))
        run_commands.pause(session, ["one"], "a test", held_for=HeldFor.NOTHING)
    sys.path[:] = before


@pytest.mark.parametrize("where", ["the current directory", "the study"])
def test_resume_finds_a_task_that_study_toml_does_not_name(tmp_path, monkeypatch, alone, where):
    monkeypatch.chdir(tmp_path)
    if where == "the study":
        (tmp_path / "alone_in_a_file.py").rename(alone.root / "alone_in_a_file.py")
    submitted_by_name(alone)
    assert alone.resume_runs("one") == ["one: resumed by the user"]


def test_why_finds_a_task_that_study_toml_does_not_name(tmp_path, monkeypatch, alone):
    monkeypatch.chdir(tmp_path)
    submitted_by_name(alone)
    (tmp_path / "alone_in_a_file.py").write_text("one = 2\n")
    with alone.session() as session:
        row = next(row for row in session.make_pass()["runs"] if row["name"] == "one")
        assert "alone_in_a_file.py" in dict(why.why(session, row).evidence)["code"]


def test_a_current_directory_that_is_gone_is_passed_over(tmp_path, monkeypatch, alone):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alone_in_a_file.py").rename(alone.root / "alone_in_a_file.py")
    submitted_by_name(alone)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert alone.resume_runs("one") == ["one: resumed by the user"]
