"""`lvjobs ledger check`: each way in which the ledger and what lies beside it can disagree is found, and told."""

import json
import sqlite3
from contextlib import closing

import pytest
from control_scenes import Scene, begun, make_haste

from lvjobs.control.recovery.check import check
from lvjobs.errors import UsageError
from lvjobs.files import append_line
from lvjobs.records.submission import orders_text


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    study = tmp_path / "study"
    study.mkdir(mode=0o700)
    scene = begun(Scene(study))
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    scene.cluster.advance(4)
    scene.make_pass()
    assert len(scene.causes()) == 2
    return scene


def found(scene):
    checked = check(scene.study, 5)
    return checked, [(each.level, each.what) for each in checked.findings if each.subject != "storage"]


def change(scene, query, *values):
    with closing(sqlite3.connect(scene.study.layout.database)) as connection, connection:
        connection.execute(query, values)


def wrong(scene, *words):
    """The check fails, once, and says so; with what to do."""
    checked = check(scene.study, 5)
    (finding,) = [each for each in checked.findings if each.level == "error"]
    assert not checked.is_fine
    assert finding.remedy
    for word in words:
        assert word in finding.what


def test_a_study_as_it_should_be(scene):
    before = scene.dump()
    checked, findings = found(scene)
    assert findings == []
    assert checked.is_fine
    assert checked.facts["runs"] == 1
    assert checked.facts["attempts"] == 2
    assert checked.facts["spent"] == scene.money()[0]
    assert scene.dump() == before, "a check changes nothing"


def test_a_charge_that_follows_from_no_journal(scene):
    change(scene, "UPDATE charges SET units = units + 1 WHERE attempt_id = 1 AND kind = 'useful'")
    wrong(scene, "attempt 1: 5 useful charged, 4 in the journals")


def test_a_charge_that_is_missing(scene):
    change(scene, "DELETE FROM charges WHERE attempt_id = 1 AND kind = 'useful'")
    wrong(scene, "0 useful charged, 4 in the journals")


def test_a_ledger_that_counted_what_no_journal_has(scene):
    """The row and its charges agree; both are wrong."""
    change(scene, "UPDATE attempts SET executed = executed + 3 WHERE id = 1")
    checked, findings = found(scene)
    assert not checked.is_fine
    assert any("runs.db and the journal disagree (executed" in what for _, what in findings)


def test_a_journal_that_lost_its_end_and_one_that_was_changed(scene):
    path = scene.files().journal(1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    wrong(scene, "attempt 1: a part of its journal, or its claim, is missing")
    path.write_bytes(whole.replace(b'"kind":"step"', b'"kind":"stap"', 1))
    checked, _ = found(scene)
    assert not checked.is_fine


def test_what_a_pass_has_not_read_yet_is_a_note(scene):
    scene.cluster.advance(1)
    checked, findings = found(scene)
    assert checked.is_fine
    assert findings == [("note", "attempt 2 has written more since the last update")]


def test_a_directory_that_is_gone(scene):
    scene.files().root.rename(scene.study.root / "elsewhere")
    wrong(scene, "is gone, and with it its checkpoints")


def test_a_directory_that_no_attempt_created_is_not_gone(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    study = tmp_path / "study"
    study.mkdir(mode=0o700)
    scene = Scene(study)
    scene.enter("one")
    scene.cluster.advance(1)
    scene.cluster.kill(scene.job().id)  # Slurm ended the job while its worker was loading
    scene.cluster.advance(4)
    scene.make_pass()
    assert scene.causes() == ["launch_failed"]
    assert scene.rows("attempts")[0]["generation"] is None
    assert not scene.files().root.exists()
    checked, findings = found(scene)
    assert checked.is_fine, findings


def test_a_done_marker_that_is_gone_and_one_that_nobody_has_seen(scene):
    change(scene, "UPDATE runs SET state = 'completed'")
    wrong(scene, "its done marker is gone")
    change(scene, "UPDATE runs SET state = 'running'")
    scene.files().done.write_text('{"generation": 2, "step": 12, "checkpoint": "000002-00000012", "time": 1.0}')
    checked, findings = found(scene)
    assert checked.is_fine
    assert ("note", "is done, and the ledger has it as running") in findings


def test_a_configuration_of_another_run(scene):
    value = json.loads(scene.files().config.read_text())
    scene.files().config.write_text(json.dumps({**value, "id": "other"}))
    wrong(scene, "is of another run than the ledger's")
    scene.files().config.write_text("{")
    wrong(scene, "so no job will train it")


def test_a_revoked_submission_that_no_worker_is_told_of(scene):
    change(scene, "UPDATE members SET state = 'revoked' WHERE state != 'live'")
    (revoked,) = [row["token"] for row in scene.rows("members") if row["state"] == "revoked"]
    path = scene.study.layout.submission(revoked)
    path.write_bytes(path.read_bytes().replace(b'"revoke"', b'"ignored"'))
    wrong(scene, "but its worker does not know")


def test_an_allowance_beyond_what_is_reserved_and_one_that_is_gone(scene):
    path = scene.study.layout.submission(scene.job().request.token)
    append_line(path, orders_text(allowed={"one": 10000}))
    wrong(scene, "may execute 10000 steps")
    path.unlink()
    wrong(scene, "would train without a limit, or not at all")


def test_a_run_that_the_ledger_does_not_know_and_one_that_came_to_nothing(scene):
    other = scene.study.layout.run("other")
    other.root.mkdir(parents=True)
    other.config.write_text("{}")
    checked, findings = found(scene)
    assert checked.is_fine
    assert findings == [("note", f"{other.root} was made for a run that was not submitted")]
    other.generation(1).write_text("{}")
    wrong(scene, "holds a run that the ledger does not know")


def test_somebody_elses_directory(scene, monkeypatch):
    monkeypatch.setattr("lvjobs.control.recovery.audit.is_foreign", lambda _path: True)
    wrong(scene, "belongs to user")


def test_a_damaged_checkpoint_is_told(scene):
    with scene.files().journal(2).open("a") as stream:
        stream.write('{"kind":"invalid_checkpoint","time":1,"name":"000001-00000004","problem":"a.bin is missing"}\n')
    checked, findings = found(scene)
    assert checked.is_fine
    assert any("checkpoint 000001-00000004 was damaged (a.bin is missing)" in what for _, what in findings)


def test_a_schema_that_is_older_or_newer(scene):
    change(scene, "UPDATE alembic_version SET version_num = '0002'")
    checked, findings = found(scene)
    assert checked.is_fine
    assert checked.facts == {}
    assert "has schema 0002" in findings[0][1]
    change(scene, "UPDATE alembic_version SET version_num = '9999'")
    wrong(scene, "of a newer lvjobs")


def test_what_others_may_read_is_a_note(scene):
    scene.study.root.chmod(0o755)
    scene.study.layout.database.chmod(0o644)
    notes = [each.what for each in check(scene.study, 5).findings if each.subject == "storage"]
    assert f"{scene.study.root} is open to others (mode 755)" in notes


def test_nothing_to_check(tmp_path, scene):
    scene.study.layout.database.unlink()
    with pytest.raises(UsageError, match="lvjobs ledger rebuild"):
        check(scene.study, 5)
    scene.study.layout.checkpoints.rename(tmp_path / "away")
    scene.study.layout.ledger_log.unlink()
    scene.study.layout.submissions.rename(tmp_path / "away too")
    with pytest.raises(UsageError, match=r"has no runs\.db yet"):
        check(scene.study, 5)
