"""Scenarios of remedies for runs.db, the study's place and its files: the trouble, what to type, and its end."""

import copy
import shutil
import sqlite3
from contextlib import closing

import pytest
from control_scenes import begun
from driver_scenes import WithDrivers
from rebuild_scenes import as_an_older_release
from remedy_scenes import typed_scene

from lvjobs import remedies
from lvjobs.control.backends import driver_token
from lvjobs.ledger import storage
from lvjobs.ledger.copies import examine
from lvjobs.study.config import load_study


@pytest.fixture
def scene(tmp_path, monkeypatch):
    root = tmp_path / "study"
    root.mkdir(mode=0o700)
    scene = typed_scene(root, monkeypatch)
    monkeypatch.setattr("lvjobs.control.backends.cluster_for", lambda _study, _profile: scene.shown)
    return scene


def damage(path):
    """Overwrite the middle of the file, as a disk that fails may."""
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        stream.write(b"\xff" * 8192)


def completed(scene, typed, seconds=300):
    for _ in range(0, seconds, 20):
        scene.cluster.advance(20)
        typed("resume")
    return scene.state() == "completed"


# -- runs.db --------------------------------------------------------------------------------------------------------


@pytest.mark.remedy("LEDGER_REBUILD")
def test_the_ledger_is_gone(scene, typed, take):
    begun(scene)
    scene.study.layout.database.unlink()
    code, _, shown = typed("status")
    assert code == 2
    code, _, _ = take(remedies.LEDGER_REBUILD, shown)
    assert code == 0
    assert typed("status")[0] == 0
    assert completed(scene, typed)
    assert len(scene.jobs()) == 1, "its job was followed again"


@pytest.mark.remedy("LEDGER_CHECK", "LEDGER_REBUILD_ASIDE", "DRIVER_STOP", "DRIVER_START")
def test_the_ledger_is_damaged(scene, typed, take):
    """And what was not restored, where an older release kept no log, is put right."""
    begun(scene)
    as_an_older_release(scene)
    damage(scene.study.layout.database)
    code, _, shown = typed("ledger", "backup")
    assert code != 0
    code, shown, _ = take(remedies.LEDGER_CHECK, shown)
    assert code == 1
    code, shown, _ = take(remedies.LEDGER_REBUILD_ASIDE, shown)
    assert code == 0
    assert typed("ledger", "check")[0] == 0
    scene.shown = WithDrivers(scene.cluster, driver_token(scene.study.root))
    code, shown, _ = take(remedies.DRIVER_STOP, shown)
    assert code == 0
    assert "no driver" in shown
    _, shown, _ = typed("driver", "status")
    code, shown, _ = take(remedies.DRIVER_START, shown)
    assert code == 0
    assert "it was stopped" not in typed("driver", "status")[1]
    assert completed(scene, typed)


@pytest.mark.remedy("LEDGER_CHECK", "LEDGER_REBUILD_ASIDE")
def test_a_file_in_the_place_of_the_ledger_is_none(scene, typed, take):
    begun(scene)
    with closing(sqlite3.connect(scene.study.root / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE settings (key, value)")
    (scene.study.root / "other.db").rename(scene.study.layout.database)
    _, _, shown = typed("status")
    code, shown, _ = take(remedies.LEDGER_CHECK, shown)
    assert code == 1
    assert take(remedies.LEDGER_REBUILD_ASIDE, shown)[0] == 0
    assert completed(scene, typed)


@pytest.mark.remedy("LEDGER_REBUILD_ASIDE")
def test_charges_that_the_journals_do_not_show(scene, typed, take):
    begun(scene)
    with closing(sqlite3.connect(scene.study.layout.database)) as connection, connection:
        connection.execute("UPDATE charges SET units = units + 5")
    code, shown, _ = typed("ledger", "check")
    assert code == 1
    assert take(remedies.LEDGER_REBUILD_ASIDE, shown)[0] == 0
    assert typed("ledger", "check")[0] == 0


@pytest.mark.remedy("REMOVE_LOG")
def test_a_line_of_the_log_is_damaged(scene, typed, take):
    begun(scene)
    log = scene.study.layout.ledger_log
    log.write_bytes(log.read_bytes().replace(b"one", b"two", 1))
    code, shown, _ = typed("ledger", "check")
    assert code == 1
    assert "is damaged (line" in shown
    assert take(remedies.REMOVE_LOG, shown, path=log)[0] == 0
    code, shown, _ = typed("ledger", "check")
    assert (code, "is not up to date" in shown) == (0, True)
    assert typed("status")[0] == 0
    assert "not up to date" not in typed("ledger", "check")[1]
    assert completed(scene, typed)


@pytest.mark.parametrize("command", ["status", "ledger check"])
@pytest.mark.parametrize("trouble", ["the lease was deleted", "runs.db is from a later time"])
def test_a_lease_that_is_behind_the_ledger_is_taken_with_a_later_number(tmp_path, scene, typed, trouble, command):
    begun(scene)
    if trouble == "the lease was deleted":
        shutil.rmtree(scene.study.layout.lease)
    else:
        shutil.copytree(scene.study.layout.lease, tmp_path / "earlier")
        for _ in range(5):
            typed("status")
        shutil.rmtree(scene.study.layout.lease)
        shutil.copytree(tmp_path / "earlier", scene.study.layout.lease)
    code, out, errors = typed(*command.split())
    assert code == 0, out + errors
    assert typed("ledger", "check")[0] == 0
    assert completed(scene, typed)


@pytest.mark.remedy("LEDGER_EXPORT", "LEDGER_BACKUP")
def test_other_programs_want_to_read_a_ledger_on_a_network_file_system(scene, typed, take, monkeypatch):
    begun(scene)
    on_nfs = storage.storage_of(scene.study.root).__class__
    real = storage.storage_of(scene.study.root)
    monkeypatch.setattr("lvjobs.control.recovery.check.storage_of", lambda _: on_nfs(**{**vars(real), "kind": "nfs4"}))
    _, shown, _ = typed("ledger", "check")
    code, exported, _ = take(remedies.LEDGER_EXPORT, shown)
    assert code == 0
    assert '"table": "runs"' in exported
    code, _, _ = take(remedies.LEDGER_BACKUP, shown)
    assert code == 0
    (made,) = scene.study.root.glob("runs.db.*.bak")
    assert examine(made).is_current


@pytest.mark.remedy("CHMOD_PRIVATE")
def test_a_study_that_others_may_read(scene, typed, take):
    begun(scene)
    scene.study.root.chmod(0o755)
    scene.study.layout.config.chmod(0o600)
    _, shown, _ = typed("ledger", "check")
    code, _, _ = take(remedies.CHMOD_PRIVATE, shown, path=scene.study.root)
    assert code == 0
    assert scene.study.root.stat().st_mode & 0o777 == 0o700
    assert "chmod" not in typed("ledger", "check")[1]


# -- its place ------------------------------------------------------------------------------------------------------


def on_another_disk(scene, monkeypatch):
    """The study as `mv` leaves it on another file system: a copy, whose original is gone."""
    root = scene.study.root.with_name("disk2")
    shutil.copytree(scene.study.root, root)
    shutil.rmtree(scene.study.root)
    return elsewhere(scene, root, monkeypatch)


def elsewhere(scene, root, monkeypatch):
    monkeypatch.chdir(root)
    other = copy.copy(scene)
    other.study = load_study(root)
    scene.cluster.submit = getattr(
        scene.cluster.submit, "submit", scene.cluster.submit
    )  # the books of both are not one
    return other


@pytest.mark.remedy("STUDY_MOVED")
def test_a_study_that_was_moved_to_another_disk(scene, typed, take, monkeypatch):
    begun(scene)
    other = on_another_disk(scene, monkeypatch)
    code, _, shown = typed("resume")
    assert code == 2
    code, _, _ = take(remedies.STUDY_MOVED, shown)
    assert code == 0
    assert typed("resume")[0] == 0
    assert other.state() != "paused"


@pytest.mark.remedy("STUDY_COPIED", "RESUME_RUN", "DRIVER_START")
def test_a_study_that_was_copied_to_another_disk(scene, typed, take, monkeypatch):
    begun(scene)
    other = on_another_disk(scene, monkeypatch)
    _, _, shown = typed("resume")
    code, out, _ = take(remedies.STUDY_COPIED, shown)
    assert code == 0
    assert other.state() == "paused"
    assert "it was stopped" in typed("driver", "status")[1]
    code, _, _ = take(remedies.DRIVER_START, out)
    assert code == 0
    assert "it was stopped" not in typed("driver", "status")[1]
    _, shown, _ = typed("why", "one")
    code, _, _ = take(remedies.RESUME_RUN, shown, run="one")
    assert code == 0
    assert other.state() in ("queued", "interrupted", "running")
    assert len(scene.jobs("one")) == 1
    assert [job for job in scene.cluster.jobs if job.run_directory == other.files().root]


@pytest.mark.remedy("LEDGER_REBUILD_ASIDE")
def test_a_study_that_was_copied_in_the_middle_of_a_write(scene, typed, take, monkeypatch):
    begun(scene)
    root = scene.study.root.with_name("copy")
    shutil.copytree(scene.study.root, root)
    other = elsewhere(scene, root, monkeypatch)
    with closing(sqlite3.connect(root / "runs.db")) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM submissions")
    code, _, shown = typed("status")
    assert "in the middle of a write" in shown
    code, _, _ = take(remedies.LEDGER_REBUILD_ASIDE, shown)
    assert code == 0
    code, out, _ = typed("resume")
    assert code == 0
    assert "is a copy of" in out
    assert other.state() == "paused"
