"""runs.db is deleted, and made anew from its log, or from what an older release left: the same runs, attempts and charges, and no second job."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from control_scenes import begun
from rebuild_scenes import HISTORIES, as_an_older_release, finish, killed, lose, rebuilt, rows, swept

from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.sent import SentJob
from lvjobs.cluster.templates import available_profiles
from lvjobs.control.recovery.check import check
from lvjobs.control.submission.submission_files import write_run_files
from lvjobs.errors import UsageError
from lvjobs.ledger.transaction import Transaction


@pytest.mark.parametrize("older", [False, True], ids=["log", "backup records"])
@pytest.mark.parametrize("history", HISTORIES)
def test_a_lost_ledger_comes_back_as_it_was_and_nothing_is_submitted_twice(make, history, older):
    scene = begun(make())
    history(scene)
    if older:
        as_an_older_release(scene)
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
    assert rebuilt(scene).jobs == jobs
    assert scene.state() == "submitting"
    scene.one_pass()
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
    as_an_older_release(scene)
    for name in ("one", "two"):
        path = scene.files(name).memo
        text = path.read_text()
        path.unlink() if memo == "none" else path.write_text("" if memo == "empty" else text[: len(text) // 2])
    spent, jobs = scene.spent(), len(scene.cluster.jobs)
    lose(scene)
    made = rebuilt(scene)
    assert scene.spent() == spent
    assert scene.state("two") == "held"
    assert "earlier state is unknown" in scene.run("two")["reason"]
    assert any(line.startswith("two: whether it was held, paused or cancelled") for line in made.lost)
    assert len(scene.cluster.jobs) == jobs
    with closing(sqlite3.connect(scene.study.layout.database)) as connection, connection:
        # it was no "lab" that study.toml named
        connection.execute("UPDATE submissions SET profile = 'lab', backend = 'slurm'")
    finish(scene)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


def test_the_newest_submission_is_live_although_the_script_of_an_older_one_is_gone(make, monkeypatch):
    scene = begun(make())
    older = scene.job().request
    killed(scene)
    newer = scene.reach(3)
    as_an_older_release(scene)
    for path in (scene.files().memo, scene.study.layout.submission(older.token)):
        path.unlink()
    kept = SentJob(newer.request.token, "slurm", (scene.files().root,), newer.eligible, newer.id)
    monkeypatch.setattr("lvjobs.control.recovery.rebuild.sent_jobs", lambda *_: [kept])
    lose(scene)
    rebuilt(scene)
    jobs = [(row["token"], row["job_id"]) for row in scene.rows("submissions")]
    assert jobs == [(older.token, "1"), (kept.token, newer.id)]
    states = {row["token"]: row["state"] for row in scene.rows("members")}
    assert states == {older.token: "settled", kept.token: "live"}


def test_a_submission_of_an_older_release_without_an_answer_is_looked_up_by_its_token(make, monkeypatch):
    """Of the run there is only run.json, and of the submission only its script."""
    scene = make()
    scene.cluster.submit_faults.append("lost")
    scene.enter("one")
    token = scene.rows("submissions")[0]["token"]
    with scene.session() as session:
        run = session.ledger.call(Transaction.find_run, name="one")
    scene.files().generations.mkdir(parents=True)
    write_run_files(scene.study, [run])
    scene.study.layout.ledger_log.unlink()
    scene.study.layout.submission(token).unlink()
    kept = SentJob(token, "slurm", (scene.files().root,), scene.clock.now)
    monkeypatch.setattr("lvjobs.control.recovery.rebuild.sent_jobs", lambda *_: [kept])
    lose(scene)
    rebuilt(scene)
    assert scene.state() == "submitting"
    scene.one_pass()
    assert scene.state() == "queued"
    finish(scene)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


@pytest.mark.parametrize(("declared", "backend"), [("local", "slurm"), ("lab", "local")])
def test_a_submission_to_another_backend_than_study_toml_names_has_a_profile_of_that_backend(
    make, monkeypatch, declared, backend
):
    scene = begun(make())
    as_an_older_release(scene)
    scene.files().memo.unlink()
    job = scene.job()
    kept = SentJob(job.request.token, backend, (scene.files().root,), job.eligible, job.id)
    monkeypatch.setattr("lvjobs.control.recovery.rebuild.sent_jobs", lambda *_: [kept])
    config = scene.study.config.model_copy(update={"profile": declared})
    scene.study = replace(scene.study, config=config)
    lose(scene)
    rebuilt(scene)
    run = scene.run()
    assert backend_of(run["profile"]).name == backend
    assert run["profile"] in ("local", *available_profiles())
    (submission,) = scene.rows("submissions")
    assert (submission["profile"], submission["backend"]) == (run["profile"], backend)


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
    with pytest.raises(UsageError, match=r"was not changed.*--aside"):
        rebuilt(scene)
    (scene.study.root / "runs.db-journal").write_bytes(b"of a write that was cut short")
    made = rebuilt(scene, aside=True)
    assert rows(scene) == before
    assert [path.name.rpartition(".")[2] for path in made.aside] == ["aside"]
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
    as_an_older_release(scene)
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
    as_an_older_release(scene)
    lose(scene)
    monkeypatch.setattr("lvjobs.control.recovery.recover.is_foreign", lambda path: path.name == "two")
    made = rebuilt(scene)
    assert [row["name"] for row in scene.rows("runs")] == ["one"]
    assert any("two belongs to user" in line for line in made.lost)


def test_a_journal_that_is_gone_is_told(make):
    scene = begun(make())
    killed(scene)
    as_an_older_release(scene)
    lose(scene)
    scene.files().generation(1).unlink()
    made = rebuilt(scene)
    assert any("attempt 1: its claim is gone, and what it executed is not charged" in line for line in made.lost)


@pytest.mark.parametrize("has_record", [True, False])
def test_a_done_marker_shows_that_a_run_and_its_last_attempt_are_finished(make, has_record):
    """Also without the last line of the journal, which a failing node never wrote."""
    scene = begun(make())
    finish(scene)
    as_an_older_release(scene)
    journal = scene.files().journal(1)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    if not has_record:
        scene.files().memo.unlink()
    lose(scene)
    rebuilt(scene)
    assert scene.state() == "completed"
    (attempt,) = scene.rows("attempts")
    assert (bool(attempt["finished"]), attempt["step"]) == (has_record, 12)


def test_a_silent_scheduler_is_told_and_the_next_pass_looks(make):
    scene = begun(make())
    before = lose(scene)
    scene.cluster.silent = True
    made = rebuilt(scene)
    scene.cluster.silent = False
    assert rows(scene) == before
    assert any("the next update looks again" in note for note in made.notes)


def test_stages_of_an_older_release_have_their_runs_again_and_hand_picked_winners_are_reported_as_lost(
    tmp_path, monkeypatch
):
    scene = swept(tmp_path, monkeypatch)
    names = [row["name"] for row in scene.rows("runs")]
    as_an_older_release(scene)
    before, jobs = lose(scene), len(scene.cluster.jobs)
    made = rebuilt(scene)
    assert rows(scene) == before
    assert any("stage first" in line and "chosen by hand" in line for line in made.lost)
    assert not any("stage other" in line for line in made.lost), "it had no runs"
    scene.ask("first")
    scene.one_pass()
    assert scene.stands("first") == ["completed"]
    assert len(scene.cluster.jobs) == jobs == len(names), "existing runs are not trained again"
