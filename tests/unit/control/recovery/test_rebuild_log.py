"""runs.db is deleted, and made anew from its log: every row of every table, also where the log's end is lost."""

import sqlite3
from contextlib import closing

import pytest
from control_scenes import Scene, begun, make_haste
from rebuild_scenes import HISTORIES, as_an_older_release, finish, killed, lose, rebuilt, rows, swept

from lvjobs.control.reconcile.hang import Rest
from lvjobs.control.recovery.check import check
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.ledger.log import DamagedLogError, LedgerLog, read_log
from lvjobs.ledger.schema import HEAD
from lvjobs.ledger.transaction import Transaction


def contents(scene):
    """All rows of all tables, without those that a rebuild adds or counts anew."""
    with closing(sqlite3.connect(scene.study.layout.database)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: connection.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall() for name in names}
    found["settings"] = sorted(row for row in found["settings"] if row[0] not in ("epoch", "commits"))
    found["events"] = [row for row in found["events"] if "rebuilt" not in row]
    return found


def test_a_rebuild_from_the_log_restores_every_table(tmp_path, monkeypatch):
    scene = swept(tmp_path, monkeypatch)
    names = [row["name"] for row in scene.rows("runs")]
    for name in names[:1]:
        scene.resume_runs(name)
    scene.one_pass()
    with scene.session() as session, session.ledger.transaction() as transaction:
        transaction.set_rows("suspensions", [Rest("t.0", 0, 0.1 + 0.2, 9.0)])
        transaction.set_setting("an unusual value", "\u00e9 \U0001f600 \ud7ff '\"")
    before = contents(scene)
    assert {name for name, found in before.items() if found} >= {"stages", "cells", "closed", "events", "settings"}
    scene.study.layout.database.unlink()
    made = rebuilt(scene)
    assert contents(scene) == before
    assert list(made.lost) == []
    assert check(scene.study, 5).is_fine
    (stage,) = (row for row in scene.rows("stages") if row["name"] == "first")
    assert (stage["because"], stage["by_hand"]) == ("it is the one", 1)


@pytest.mark.parametrize("history", HISTORIES)
def test_a_ledger_that_is_lost_in_the_middle_of_a_study_ends_like_one_that_is_not(tmp_path, monkeypatch, history):
    make_haste(monkeypatch)
    ends = []
    for name in ("kept", "lost"):
        (tmp_path / name).mkdir()
        scene = begun(Scene(tmp_path / name))
        history(scene)
        if name == "lost":
            scene.study.layout.database.unlink()
            rebuilt(scene)
        finish(scene)
        run = scene.run()
        causes = [(row["cause"], row["executed"]) for row in scene.rows("attempts")]
        ends.append((run["state"], run["cause"], causes, scene.spent(), len(scene.cluster.jobs)))
    assert ends[0] == ends[1]


def test_each_torn_last_line_is_the_ledger_before_that_commit(make):
    """At every byte. What the commit had noted is found in the run directories; nothing is submitted twice."""
    scene = begun(make())
    with scene.session() as session:
        session.ledger.call(Transaction.set_setting, "last", "1")
    log = scene.study.layout.ledger_log
    data, database = log.read_bytes(), scene.study.layout.database
    begin = data.rindex(b"\n", 0, -1) + 1
    whole = list(read_log(log))[:-1]
    for end in range(begin + 1, len(data)):
        log.write_bytes(data[:end])
        assert LedgerLog(log, HEAD, len(data)).last is None, "the next commit writes it anew"
        seen = []
        with pytest.raises(DamagedLogError, match="line"):
            for line in read_log(log):
                seen.append(line)  # noqa: PERF402 - what was read before the error
        assert seen == whole
    before = rows(scene)
    database.unlink()
    made = rebuilt(scene)
    assert any("ledger.log is damaged (line" in line for line in made.lost)
    assert not [row for row in scene.rows("settings") if row["key"] == "last"]
    assert any(path.name.startswith("ledger.log.") for path in made.aside)
    assert rows(scene) == before


def test_a_submission_that_the_log_does_not_have_is_found_by_its_claim(make):
    """A machine lost its power: the end of the log never reached the disk."""
    scene = begun(make())
    data = scene.study.layout.ledger_log.read_bytes()
    killed(scene)
    newer = scene.reach(3)
    scene.make_pass()
    scene.study.layout.ledger_log.write_bytes(data)
    before, jobs = lose(scene), len(scene.cluster.jobs)
    rebuilt(scene)
    states = {row["token"]: row["state"] for row in scene.rows("members")}
    assert states.keys() == {row["token"] for row in before["members"]}
    assert states.pop(newer.request.token) == "live"
    assert list(states.values()) == ["revoked"], "whether its job has ended is for a pass to find out"
    finish(scene)
    assert scene.state() == "completed"
    assert len(scene.cluster.jobs) == jobs


def test_an_older_study_gets_a_log_at_the_first_command(make):
    scene = begun(make())
    as_an_older_release(scene)
    memo = scene.files().memo.read_text()
    scene.cluster.kill(scene.job().id)
    scene.one_pass()
    assert scene.files().memo.read_text() == memo, "the backup records of the older release stay as they were"
    before = lose(scene)
    rebuilt(scene)
    assert rows(scene) == before


def test_a_pass_that_learns_only_steps_logs_neither_attempts_nor_charges(make):
    scene = begun(make(steps=200, every=100))
    scene.cluster.advance(10)
    before = scene.study.layout.ledger_log.stat().st_size, rows(scene)
    assert scene.one_pass() == []
    line = scene.study.layout.ledger_log.read_bytes()[before[0] :]
    assert line
    assert b"attempts" not in line
    assert b"charges" not in line
    now = rows(scene)
    assert now["charges"] != before[1]["charges"]
    lose(scene)
    rebuilt(scene)
    assert rows(scene) == now


def test_a_log_that_cannot_be_written_stops_the_submission(make, monkeypatch):
    scene, append = make(), LedgerLog.append

    def full(log, commit, changes):
        if any("INTO submissions" in statement for statement, _ in changes):
            raise OSError(28, "No space left on device")
        append(log, commit, changes)

    with monkeypatch.context() as patched:
        patched.setattr(LedgerLog, "append", full)
        with pytest.raises(LvjobsError, match=r"ledger\.log cannot be written \(No space left on device\)"):
            scene.enter("one")
    assert scene.cluster.jobs == []
    finish(scene)
    assert len(scene.cluster.jobs) == 1


def test_a_ledger_that_is_lost_before_a_run_has_a_directory_is_not_begun_anew(make):
    scene = make()
    scene.enter("one")
    lose(scene)
    for path in sorted(scene.study.layout.checkpoints.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(UsageError, match=r"ledger\.log holds a copy of its runs.*lvjobs ledger rebuild"):
        scene.one_pass()
    scene.study.layout.ledger_log.unlink()
    with pytest.raises(UsageError, match=r"jsonl holds a copy of its runs.*lvjobs ledger rebuild"):
        scene.one_pass()
    assert rebuilt(scene).runs == 1


def test_runs_that_neither_the_log_nor_a_directory_has_are_found_in_submissions_files(make):
    """A machine lost its power after sbatch, and the end of the log never reached the disk."""
    scene = make()
    scene.one_pass()
    data = scene.study.layout.ledger_log.read_bytes()
    scene.enter("one", "two")
    scene.study.layout.ledger_log.write_bytes(data)
    before, jobs = lose(scene), len(scene.cluster.jobs)
    made = rebuilt(scene)
    assert (made.runs, made.jobs) == (2, 2)
    assert [scene.state(name) for name in ("one", "two")] == ["submitting", "submitting"]
    scene.one_pass()
    plain = ("id", "name", "fingerprint", "state")
    assert [[row[key] for key in plain] for row in scene.rows("runs")] == [
        [row[key] for key in plain] for row in before["runs"]
    ]
    assert [row["token"] for row in scene.rows("submissions")] == [row["token"] for row in before["submissions"]]
    finish(scene, "one", "two")
    assert [scene.state(name) for name in ("one", "two")] == ["completed", "completed"]
    assert len(scene.cluster.jobs) == jobs, "no run is submitted twice"


def test_a_known_run_whose_newest_submission_only_a_file_has(make):
    scene = begun(make())
    data = scene.study.layout.ledger_log.read_bytes()
    killed(scene)
    newer, jobs = scene.job().request.token, len(scene.cluster.jobs)
    assert (jobs, scene.job().state) == (2, "PENDING")
    scene.study.layout.ledger_log.write_bytes(data)
    lose(scene)
    rebuilt(scene)
    assert [row["token"] for row in scene.rows("members") if row["state"] == "live"] == [newer]
    finish(scene)
    assert scene.state() == "completed"
    assert len(scene.cluster.jobs) == jobs
