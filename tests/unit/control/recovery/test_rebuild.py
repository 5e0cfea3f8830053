"""runs.db is deleted, and made anew from the run directories: the same runs, attempts and charges, and no second job."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from control_scenes import Scene, begun, make_haste
from rebuild_scenes import finish, rebuilt, rows
from stage_scenes import FIRST, OTHER, Sweep

from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.sent import SentJob
from lvjobs.cluster.templates import available_profiles
from lvjobs.control.recovery.backup import BackupWriter
from lvjobs.control.recovery.check import check
from lvjobs.control.recovery.recover import recover
from lvjobs.control.stages.requests import choose
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.ledger import database
from lvjobs.ledger.backup_record import backup_records, parse_backup


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)

    def made(**more):
        (tmp_path / "study").mkdir(exist_ok=True)
        return Scene(tmp_path / "study", **more)

    return made


def lose(scene):
    """The ledger is deleted; what it had is returned."""
    before = rows(scene)
    scene.study.layout.database.unlink()
    return before


def killed(scene):
    scene.cluster.kill(scene.job().id)
    scene.make_pass()


def preempted(scene):
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(2)
    scene.make_pass()
    scene.cluster.advance(6)
    scene.make_pass()
    assert scene.causes() == ["preempted", None]


def node_failed(scene):
    """An end that nobody saw, by Slurm's word: a part of what it may have executed is charged unseen."""
    scene.cluster.fail_node(scene.job().id)
    scene.go(30)
    assert scene.spent()["estimated"]


def failed(scene):
    scene.worker.failing["one"] = 7
    scene.go(60)
    assert scene.state() == "held"


def cancelled(scene):
    scene.cancel("one")
    scene.cluster.advance(130)
    scene.make_pass()


def launch_failed(scene):
    scene.cluster.kill(scene.job().id)
    scene.go(30)
    scene.cluster.hold_launch(scene.job().id)
    scene.make_pass()


def taken_up(scene):
    failed(scene)
    scene.worker.failing.clear()
    scene.resume_runs("one", time_limit="30m")
    scene.make_pass()


def completed(scene):
    finish(scene)
    assert scene.state() == "completed"


HISTORIES = [killed, preempted, node_failed, failed, cancelled, launch_failed, taken_up, completed]


@pytest.mark.parametrize("history", HISTORIES)
def test_a_lost_ledger_comes_back_as_it_was_and_nothing_is_submitted_twice(make, history):
    scene = begun(make())
    history(scene)
    before, jobs, calls = lose(scene), len(scene.cluster.jobs), list(scene.cluster.calls)
    made = rebuilt(scene)
    assert rows(scene) == before
    assert (made.runs, made.attempts) == (1, len(before["attempts"]))
    assert (len(scene.cluster.jobs), scene.cluster.calls) == (jobs, calls), "a rebuild only looks"
    alive = {job.id for job in scene.alive() if not scene.is_revoked(job)}
    scene.one_pass()
    left = {job.id for job in scene.alive() if not scene.is_revoked(job)}
    assert alive <= left
    assert len(left) <= 1
    finish(scene)
    if before["runs"][0]["state"] in ("held", "cancelled"):
        assert scene.state() == before["runs"][0]["state"], "what the user or a fault ended stays ended"
    else:
        assert scene.state() == "completed"
        assert scene.spent()["useful"] == 12


def test_an_array_comes_back_with_its_members(make):
    scene = begun(make(), "one", "two", "three")
    scene.cluster.kill(scene.job("two").id)
    scene.make_pass()
    before, jobs = lose(scene), len(scene.cluster.jobs)
    rebuilt(scene)
    assert rows(scene) == before
    finish(scene, "one", "two", "three")
    assert [scene.state(name) for name in ("one", "two", "three")] == ["completed"] * 3
    assert [len(scene.jobs(name)) for name in ("one", "two", "three")] == [1, 2, 1]
    assert len(scene.cluster.jobs) == jobs


@pytest.mark.parametrize(("fault", "jobs"), [("lost", 1), ("vanished", 0)])
def test_a_submission_without_an_answer_is_looked_up_by_its_token(make, fault, jobs):
    scene = make()
    scene.cluster.submit_faults.append(fault)
    scene.enter("one")
    assert len(scene.cluster.jobs) == jobs
    lose(scene)
    rebuilt(scene)
    assert scene.state() == ("queued" if jobs else "submitting")
    finish(scene)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


@pytest.mark.parametrize("memo", ["none", "empty", "half"])
def test_an_earlier_releases_directories_are_enough_where_their_jobs_can_be_found(make, memo):
    """No `ledger.json`, or one that a machine left that lost its power: claims tell the tokens, the scheduler tells how their jobs stand; the rest is held, and told."""
    scene = begun(make(), "one", "two")
    scene.cancel("two")
    scene.make_pass()
    for name in ("one", "two"):
        path = scene.files(name).memo
        text = path.read_text()
        path.unlink() if memo == "none" else path.write_text("" if memo == "empty" else text[: len(text) // 2])
    spent, jobs = scene.spent(), len(scene.cluster.jobs)
    lose(scene)
    made = rebuilt(scene)
    assert scene.spent() == spent
    assert scene.state("two") == "held"
    assert "not known" in scene.run("two")["reason"]
    assert any(line.startswith("two: whether it was held, paused or cancelled") for line in made.lost)
    assert len(scene.cluster.jobs) == jobs
    with closing(sqlite3.connect(scene.study.layout.database)) as connection, connection:
        # it was no "lab" that study.toml named
        connection.execute("UPDATE submissions SET profile = 'lab', backend = 'slurm'")
    finish(scene)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


def test_the_newest_submission_is_live_although_the_script_of_an_older_one_is_gone(make):
    scene = begun(make())
    older = scene.job().request
    killed(scene)
    newer = scene.reach(3)
    for path in (scene.files().memo, *scene.files().revoked.iterdir()):
        path.unlink()
    kept = SentJob(newer.request.token, "slurm", (scene.files().root,), newer.eligible, newer.id)
    found = recover(scene.files(), scene.study.config, [kept], str, scene.clock.now).memo
    assert [(one.token, one.job_id) for one in found.submissions] == [(older.token, "1"), (kept.token, newer.id)]
    states = {one.token: one.state.value for one in found.members}
    assert states == {older.token: "settled", kept.token: "live"}


@pytest.mark.parametrize(("declared", "backend"), [("local", "slurm"), ("lab", "local")])
def test_a_submission_to_another_backend_than_study_toml_names_has_a_profile_of_that_backend(make, declared, backend):
    scene = begun(make())
    scene.files().memo.unlink()
    job = scene.job()
    config = scene.study.config.model_copy(update={"profile": declared})
    kept = SentJob(job.request.token, backend, (scene.files().root,), job.eligible, job.id)
    run = recover(scene.files(), config, [kept], str, scene.clock.now).run
    assert backend_of(run.profile).name == backend
    assert run.profile in ("local", *available_profiles())


def test_commands_do_not_begin_a_ledger_beside_runs_that_it_would_not_know(make):
    scene = begun(make())
    lose(scene)
    for attempt in (scene.one_pass, lambda: scene.enter("one")):
        with pytest.raises(UsageError, match=r"holds 1 run, whose jobs may be in the queue.*lvjobs ledger rebuild"):
            attempt()
    scene.study.layout.database.write_bytes(b"")
    with pytest.raises(UsageError, match="lvjobs ledger rebuild"):
        scene.one_pass()
    assert len(scene.jobs()) == 1


def test_a_ledger_that_is_there_is_left_alone_unless_it_is_to_be_put_aside(make):
    scene = begun(make())
    before = rows(scene)
    with pytest.raises(UsageError, match=r"is left alone.*--aside"):
        rebuilt(scene)
    (scene.study.root / "runs.db-journal").write_bytes(b"of a write that was cut short")
    made = rebuilt(scene, aside=True)
    assert rows(scene) == before
    names = sorted(path.name.rpartition(".")[2] for path in made.aside)
    assert names == ["aside", "aside-journal"]
    assert not (scene.study.root / "runs.db-journal").exists(), "it would be played back into the new ledger"


def test_a_damaged_ledger_is_put_aside(make):
    scene = begun(make())
    before, path = rows(scene), scene.study.layout.database
    path.write_bytes(b"\xff" * 5000)
    (finding,) = [each for each in check(scene.study, 5).findings if each.level == "error"]
    assert "not a database" in finding.what
    assert "lvjobs ledger rebuild --aside" in finding.remedy
    rebuilt(scene, aside=True)
    assert rows(scene) == before


def test_a_pass_in_the_way_of_a_death_between_two_steps_of_a_rebuild(make, monkeypatch):
    """The old ledger is aside and the new one not yet there: it is as if it had been deleted."""
    scene = begun(make())
    before = rows(scene)
    monkeypatch.setattr("lvjobs.control.recovery.rebuild.fsync_directory", lambda _path: None)
    monkeypatch.setattr("pathlib.Path.rename", _rename_until(scene.study.root / ".runs.db.rebuilt"))
    with pytest.raises(KeyboardInterrupt):
        rebuilt(scene, aside=True)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="lvjobs ledger rebuild"):
        scene.one_pass()
    rebuilt(scene)
    assert rows(scene) == before


def _rename_until(last):
    from pathlib import Path

    rename = Path.rename

    def renamed(path, target):
        if path == last:
            raise KeyboardInterrupt
        return rename(path, target)

    return renamed


def test_directories_that_cannot_be_believed_are_told_and_passed_over(make, monkeypatch):
    scene = begun(make(), "one", "two", "three")
    lose(scene)
    root = scene.study.layout.checkpoints
    (root / "two" / "run.json").write_text("{")
    scene.files("three").memo.write_text('{"schema": 1}')
    (root / "copy").mkdir()
    (root / "copy" / "run.json").write_text((root / "one" / "run.json").read_text())
    made = rebuilt(scene)
    assert [row["name"] for row in scene.rows("runs")] == ["one"]
    text = "\n".join(made.lost)
    assert "two cannot be read" in text
    assert "three cannot be read (not what runs.db knows of a run" in text
    assert "copy is a copy of the directory of one" in text


def test_somebody_elses_directory_is_not_believed(make, monkeypatch):
    scene = begun(make(), "one", "two")
    lose(scene)
    monkeypatch.setattr("lvjobs.control.recovery.rebuild.is_foreign", lambda path: path.name == "two")
    made = rebuilt(scene)
    assert [row["name"] for row in scene.rows("runs")] == ["one"]
    assert any("two belongs to user" in line for line in made.lost)


def test_a_journal_that_is_gone_is_told(make):
    scene = begun(make())
    killed(scene)
    lose(scene)
    scene.files().generation(1).unlink()
    made = rebuilt(scene)
    assert any("attempt 1: its claim is gone, and what it executed is not charged" in line for line in made.lost)


def test_a_silent_scheduler_is_told_and_the_next_pass_looks(make):
    scene = begun(make())
    before = lose(scene)
    scene.cluster.silent = True
    made = rebuilt(scene)
    scene.cluster.silent = False
    assert rows(scene) == before
    assert any("the next pass that is answered looks again" in note for note in made.notes)


def test_stages_have_their_runs_again_and_hand_picked_winners_are_told_as_lost(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir()
    scene = Sweep(tmp_path / "study", FIRST, OTHER)
    scene.ask("first")
    names = [row["name"] for row in scene.rows("runs")]
    finish(scene, *names)
    scene.do(choose, "first", names[0], "it is the one")
    before, jobs = lose(scene), len(scene.cluster.jobs)
    made = rebuilt(scene)
    assert rows(scene) == before
    assert any("stage first" in line and "chosen by hand" in line for line in made.lost)
    assert not any("stage other" in line for line in made.lost), "it had no runs"
    scene.ask("first")
    scene.one_pass()
    assert scene.stands("first") == ["completed"]
    assert len(scene.cluster.jobs) == jobs, "what is there is not trained again"


def test_memos_say_what_the_ledger_says_whoever_changed_it(make):
    scene = begun(make(), "one", "two")
    scene.cluster.kill(scene.job("one").id)
    scene.make_pass()
    scene.cancel("two")
    with scene.session() as session, session.ledger.transaction() as transaction:
        memos = backup_records(transaction, {run.id for run in transaction.runs()})
    for memo in memos:
        text = scene.files(memo.run.name).memo.read_text()
        assert text == memo.to_json()
        again = parse_backup(text, memo.run.config)
        assert again.to_json() == text


def test_a_job_id_that_is_learnt_by_itself_is_kept(make):
    scene = begun(make())
    (token,) = [row["token"] for row in scene.rows("submissions")]
    with scene.session() as session, session.ledger.transaction() as transaction:
        transaction.update_submission(token, job_id="4711")
    assert '"job_id": "4711"' in scene.files().memo.read_text()


def test_a_pass_that_learns_only_steps_writes_no_memo(make, monkeypatch):
    scene = begun(make(steps=200, every=100))
    written = []
    monkeypatch.setattr("lvjobs.control.recovery.backup.write_many", lambda contents, **_: written.extend(contents))
    scene.cluster.advance(10)
    assert scene.one_pass() == []
    assert written == []


def test_runs_of_an_earlier_release_get_their_memos_at_the_first_command(make):
    scene = begun(make())
    written = scene.files().memo.read_text()
    scene.files().memo.unlink()
    with closing(sqlite3.connect(scene.study.layout.database)) as connection, connection:
        connection.execute("DELETE FROM settings WHERE key = 'memos'")
    scene.one_pass()
    assert scene.files().memo.read_text() == written


def test_a_memo_that_cannot_be_written_stops_the_submission(make, monkeypatch):
    scene = make()

    def full(_contents, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lvjobs.control.recovery.backup.write_many", full)
    with pytest.raises(LvjobsError, match=r"ledger\.json cannot be written \(No space left on device\)"):
        scene.enter("one")
    assert scene.cluster.jobs == []
    monkeypatch.undo()
    monkeypatch.setattr(database.os, "fsync", lambda _descriptor: None)
    finish(scene)
    assert len(scene.cluster.jobs) <= 1


def test_a_keeper_passes_over_a_directory_that_is_gone(tmp_path, make):
    scene = begun(make())
    with scene.session() as session, session.ledger.transaction() as transaction:
        (memo,) = backup_records(transaction, {run.id for run in transaction.runs()})
    for path in sorted(scene.files().root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    scene.files().root.rmdir()
    BackupWriter(scene.study.layout)([memo])
    assert not scene.files().root.exists()


def test_a_keeper_writes_what_is_new_and_nothing_else(make):
    scene = begun(make())
    with scene.session() as session, session.ledger.transaction() as transaction:
        (memo,) = backup_records(transaction, {run.id for run in transaction.runs()})
    keeper, before = BackupWriter(scene.study.layout), scene.files().memo.stat().st_ino
    keeper([memo])
    assert scene.files().memo.stat().st_ino == before
    keeper([replace(memo, run=replace(memo.run, not_before=1.0))])
    assert scene.files().memo.stat().st_ino != before
