"""The ledger's log: each line is whole or not believed, and the log is the ledger's at whatever instant a process ends."""

import os
import sqlite3
from contextlib import closing

import pytest
from ledger_helpers import a_run, at_0001

from lvjobs import files
from lvjobs.ledger import database, log
from lvjobs.ledger.database import LedgerError, open_ledger
from lvjobs.ledger.log import DamagedLogError, LedgerLog, read_log
from lvjobs.ledger.replay import replay
from lvjobs.ledger.schema import HEAD
from lvjobs.ledger.transaction import Transaction


@pytest.fixture
def study(tmp_path):
    """A directory with a ledger of two commits and its log."""
    ledger = open_ledger(tmp_path / "runs.db", 1, tmp_path / "ledger.log")
    ledger.call(Transaction.add_runs, [a_run("one")])
    ledger.call(Transaction.add_runs, [a_run("two")])
    ledger.close()
    return tmp_path


def opened(study, epoch=1):
    return open_ledger(study / "runs.db", epoch, study / "ledger.log")


def tables(path):
    with closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: connection.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall() for name in names}
    found["settings"] = [row for row in found["settings"] if row[0] not in ("epoch", "commits")]
    return found


def is_a_copy(study, name="replayed"):
    """The log makes the ledger's rows."""
    (study / name).unlink(missing_ok=True)
    replayed = replay(study / "ledger.log", study / name)
    return replayed is not None and not replayed.problem and tables(study / name) == tables(study / "runs.db")


def commits(study):
    return [commit for commit, _ in read_log(study / "ledger.log")]


def test_each_commit_adds_one_line_and_reading_adds_none(study):
    before = (study / "ledger.log").read_bytes()
    ledger = opened(study, 2)
    ledger.call(Transaction.runs)
    assert (study / "ledger.log").read_bytes() == before
    ledger.call(Transaction.update_run, "oneone", reason="because")
    ledger.close()
    after = (study / "ledger.log").read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == before.count(b"\n") + 1
    assert is_a_copy(study)
    assert (study / "ledger.log").stat().st_mode & 0o777 == 0o600


def test_a_transaction_that_fails_adds_no_line(study):
    before = (study / "ledger.log").read_bytes()
    ledger = opened(study)
    with pytest.raises(RuntimeError), ledger.transaction() as transaction:
        transaction.add_runs([a_run("three")])
        raise RuntimeError
    ledger.close()
    assert (study / "ledger.log").read_bytes() == before


def behind(study):
    """The process ended between the commit and its line."""
    ledger = open_ledger(study / "runs.db", 1)
    ledger.call(Transaction.add_runs, [a_run("three")])
    ledger.close()


def ahead(study):
    """An older copy of runs.db was put in its place."""
    data = (study / "runs.db").read_bytes()
    ledger = opened(study)
    ledger.call(Transaction.add_runs, [a_run("three")])
    ledger.close()
    (study / "runs.db").write_bytes(data)


def torn(study):
    path = study / "ledger.log"
    path.write_bytes(path.read_bytes()[:-1])


def garbled(study):
    """As a power failure leaves it: the file's size is on disk, its last bytes are not."""
    path = study / "ledger.log"
    path.write_bytes(path.read_bytes()[:-20] + b"\0" * 20)


def missing(study):
    (study / "ledger.log").unlink()


def empty(study):
    (study / "ledger.log").write_bytes(b"")


def of_another_release(study):
    """The ledger was migrated since."""
    path = study / "ledger.log"
    first, _, rest = path.read_bytes().partition(b"\n")
    assert HEAD.encode() in first
    path.write_bytes(log._line(commits(study)[0], "0001") + rest)


def too_large(study):
    ledger = opened(study)
    for number in range(120):
        ledger.call(Transaction.set_setting, "text", f"{number:020000}")
    ledger.close()
    assert (study / "ledger.log").stat().st_size > 4 * (study / "runs.db").stat().st_size + (1 << 20)


TROUBLES = [behind, ahead, torn, garbled, missing, empty, of_another_release, too_large]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_log_that_is_not_the_ledgers_is_written_anew_by_the_next_transaction(study, trouble):
    trouble(study)
    ledger = opened(study)
    ledger.call(Transaction.runs)
    assert is_a_copy(study)
    assert len(set(commits(study))) == 1, "no commits, only rows"
    ledger.call(Transaction.set_setting, "a", "b")
    ledger.close()
    assert is_a_copy(study)
    assert len(set(commits(study))) == 2


def test_a_log_of_many_commits_grows_until_it_is_much_larger_than_the_ledger(study):
    too_large(study)
    ledger = opened(study)
    ledger.call(Transaction.runs)
    ledger.close()
    size = (study / "ledger.log").stat().st_size
    assert size < (study / "runs.db").stat().st_size + 20_000
    ledger = opened(study)
    ledger.call(Transaction.set_setting, "text", "x" * 20_000)
    ledger.close()
    assert (study / "ledger.log").stat().st_size > size + 20_000


def test_a_migrated_ledger_has_a_log_of_the_new_schema(tmp_path):
    at_0001(tmp_path / "runs.db")
    ledger = opened(tmp_path)
    ledger.call(Transaction.runs)
    ledger.close()
    assert next(read_log(tmp_path / "ledger.log"))[1] == HEAD
    assert is_a_copy(tmp_path)


@pytest.mark.parametrize("trouble", [missing, behind, too_large])
def test_a_process_that_is_killed_while_it_writes_the_log_anew_leaves_the_old_or_the_new_one(
    study, trouble, monkeypatch
):
    """At each sync, rename and write of the new log. A log without a predecessor is whole or missing."""
    trouble(study)
    path = study / "ledger.log"
    old = path.read_bytes() if path.exists() else None
    calls = []

    def around(name, call):
        def called(*arguments):
            calls.append(f"before {name}")
            if len(calls) == at:
                raise KeyboardInterrupt
            result = call(*arguments)
            calls.append(f"after {name}")
            if len(calls) == at:
                raise KeyboardInterrupt
            return result

        return called

    at, found = 0, set()
    while True:
        at, calls = at + 1, []
        with monkeypatch.context() as patched:
            for module, name in ((files, "_write"), (files, "_fsync"), (os, "write"), (os, "fsync")):
                patched.setattr(module, name, around(name, getattr(module, name)))
            patched.setattr(files.Path, "rename", around("rename", files.Path.rename))
            ledger = opened(study)
            try:
                ledger.call(Transaction.runs)
            except KeyboardInterrupt:
                pass
            else:
                break
            finally:
                database._engine(study / "runs.db").dispose()
        now = path.read_bytes() if path.exists() else None
        found.add(now == old)
        assert now == old or is_a_copy(study), calls[-1]
        if now != old:
            path.unlink()
        if old is not None:
            path.write_bytes(old)
    assert found == {True, False}
    assert at > 4


def test_the_new_log_is_on_disk_before_it_takes_the_place_of_the_old_one(study, monkeypatch):
    behind(study)
    done = []
    monkeypatch.setattr(files, "_fsync", lambda path: done.append(f"sync {path.name[:11]}"))
    rename = files.Path.rename
    monkeypatch.setattr(files.Path, "rename", lambda old, new: (done.append(f"rename to {new.name}"), rename(old, new)))
    ledger = opened(study)
    ledger.call(Transaction.runs)
    assert done == ["sync .ledger.log", "rename to ledger.log", f"sync {study.name[:11]}"]
    ledger.close()


def test_appended_lines_are_on_disk_when_the_ledger_is_closed_and_synced_once(study, monkeypatch):
    ledger = opened(study)
    synced = []
    monkeypatch.setattr(log.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(database, "fsync_directory", lambda _path: None)
    for number in range(3):
        ledger.call(Transaction.set_setting, "a", str(number))
    assert synced == []
    ledger.close()
    assert synced == [(study / "ledger.log").stat().st_ino]
    assert is_a_copy(study)


def test_a_line_that_cannot_be_written_whole_is_made_good_by_the_next_commit(study, monkeypatch):
    ledger, write = opened(study), os.write

    def full(descriptor, data):
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:-99])

    with monkeypatch.context() as patched:
        patched.setattr(log.os, "write", full)
        with pytest.raises(
            LedgerError, match=r"ledger\.log cannot be written \(No space left on device\); runs\.db is complete"
        ):
            ledger.call(Transaction.add_runs, [a_run("three")])
    assert not is_a_copy(study)
    ledger.call(Transaction.runs)
    ledger.close()
    assert is_a_copy(study)
    assert len(tables(study / "runs.db")["runs"]) == 3


@pytest.mark.parametrize("change", [lambda line: line[:-2] + b"x\n", lambda line: b"0" + line[1:], lambda _line: b""])
def test_nothing_after_a_damaged_line_is_replayed(study, change):
    ledger = opened(study)
    for number in range(3):
        ledger.call(Transaction.set_setting, "a", str(number))
    ledger.close()
    path = study / "ledger.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-2], change(lines[-2]), lines[-1]]))
    with pytest.raises(DamagedLogError, match="line"):
        list(read_log(path))
    replayed = replay(path, study / "replayed")
    assert replayed.problem
    assert ("a", "0") in tables(study / "replayed")["settings"]


@pytest.mark.parametrize("text", [b"", b"x", b"\n", b"00000000 []\n"])
def test_a_file_without_a_first_line_is_no_log(tmp_path, text):
    (tmp_path / "ledger.log").write_bytes(text)
    assert replay(tmp_path / "ledger.log", tmp_path / "replayed") is None
    assert not (tmp_path / "replayed").exists()


def test_a_log_of_a_newer_release_is_not_replayed(study):
    path = study / "ledger.log"
    path.write_bytes(log._line(1, "9999"))
    with pytest.raises(LedgerError, match=r"another release of lvjobs \(schema 9999\)"):
        replay(path, study / "replayed")


def test_a_log_of_an_older_release_is_migrated_once_it_is_replayed(tmp_path):
    rows = ("INSERT INTO settings VALUES (?, ?)", [["limit", "17"]])
    path = tmp_path / "ledger.log"
    path.write_bytes(log._line(5, "0001") + log._line(5, [rows]))
    assert replay(path, tmp_path / "replayed").commit == 5
    ledger = open_ledger(tmp_path / "replayed", 1)
    assert ledger.call(Transaction.setting, "limit") == "17"
    ledger.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ledger.log", "replayed"]


def test_the_last_line_is_found_however_long_it_is(study, monkeypatch):
    monkeypatch.setattr(log, "_BLOCK", 7)
    newest = commits(study)[-1]
    assert LedgerLog(study / "ledger.log", HEAD, 10**9).last == newest
