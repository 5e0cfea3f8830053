"""runs.db as a file: looked through, copied whole while it is written, never over something that exists."""

import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from ledger_helpers import a_run, at_0001

from lvjobs.errors import UsageError
from lvjobs.ledger.copies import back_up, examine, put_aside
from lvjobs.ledger.database import HEAD, LedgerError, open_ledger


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "runs.db"
    ledger = open_ledger(path, 3)
    with ledger.transaction() as transaction:
        for name in ("one", "two"):
            transaction.add_runs([a_run(name)])
    ledger.close()
    return path


def names(directory):
    return sorted(each.name for each in directory.iterdir())


def test_a_sound_ledger(path):
    found = examine(path)
    assert (found.revision, found.problems) == (HEAD, ())
    assert found.is_current
    assert examine(path, frozen=True) == found


def test_what_is_no_database_and_what_is_none_of_ours(tmp_path):
    path = tmp_path / "runs.db"
    path.write_text("not a database, but long enough to look at" * 100)
    assert examine(path).problems == ("file is not a database",)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE x (y)")
    connection.close()
    assert examine(path).problems == ("no such table: alembic_version",)


def test_a_damaged_page_and_a_row_that_refers_to_nothing(path):
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO cells VALUES ('s', 'nobody', 0)")
    connection.commit()
    assert examine(path).problems == ("a row of cells refers to a row of runs that is not there",)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"\xff" * size)
    found = examine(path)
    assert found.problems
    assert not found.is_current


def test_a_copy_is_whole_and_private_and_of_any_schema(path, tmp_path):
    back_up(path, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    ledger = open_ledger(tmp_path / "copy", 4)
    with ledger.transaction() as transaction:
        assert [run.name for run in transaction.runs()] == ["one", "two"]
    ledger.close()
    at_0001(tmp_path / "old.db")
    back_up(tmp_path / "old.db", tmp_path / "old copy")
    assert examine(tmp_path / "old copy").revision == "0001"
    assert names(tmp_path) == ["copy", "old copy", "old.db", "runs.db"]


def test_a_copy_is_consistent_while_the_ledger_is_written(path, tmp_path, fault):
    """Two rows change together, again and again; every copy has them as they were at one moment."""
    connection = sqlite3.connect(path)
    connection.executemany("INSERT INTO settings VALUES (?, '0')", [("left",), ("right",)])
    connection.commit()
    ended = threading.Event()

    def write():
        own = sqlite3.connect(path, timeout=30, isolation_level=None)
        number = 0
        while not ended.is_set():
            number += 1
            own.execute("BEGIN IMMEDIATE")
            for key in ("left", "right"):
                own.execute("UPDATE settings SET value = ? WHERE key = ?", (str(number), key))
            own.execute("COMMIT")
            time.sleep(0.002)
        own.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            back_up(path, tmp_path / f"copy{number}")
    finally:
        ended.set()
        writer.join()
    connection.close()
    for number in range(5):
        copy = sqlite3.connect(tmp_path / f"copy{number}")
        values = copy.execute("SELECT DISTINCT value FROM settings WHERE key IN ('left', 'right')").fetchall()
        copy.close()
        assert len(values) == 1
    fault("ledger_copied", None, times=5, saw="each copy as it was at one moment")


def test_a_link_that_lies_in_wait_is_not_written_through(path, tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / f".copy.{os.uname().nodename}.{os.getpid()}.tmp").symlink_to(tmp_path / "victim")
    back_up(path, tmp_path / "copy")
    assert (tmp_path / "victim").read_text() == "precious"
    assert examine(tmp_path / "copy").is_current


def test_what_is_there_is_not_written_over(path, tmp_path):
    (tmp_path / "copy").write_text("precious")
    with pytest.raises(UsageError, match="exists, and was not changed"):
        back_up(path, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "precious"
    with pytest.raises(UsageError, match=r"cannot be written \(No such file"):
        back_up(path, tmp_path / "nowhere" / "copy")
    assert names(tmp_path) == ["copy", "runs.db"]


def test_a_damaged_ledger_is_not_copied(path, tmp_path):
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * 4096)
    with pytest.raises(LedgerError, match=r"damaged|cannot be copied"):
        back_up(path, tmp_path / "copy")
    assert names(tmp_path) == ["runs.db"]


@pytest.mark.parametrize("step", ["link", "rename", "unlink", "end"])
def test_a_ledger_that_is_put_aside_keeps_its_journal_wherever_it_is_interrupted(path, monkeypatch, step):
    path.with_name("runs.db-journal").write_text("the journal of an interrupted write")
    owner, name = {"link": (os, "link"), "rename": (Path, "rename"), "unlink": (Path, "unlink"), "end": (os, "sync")}[
        step
    ]

    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, killed)
        if step == "end":
            assert [each.name for each in put_aside(path, "x")] == ["runs.db.x.aside-journal", "runs.db.x.aside"]
        else:
            with pytest.raises(KeyboardInterrupt):
                put_aside(path, "x")
    (ledger,) = (each for each in path.parent.glob("runs.db*") if not each.name.endswith("-journal"))
    assert ledger.name == ("runs.db" if step in ("link", "rename") else "runs.db.x.aside")
    assert ledger.with_name(f"{ledger.name}-journal").exists()


def test_nothing_is_put_aside_under_a_name_that_is_taken(path):
    journal = path.with_name("runs.db-journal")
    for taken in ("runs.db.x.aside", "runs.db.x.aside-journal"):
        journal.write_text("the journal of an interrupted write")
        path.with_name(taken).touch()
        with pytest.raises(UsageError, match="exists; move it away"):
            put_aside(path, "x")
        assert path.exists()
        assert journal.exists()
        path.with_name(taken).unlink()
