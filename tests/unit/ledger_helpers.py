"""Rows for tests of the ledger, and a ledger of the first release."""

import sqlite3
from dataclasses import replace
from pathlib import Path

from alembic import command
from alembic.config import Config

from lvjobs.ledger import database
from lvjobs.ledger.records import RunRecord


def a_run(name="one", **changes):
    run = RunRecord(
        id=name * 2,
        name=name,
        stage="train",
        fingerprint=name,
        config={"steps": 10},
        profile="local",
        resources={"gpus": 1},
        code="c0de",
        created=1.5,
    )
    return replace(run, **changes)


def at_0001(path):
    """A ledger as the first release left it, with a row in every table that refers to another."""
    config = migrations()
    engine = config.attributes["engine"] = database._engine(path)
    command.upgrade(config, "0001")
    engine.dispose()
    connection = sqlite3.connect(path)
    run = "INSERT INTO runs VALUES (?, ?, ?, 'train', 'f', '{\"steps\": 10}', 'local', '{}', 'c', 1, ?, NULL, '', 0, 0, ?, ?)"
    connection.execute(run, (1, "aa", "a", "running", 6_771_659_802_624, 551_000))
    connection.execute(run, (2, "bb", "b", "completed", 0, 0))
    columns = "id, run_id, generation, token, job_id, restart_count, host, started, evidence, resumed_from, "
    columns += "resumed_generation, step, executed, checkpoint_step, validation_windows, signal, leave_cause, "
    columns += "leave_action, error, traceback, finished, journal_offset, grown"
    values = "1, 'aa', 1, 't', '17', 0, 'h', 1, '', 0, 0, 7, 7, 0, 3, '', '', '', '', '', 0, 99, 1"
    connection.execute(f"INSERT INTO attempts ({columns}) VALUES ({values})")
    connection.execute("INSERT INTO charges VALUES (1, 'useful', 'aa', 7, 6771659802624)")
    connection.execute("INSERT INTO charges VALUES (1, 'validation', 'aa', 3, 551000)")
    connection.execute("INSERT INTO submissions VALUES ('t', 'local', 'local', 1, 1, '17')")
    connection.execute("INSERT INTO members VALUES ('t', 0, 'aa', 'live', NULL, -1)")
    connection.commit()
    connection.close()


def migrations():
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    return config
