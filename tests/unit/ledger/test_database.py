"""runs.db: what goes in comes out, a sleeper cannot write, and old files are migrated, not deleted."""

import sqlite3
from dataclasses import replace

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from ledger_helpers import a_run, at_0001, migrations
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError

from lvjobs.ledger import database
from lvjobs.ledger.copies import examine
from lvjobs.ledger.database import HEAD, Ledger, LedgerError, open_ledger
from lvjobs.ledger.lease import LeaseLost
from lvjobs.ledger.records import AttemptRecord, Charge, Event, Member, SubmissionRecord, WorkCounts
from lvjobs.ledger.schema import new_engine
from lvjobs.ledger.tables import metadata
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.words import Cause, HeldFor, LeaveCause, MemberState, RunState


def an_attempt(**changes):
    return replace(AttemptRecord(0, "oneone", "a" * 12, "17", 0, 2.0, generation=1), **changes)


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path / "runs.db", 1)
    yield opened
    opened.close()


def test_what_goes_in_comes_out(ledger):
    rates = {"official": {"training": 6_771_659_802_624, "validation": 10**25}}
    run = a_run(state=RunState.HELD, cause=Cause.KILLED, rates=rates, held_for=HeldFor.BUDGET)
    with ledger.transaction() as transaction:
        transaction.add_runs([run])
        attempt_id = transaction.save_attempts([an_attempt(loss=0.5, cause=Cause.NODE_FAIL)])[0].id
        transaction.replace_charges({"oneone": [Charge("oneone", attempt_id, "replayed", 3, 1)]})
        transaction.add_event(Event(1.0, "held", "because", "oneone", {"a": [1]}))
    with ledger.transaction() as transaction:
        assert transaction.runs() == [replace(run, ordinal=1)]
        assert transaction.attempts() == [an_attempt(id=attempt_id, loss=0.5, cause=Cause.NODE_FAIL)]
        assert transaction.charges() == [Charge("oneone", attempt_id, "replayed", 3, 1)]
        assert transaction.events("oneone") == [Event(1.0, "held", "because", "oneone", {"a": [1]})]


def test_words_of_another_release_are_read_with_caution(ledger):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run()])
        transaction.save_attempts([an_attempt()])
        transaction.add_submission(SubmissionRecord("a" * 12, "local", "local", 1.0), ["oneone"])
        for change in (
            "UPDATE runs SET held_for = 'moonlight'",
            "UPDATE attempts SET leave_cause = 'bored'",
            "UPDATE members SET state = 'dreaming'",
        ):
            transaction._connection.exec_driver_sql(change)
        transaction._known.clear()
        assert [run.held_for for run in transaction.runs()] == [HeldFor.NOTHING]
        assert [attempt.leave_cause for attempt in transaction.attempts()] == [LeaveCause.UNKNOWN]
        assert [member.state for member in transaction.members()] == [MemberState.LIVE]


def test_attempts_of_more_runs_than_can_be_named_in_a_query(ledger, monkeypatch):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run(name) for name in ("one", "two", "three")])
        for run in transaction.runs():
            transaction.save_attempts([an_attempt(run_id=run.id)])
        few = transaction.attempts(["oneone", "twotwo"])
        for limit in ("_VARIABLES", "MOST_NAMED"):
            monkeypatch.setattr(f"lvjobs.ledger.rows.{limit}", 1)
            assert transaction.attempts(["oneone", "twotwo"]) == few
        assert [attempt.run_id for attempt in few] == ["oneone", "twotwo"]


def test_of_none_nothing_is_written(ledger):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run()])
        transaction.replace_charges({"oneone": []})
        transaction.reserve({})
        transaction.add_events([])
        transaction.update_runs({})
        assert (transaction.charges(), transaction.reservations(), transaction.events()) == ([], {}, [])


def test_many_runs_change_at_once_each_in_its_own_way(ledger):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run("one"), a_run("two")])
        transaction.update_runs({"oneone": {"reason": "a"}, "twotwo": {"reason": "b"}})
        assert {run.name: (run.ordinal, run.reason) for run in transaction.runs()} == {"one": (1, "a"), "two": (2, "b")}


def test_a_failed_transaction_leaves_nothing(ledger):
    def fail_half_way():
        with ledger.transaction() as transaction:
            transaction.add_runs([a_run()])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with ledger.transaction() as transaction:
        assert transaction.runs() == []


def test_runs_that_were_read_before_are_as_they_are_now(ledger):
    with ledger.transaction() as transaction:
        assert transaction.runs() == []
        transaction.add_runs([a_run()])
        transaction.add_runs([a_run("two")])
        assert [run.name for run in transaction.runs()] == ["one", "two"]
        transaction.update_run("oneone", state=RunState.COMPLETED)
        assert [run.name for run in transaction.runs(only_open=True)] == ["two"]
        transaction.delete_run("twotwo")
        assert [run.name for run in transaction.runs()] == ["one"]
    with ledger.transaction() as transaction:
        assert [run.state for run in transaction.runs()] == [RunState.COMPLETED]


@pytest.mark.parametrize("change", ["settled", "another", "deleted", "refused"])
def test_members_that_were_read_before_are_as_they_are_now(ledger, change):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run(), a_run("two")])
        transaction.add_submission(SubmissionRecord("a" * 12, "lab", "slurm", 1.0), ["oneone"])
        assert [member.run_id for member in transaction.members()] == ["oneone"]
        if change == "settled":
            transaction.update_members({("a" * 12, "oneone"): {"state": MemberState.SETTLED}})
        elif change == "another":
            transaction.add_members([Member("a" * 12, 1, "twotwo")])
        elif change == "deleted":
            transaction.delete_submission("a" * 12)
        else:
            transaction.delete_run("oneone")
    with ledger.transaction() as transaction:
        known = [member.run_id for member in transaction.members()]
    assert known == (["oneone", "twotwo"] if change == "another" else [])


def test_what_was_read_of_a_change_that_is_undone_is_forgotten(ledger):
    with pytest.raises(KeyboardInterrupt), ledger.transaction() as transaction:
        transaction.add_runs([a_run()])
        assert len(transaction.runs()) == 1
        raise KeyboardInterrupt
    with ledger.transaction() as transaction:
        assert transaction.runs() == []


def test_a_holder_that_was_followed_writes_nothing(tmp_path, ledger):
    later = open_ledger(tmp_path / "runs.db", 2)
    later.call(Transaction.set_setting, "a", "b")
    with pytest.raises(LeaseLost, match="another lvjobs process took over"), ledger.transaction() as transaction:
        transaction.add_runs([a_run()])
    with later.transaction() as transaction:
        assert transaction.runs() == []
    later.close()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_holder_that_woke_up_before_the_first_change_of_its_successor(tmp_path, ledger, is_first):
    """The epoch is recorded with the first change; what the successor had read until then may be out of date."""
    later = Ledger(new_engine(tmp_path / "runs.db"), 2)
    assert later.call(Transaction.runs) == []
    if not is_first:
        later.call(Transaction.set_setting, "a", "b")
        with pytest.raises(LeaseLost, match="took over this study while this one was suspended"):
            ledger.call(Transaction.add_runs, [a_run()])
        assert later.call(Transaction.runs) == []
    else:
        ledger.call(Transaction.add_runs, [a_run()])
        for _ in range(2):
            with pytest.raises(
                LeaseLost, match="a suspended lvjobs process wrote to this study meanwhile; nothing was written"
            ):
                later.call(Transaction.set_setting, "a", "b")
        assert ledger.call(Transaction.setting, "a") is None
    later.close()


def test_reading_syncs_nothing_and_records_no_epoch(tmp_path, ledger):
    before = (tmp_path / "runs.db").stat().st_mtime_ns
    later = open_ledger(tmp_path / "runs.db", 2)
    later.call(Transaction.runs)
    assert (tmp_path / "runs.db").stat().st_mtime_ns == before
    later.close()


def test_a_run_has_one_live_submission(ledger):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run()])
        transaction.add_submission(SubmissionRecord("a" * 12, "local", "local", 1.0), ["oneone"])
    with pytest.raises(IntegrityError), ledger.transaction() as transaction:
        transaction.add_submission(SubmissionRecord("b" * 12, "local", "local", 2.0), ["oneone"])
    with ledger.transaction() as transaction:
        transaction.update_members({("a" * 12, "oneone"): {"state": MemberState.REVOKED}})
        transaction.add_submission(SubmissionRecord("b" * 12, "local", "local", 2.0), ["oneone"])
        assert [member.state for member in transaction.members()] == ["revoked", "live"]


def test_a_generation_is_recorded_once(ledger):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run()])
        transaction.save_attempts([an_attempt()])
    with pytest.raises(IntegrityError), ledger.transaction() as transaction:
        transaction.save_attempts([an_attempt()])


def test_only_settled_submissions_are_forgotten(ledger):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run()])
        transaction.add_runs([a_run("two")])
        transaction.add_submission(SubmissionRecord("a" * 12, "local", "local", 1.0), ["oneone", "twotwo"])
        transaction.update_members({("a" * 12, "oneone"): {"state": MemberState.SETTLED}})
        assert [submission.token for submission in transaction.submissions()] == ["a" * 12]
        transaction.update_members({("a" * 12, "twotwo"): {"state": MemberState.SETTLED}})
        assert transaction.submissions() == []
        assert len(transaction.submissions(unsettled=False)) == 1


def test_a_reservation_is_replaced_and_given_back(ledger):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run()])
        transaction.reserve({"oneone": WorkCounts(10, 20, 30)})
        assert transaction.reservations() == {"oneone": WorkCounts(10, 20, 30)}
        transaction.reserve({"oneone": WorkCounts(11, 20, 30)})
        assert transaction.reservations() == {"oneone": WorkCounts(11, 20, 30)}
        transaction.give_back(["oneone"])
        assert transaction.reservations() == {}


def test_a_refused_run_can_be_undone(ledger):
    with ledger.transaction() as transaction:
        transaction.add_runs([a_run()])
        transaction.reserve({"oneone": WorkCounts(10)})
        transaction.add_submission(SubmissionRecord("a" * 12, "local", "local", 1.0), ["oneone"])
        transaction.add_event(Event(1.0, "refused", "no such partition", "oneone"))
        transaction.delete_run("oneone")
        assert transaction.runs() == []
        assert transaction.submissions(unsettled=False) == []


def test_the_file_is_private_and_keeps_a_rollback_journal(tmp_path, ledger):
    path = tmp_path / "runs.db"
    assert path.stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_a_commit_is_durable_when_the_transaction_ends(ledger, monkeypatch):
    """SQLite commits by deleting its journal: the directory is synced after that, and before anything follows."""
    synced = []
    sync = database.fsync_directory
    monkeypatch.setattr(database, "fsync_directory", lambda path: (synced.append(sorted(path.iterdir())), sync(path)))
    ledger.call(Transaction.runs)
    assert synced == []
    ledger.call(Transaction.set_setting, "a", "1")
    ((path,),) = synced
    assert path.name == "runs.db"


def test_the_migrations_make_the_tables_as_they_are_declared(tmp_path, ledger):
    engine = create_engine(f"sqlite:///{tmp_path / 'runs.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_first_ledger_is_migrated_with_all_that_it_knows(tmp_path):
    path = tmp_path / "runs.db"
    at_0001(path)
    ledger = open_ledger(path, 1)
    with ledger.transaction() as transaction:
        first, second = transaction.runs()
        assert first.rates == {"official": {"training": 6_771_659_802_624, "validation": 551_000, "generation": 0}}
        assert second.rates == {}
        assert transaction.charges() == [Charge("aa", 1, "useful", 7), Charge("aa", 1, "validation", 3)]
        (attempt,) = transaction.attempts()
        assert (attempt.executed, attempt.journal_offset, attempt.gpus, attempt.generated) == (7, 99, None, 0)
        assert [member.token for member in transaction.members()] == ["t"]
        with pytest.raises(IntegrityError):
            transaction.save_attempts([an_attempt(run_id="nobody")])
    ledger.close()
    assert (tmp_path / "runs.db.0001.bak").exists()


def test_the_copy_that_a_migration_leaves_is_private_and_not_written_through_a_link(tmp_path):
    at_0001(tmp_path / "runs.db")
    (tmp_path / "victim").write_text("precious")
    copy = tmp_path / "runs.db.0001.bak"
    copy.symlink_to(tmp_path / "victim")
    open_ledger(tmp_path / "runs.db", 1).close()
    assert (tmp_path / "victim").read_text() == "precious"
    assert not copy.is_symlink()
    assert examine(copy).revision == "0001"
    assert copy.stat().st_mode & 0o777 == 0o600


RELEASED = [script.revision for script in ScriptDirectory.from_config(migrations()).walk_revisions()][::-1]


@pytest.mark.parametrize("revision", RELEASED)
def test_every_released_schema_is_migrated_with_data_in_it(tmp_path, revision, fault):
    path = tmp_path / "runs.db"
    at_0001(path)
    config = migrations()
    engine = config.attributes["engine"] = database._engine(path)
    command.upgrade(config, revision)
    engine.dispose()
    connection = sqlite3.connect(path)
    if revision >= "0002":
        columns = "run_id, training, validation, generation"
        connection.execute(f"INSERT INTO reservations ({columns}) VALUES ('aa', 10, 3, 0)")
    stage = ("train", 0, "{}") if revision < "0003" else ("train", 0, "{}", "declared", "{}", "", "", "", 0)
    connection.execute(f"INSERT INTO stages VALUES ({', '.join('?' * len(stage))})", stage)
    connection.commit()
    connection.close()
    ledger = open_ledger(path, 1)
    with ledger.transaction() as transaction:
        assert [(run.id, run.state) for run in transaction.runs()] == [
            ("aa", RunState.RUNNING),
            ("bb", RunState.COMPLETED),
        ]
        assert transaction.runs()[0].rates["official"]["training"] == 6_771_659_802_624
        assert transaction.charges() == [Charge("aa", 1, "useful", 7), Charge("aa", 1, "validation", 3)]
        assert [attempt.executed for attempt in transaction.attempts()] == [7]
        assert [member.run_id for member in transaction.members()] == ["aa"]
        assert transaction.reservations() == ({"aa": WorkCounts(10, 3, 0)} if revision >= "0002" else {})
        assert [stage.name for stage in transaction.stages()] == ["train"]
    ledger.close()
    assert examine(path).is_current
    backups = [path.name for path in tmp_path.glob("*.bak")]
    assert backups == ([] if revision == HEAD else [f"runs.db.{revision}.bak"])
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
    fault("old_schema", None, saw="migrated, and a copy kept beside it")


def test_the_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(database.Path(database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_something_else_under_that_name_is_told(tmp_path):
    (tmp_path / "runs.db").write_text("not a database, but long enough to look at" * 100)
    with pytest.raises(LedgerError, match="cannot be opened as a ledger"):
        open_ledger(tmp_path / "runs.db", 1)


def test_a_newer_ledger_is_kept_and_told(tmp_path, ledger):
    ledger.close()
    connection = sqlite3.connect(tmp_path / "runs.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="another release"):
        open_ledger(tmp_path / "runs.db", 1)
    assert (tmp_path / "runs.db.9999.bak").exists()
