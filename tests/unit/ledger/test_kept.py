"""Values that were in sentences, and in JSON among the settings, have columns and tables; the last release leaves them alone."""

import json
import shutil
import sqlite3
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from alembic import command
from click.testing import CliRunner
from ledger_helpers import at_0001, migrations

from lvjobs.cli import cli
from lvjobs.control.budget import archive
from lvjobs.control.driver.driver import Standing
from lvjobs.control.driver.notify import NoticeRecord
from lvjobs.control.reconcile.hang import Rest, Watch
from lvjobs.control.stages import pruning, search
from lvjobs.control.submission import avoided_nodes, dispatch
from lvjobs.control.submission.avoided_nodes import Avoidance, Avoided, read_avoidance
from lvjobs.ledger import database, schema
from lvjobs.ledger.copies import examine
from lvjobs.ledger.database import HEAD, LedgerError, open_ledger
from lvjobs.ledger.lease import LeaseLost
from lvjobs.ledger.rows import KeptTable
from lvjobs.ledger.tables import metadata
from lvjobs.study.words import Breakdown


def at(path, revision):
    """A ledger of the first release, as a later one has migrated it; returns a connection to it."""
    at_0001(path)
    config = migrations()
    engine = config.attributes["engine"] = database._engine(path)
    command.upgrade(config, revision)
    engine.dispose()
    return sqlite3.connect(path)


ENDS = [
    ("killed", "a device failed on node gpu-3: ECC; last step 7", "a device failed on node gpu-3"),
    ("killed", "a device failed: ECC; last step 7", "a device failed"),
    ("killed", "it was: killed", "its process died (-9) in a job that other runs share"),
    ("killed", "it was: killed", "its process died (None) in a job that other runs share"),
    ("killed", "it", ""),
]


def test_sentences_of_earlier_releases_become_values(tmp_path):
    connection = at(tmp_path / "runs.db", "0008")
    for cause, evidence, died in ENDS:
        connection.execute(
            "INSERT INTO attempts SELECT NULL, run_id, NULL, token, job_id, restart_count, host, started, 2.0, ?, ?, "
            "resumed_from, resumed_generation, step, executed, checkpoint_step, loss, untrained_loss, validation_loss, "
            "validation_step, validation_windows, signal, leave_cause, leave_action, error, traceback, finished, "
            "journal_offset, grown, generated, train_seconds, validation_seconds, checkpoint_seconds, checkpoints, "
            "checkpoint_bytes, allocated_seconds, gpus, sharing, ?, curve, NULL FROM attempts WHERE id = 1",
            (cause, evidence, died),
        )
    told = [
        ("submitted as job 17", "aa"),
        ("killed: a device failed on node gpu-3: ECC; last step 7; the study avoids node gpu-3; goes on", "aa"),
        ("killed: it was: killed; goes on", "aa"),
        ("killed: it was: killed", "aa"),
        ("killed: it was: killed; held: no progress", "aa"),
        ("killed: a device failed: ECC; last step 7; goes on", "bb"),
        ("the limit was raised", None),
    ]
    events = "INSERT INTO events (time, kind, text, run_id, details) VALUES (1, 'interrupted', ?, ?, '{}')"
    connection.executemany(events, told)
    connection.commit()
    connection.close()
    ledger = open_ledger(tmp_path / "runs.db", 1)
    with ledger.transaction() as transaction:
        found = [(each.died, each.failed_node, each.exit_status) for each in transaction.attempts()]
        assert found == [
            (Breakdown.NONE, "", None),
            (Breakdown.DEVICE, "gpu-3", None),
            (Breakdown.DEVICE, "", None),
            (Breakdown.PROCESS, "", -9),
            (Breakdown.PROCESS, "", None),
            (Breakdown.NONE, "", None),
        ]
        assert [(event.text, event.attempt_id) for event in transaction.events()] == [
            ("submitted as job 17", None),
            ("the study avoids node gpu-3; goes on", 2),
            ("goes on", 4),
            ("", 5),
            ("killed: it was: killed; held: no progress", None),
            ("killed: a device failed: ECC; last step 7; goes on", None),
            ("the limit was raised", None),
        ]
    ledger.close()


SETTINGS = {
    "driver": {"stopped": False, "refused": "no GPU", "refused_at": 5.0, "asked": "{}"},
    "notified": {"held": ["one"], "ended": False, "at": 7.0},
    "search:first": {"identity": "abc", "history": [{"point": {"rank": 8}}]},
    "pruning:first": {"reports": [["aa", 10, 0.5]], "pruned": ["aa"]},
    "watch": {
        "last": 9.0,
        "since": 8.0,
        "machine": "m",
        "uptime": 1.0,
        "rests": {"t.0": {"restart": 0, "total": None, "since": 9.0}},
    },
    "avoided_nodes": {
        "nodes": [
            {"node": "n2", "since": 1.0, "reason": "a device failed", "used_in": []},
            {"node": "n1", "since": 2.0, "reason": "node_fail", "used_in": ["low"]},
        ],
        "told": {"t/17": ["n1"]},
    },
    "closed by": {"format": 3, "convention": "official", "count_inference": True, "gpus": {"a": 2}, "profiles": {}},
    "limits": {},
    "closed sums": {"mark": [1, "t"], "tally": "{}"},
    "limit": 10**17,
    "memos": 1,
}


def test_what_was_json_among_the_settings_has_tables(tmp_path):
    connection = at(tmp_path / "runs.db", "0008")
    rows = [(key, json.dumps(value)) for key, value in SETTINGS.items()]
    connection.executemany("INSERT INTO settings VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    ledger = open_ledger(tmp_path / "runs.db", 1)
    with ledger.transaction() as transaction:
        assert transaction.rows("driver", Standing) == [Standing(refused="no GPU", refused_at=5.0, asked="{}")]
        assert transaction.rows("notices", NoticeRecord) == [NoticeRecord(["one"], at=7.0)]
        assert transaction.rows("searches", search.SearchRecord) == [
            search.SearchRecord("first", "abc", [{"point": {"rank": 8}}])
        ]
        assert transaction.rows("prunings", pruning.PruningRecord) == [
            pruning.PruningRecord("first", [["aa", 10, 0.5]], ["aa"])
        ]
        assert transaction.rows("watch", Watch) == [Watch(9.0, 8.0, "m", 1.0)]
        assert transaction.rows("suspensions", Rest) == [Rest("t.0", 0, None, 9.0)]
        assert read_avoidance(transaction) == Avoidance(
            [Avoided("n2", 1.0, "a device failed", []), Avoided("n1", 2.0, "node_fail", ["low"])], {"t/17": ["n1"]}
        )
        terms = {"convention": "official", "count_inference": True}
        assert transaction.rows("closed_basis", archive._Basis) == [archive._Basis(3, terms, {"a": 2}, {})]
        assert [transaction.setting(key) for key in ("limit", "memos", *RETIRED)] == [str(10**17), "1", *[None] * 9]
    ledger.close()


RETIRED = [key for key in SETTINGS if key not in ("limit", "memos")]
RECORDS = {
    "avoided_nodes": Avoided,
    "told_jobs": avoided_nodes._Told,
    "driver": Standing,
    "notices": NoticeRecord,
    "searches": search.SearchRecord,
    "prunings": pruning.PruningRecord,
    "watch": Watch,
    "suspensions": Rest,
    "site_limits": dispatch._Known,
    "closed_sums": archive._Sums,
    "closed_basis": archive._Basis,
}


@pytest.mark.parametrize("table", get_args(KeptTable))
def test_the_records_of_a_kept_table_have_its_columns(table):
    columns = {column.name for column in metadata.tables[table].columns}
    assert {item.name for item in fields(RECORDS[table])} - {"rests"} == columns


def test_rows_are_written_in_the_place_of_others_and_keep_their_order(tmp_path):
    ledger = open_ledger(tmp_path / "runs.db", 1)
    two = [Rest("b.0", 1, None, 2.0), Rest("a.0", 0, 3.5, 1.0)]
    with ledger.transaction() as transaction:
        transaction.set_rows("suspensions", [Rest("c.0", 0, 0.0, 0.0)])
        transaction.set_rows("suspensions", two)
        assert transaction.rows("suspensions", Rest) == two
        for stage in ("first", "second"):
            transaction.set_rows("searches", [search.SearchRecord(stage)], stage=stage)
        transaction.set_rows("searches", [search.SearchRecord("first", "anew")], stage="first")
        assert transaction.row("searches", search.SearchRecord, stage="first").identity == "anew"
        assert transaction.row("searches", search.SearchRecord, stage="second").identity == ""
        assert transaction.row("searches", search.SearchRecord, stage="third") is None
    ledger.close()


def as_the_last_release(tmp_path, monkeypatch):
    """From now on lvjobs knows all migrations but the newest."""
    package = tmp_path / "last" / "ledger"
    shutil.copytree(Path(schema.__file__).parent / "migrations", package / "migrations")
    (newest,) = (package / "migrations" / "versions").glob(f"{HEAD}_*.py")
    newest.unlink()
    monkeypatch.setattr(schema, "__file__", str(package / "schema.py"))
    monkeypatch.setattr(database, "HEAD", "0008")


def test_a_driver_of_the_last_release_writes_nothing_into_a_newer_ledger(tmp_path, monkeypatch):
    root = tmp_path / "study"
    root.mkdir(mode=0o700)
    (root / "study.toml").touch()
    assert CliRunner().invoke(cli, ["status", "--study", str(root)], standalone_mode=False).exception is None
    newer = (root / "runs.db").read_bytes()
    as_the_last_release(tmp_path, monkeypatch)
    ended = CliRunner().invoke(cli, ["driver", "run", "--study", str(root)], standalone_mode=False)
    assert isinstance(ended.exception, LedgerError), "which the command prints in one line"
    assert f"was written by another release of lvjobs (schema {HEAD})" in str(ended.exception)
    assert (ended.output, "\n" in str(ended.exception)) == ("", False)
    assert (root / "runs.db").read_bytes() == newer


def test_a_session_of_the_last_release_writes_nothing_once_a_newer_one_has_migrated(tmp_path, monkeypatch):
    lease = tmp_path / ".lvjobs" / "lease"
    lease.mkdir(parents=True)
    (lease / "000002").touch()
    with monkeypatch.context() as last:
        as_the_last_release(tmp_path, last)
        older = open_ledger(tmp_path / "runs.db", 1)
    open_ledger(tmp_path / "runs.db", 2).close()
    with pytest.raises(LeaseLost, match="another lvjobs process took over"), older.transaction() as transaction:
        transaction.set_setting("limit", "1")
    assert examine(tmp_path / "runs.db").is_current
