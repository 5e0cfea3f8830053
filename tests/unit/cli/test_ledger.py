"""`lvjobs ledger` as it is typed: exit codes, what is printed, what is written."""

import csv
import json
import sqlite3
from contextlib import closing

import pytest
from control_scenes import Scene, begun, make_haste

from lvjobs.ledger.database import HEAD
from lvjobs.report.outputs import as_text


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A study whose run is completed: commands then ask no cluster."""
    make_haste(monkeypatch)
    study = tmp_path / "study"
    study.mkdir(mode=0o700)
    scene = begun(Scene(study))
    scene.go(60)
    assert scene.state() == "completed"
    with closing(sqlite3.connect(study / "runs.db")) as connection, connection:
        connection.execute("UPDATE members SET state = 'settled'")
    return scene


@pytest.fixture
def ledger(typed, scene):
    def type_command(*words):
        return typed("ledger", words[0], "--study", scene.study.root, *words[1:])

    return type_command


def test_check(ledger, scene):
    code, out, err = ledger("check")
    assert (code, err) == (0, "")
    assert f"runs.db: schema {HEAD}, 1 run, 1 attempt, 1 charge, 1200 FLOPs spent" in out
    assert out.endswith("fine: runs.db is intact, and all charges match the journals\n")
    journal = scene.files().journal(1)
    journal.write_bytes(journal.read_bytes().partition(b"\n")[0] + b"\n")  # the claim alone
    code, out, _ = ledger("check")
    assert code == 1
    assert "error: one: attempt 1: a part of its journal" in out
    assert "problem" in out
    code, out, _ = ledger("check", "--json")
    assert code == 1
    checked = json.loads(out)
    assert (checked["schema"], checked["fine"], checked["revision"]) == (1, False, HEAD)
    assert {"level", "subject", "what", "remedy"} == set(checked["findings"][0])


def test_backup(ledger, scene, tmp_path, typed):
    code, out, _ = ledger("backup")
    assert code == 0
    (copy,) = scene.study.root.glob("runs.db.*.bak")
    assert str(copy) in out
    log = copy.with_name(f"{copy.name}.log")
    assert log.read_bytes() == scene.study.layout.ledger_log.read_bytes()
    aside = copy.rename(tmp_path / "moved")
    code, _, err = ledger("backup", copy)
    assert (code, f"{log} exists" in err) == (2, True)
    aside.rename(copy)
    code, _, err = ledger("backup", copy)
    assert code == 2
    assert "exists, and was not changed" in err
    assert err.count("\n") == 1
    assert ledger("backup", tmp_path)[0] == 0, "a directory gets a file of its own"
    before = scene.dump()
    scene.study.layout.database.unlink()
    assert ledger("backup")[0] == 2
    copy.rename(scene.study.layout.database)
    assert scene.dump() == before
    assert ledger("check")[0] == 0
    scene.study.layout.database.unlink()
    log.rename(scene.study.layout.ledger_log)
    assert ledger("rebuild")[0] == 0
    assert scene.rows("charges") == before["charges"]


def test_rebuild(ledger, scene):
    before = scene.rows("charges"), scene.rows("attempts")[0]["executed"]
    code, _, err = ledger("rebuild")
    assert code == 2
    assert "was not changed" in err
    scene.study.layout.database.unlink()
    code, _, err = ledger("check")
    assert code == 2
    assert "lvjobs ledger rebuild" in err
    code, out, _ = ledger("rebuild")
    assert code == 0
    assert "runs.db: 1 run, 1 attempt" in out
    assert "not restored" not in out
    assert "nothing was submitted" in out
    assert (scene.rows("charges"), scene.rows("attempts")[0]["executed"]) == before
    code, out, _ = ledger("rebuild", "--aside", "--json")
    assert code == 0
    assert json.loads(out)["aside"]
    assert ledger("check")[0] == 0


def test_export(ledger, tmp_path):
    code, out, _ = ledger("export", tmp_path / "tables")
    assert code == 0
    assert "1 run, 1 attempt, 1 charge, 6 stages" in out
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert names == {
        f"{table}.{form}" for table in ("runs", "attempts", "charges", "stages") for form in ("csv", "jsonl")
    }
    with (tmp_path / "tables" / "charges.csv").open() as stream:
        (charge,) = csv.DictReader(stream)
    assert (charge["run"], charge["kind"], charge["units"], charge["flops"], charge["counts"]) == (
        "one",
        "useful",
        "12",
        "1200",
        "true",
    )
    (run,) = map(json.loads, (tmp_path / "tables" / "runs.jsonl").read_text().splitlines())
    assert (run["state"], run["config"]["steps"], run["cause"]) == ("completed", 12, "completed")
    code, _, err = ledger("export", tmp_path / "tables")
    assert code == 2
    assert "--force" in err
    assert ledger("export", tmp_path / "tables", "--force")[0] == 0


def test_export_to_the_terminal(ledger):
    _, out, _ = ledger("export")
    assert [json.loads(line)["table"] for line in out.splitlines()] == ["runs", "attempts", "charges", *["stages"] * 6]
    _, out, _ = ledger("export", "--table", "attempts", "--format", "csv")
    assert out.splitlines()[0].startswith("id,run_id,token")
    code, _, err = ledger("export", "--format", "csv")
    assert code == 2
    assert "--table" in err


def test_numbers_that_are_none_and_tables_in_cells():
    rows = [{"loss": float("nan"), "config": {"b": 1, "a": [float("inf")]}, "none": None, "text": 'a "b",\nc'}]
    (line,) = map(json.loads, as_text(rows, "jsonl").splitlines())
    assert line == {"loss": None, "config": {"b": 1, "a": [None]}, "none": None, "text": 'a "b",\nc'}
    read = list(csv.reader(as_text(rows, "csv").splitlines(keepends=True)))
    assert read == [["loss", "config", "none", "text"], ["nan", '{"a": [Infinity], "b": 1}', "", 'a "b",\nc']]
    assert as_text([], "csv") == as_text([], "jsonl") == ""


def test_where_there_is_no_study(typed, tmp_path):
    for command in ("check", "backup", "rebuild", "export"):
        code, _, err = typed("ledger", command, "--study", tmp_path)
        assert code == 2
        assert "there is no study" in err


def test_init_tells_where_the_study_lies(typed, tmp_path, monkeypatch):
    from dataclasses import replace

    from lvjobs.ledger import storage

    real = storage.storage_of
    monkeypatch.setattr(storage, "storage_of", lambda path: replace(real(path), kind="nfs4", read_only=False))
    code, _, err = typed("init", "--study", tmp_path / "study")
    assert code == 0
    assert "note: storage: nfs4 is a network file system" in err
