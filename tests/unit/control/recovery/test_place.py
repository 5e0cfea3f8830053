"""A study knows where it lives: a copy leaves the original's jobs alone, and a moved study keeps them."""

import copy
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from control_scenes import Scene, begun, make_haste
from driver_scenes import Driven
from rebuild_scenes import finish
from stage_scenes import FIRST, SECOND, Sweep

from lvjobs.control.backends import driver_token
from lvjobs.control.driver import notify
from lvjobs.control.driver.driver import set_stopped
from lvjobs.control.loop import open_session
from lvjobs.control.recovery import place
from lvjobs.control.recovery.check import check
from lvjobs.control.recovery.disown import stake_of
from lvjobs.control.recovery.place import PlaceUnclear, StudyOrigin, judge, read_place, recorded_place
from lvjobs.control.recovery.rebuild import rebuild
from lvjobs.errors import LvjobsError
from lvjobs.ledger.lease import acquire
from lvjobs.records.place import StudyLocation, parse_place
from lvjobs.study.notify import Notify


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)

    def made(kind=Scene, *stages, **more):
        (tmp_path / "study").mkdir()
        return kind(tmp_path / "study", *stages, **more)

    return made


def at(scene, root):
    """The scene as commands see it that are typed in `root`, on the same cluster."""
    other = copy.copy(scene)
    other.study = replace(scene.study, root=root)
    submit = scene.cluster.submit
    scene.cluster.submit = getattr(submit, "submit", submit)  # no check against the books of one study only
    return other


def copied(scene, name="copy"):
    """A copy of the study's directory, as `cp -r` makes it."""
    root = scene.root.with_name(name)
    shutil.copytree(scene.root, root, symlinks=True)
    return at(scene, root)


def moved(scene, name="elsewhere"):
    return at(scene, scene.root.rename(scene.root.with_name(name)))


def moved_to_another_disk(scene, name="disk2"):
    """As `mv` does between two file systems: a copy is made, and the original is deleted."""
    other = copied(scene, name)
    shutil.rmtree(scene.root)
    return other


def passed(scene):
    """Return the actions of a pass. (`one_pass` compares with what workers executed in all, which a copy does not know.)"""
    with scene.session() as session:
        return session.make_pass()["did"]


def events(scene, kind="place"):
    return [row["text"] for row in scene.rows("events") if row["kind"] == kind]


def place_of(scene):
    with scene.session() as session, session.ledger.transaction() as transaction:
        return recorded_place(transaction)


# -- a copy --------------------------------------------------------------------------------------------------------


def test_a_copy_does_not_touch_the_jobs_of_its_original(make):
    scene = begun(make(steps=400, hung_seconds=30))
    other = copied(scene)
    for _ in range(20):
        scene.cluster.advance(15)
        scene.one_pass()
        passed(other)
    assert scene.calls("cancel") == []
    finish(scene)
    assert scene.state() == "completed"
    assert scene.spent() == {"useful": 400}
    assert len(scene.cluster.jobs) == 1
    assert other.state() == "paused"
    assert [row["state"] for row in other.rows("members")] == ["settled"]
    assert not other.files().revoked.exists() or list(other.files().revoked.iterdir()) == []


def test_a_copy_says_what_it_does_not_follow_and_how_to_train_it_there(make):
    scene = begun(make(steps=100), "one", "two")
    other = copied(scene)
    told = passed(other)
    assert told[0].startswith(f"this study is a copy of {scene.root}, whose jobs belong to the original")
    assert "(1 job, 2 open runs, 0 open stages)" in told[0]
    assert other.run()["reason"] == (
        f"belongs to the original in {scene.root}; to also train it here, type: lvjobs resume one"
    )
    assert passed(other) == []
    assert len(events(other)) == 1
    assert events(scene) == []


def test_what_a_copied_journal_shows_stays_charged_and_nothing_more(make):
    scene = begun(make(steps=100, every=40))
    spent = scene.spent()
    other = copied(scene)
    scene.cluster.advance(20)
    passed(other)
    assert other.causes() == ["cancelled"]
    assert sum(other.spent().values()) == sum(spent.values())
    assert "estimated" not in other.spent()
    assert other.money()[1] == 0, "what was reserved for it is free"


def test_an_attempt_that_the_copied_ledger_has_not_seen_is_read_from_its_journal(make):
    scene = begun(make(steps=400))
    ledger = scene.study.layout.database.read_bytes()
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(300)
    assert len(list(scene.files().journals.glob("*.jsonl"))) == 2
    other = copied(scene)
    other.study.layout.database.write_bytes(ledger)
    passed(other)
    assert other.causes() == ["preempted", "cancelled"]
    passed(other)
    assert "estimated" not in other.spent()


def test_a_run_of_a_copy_that_is_resumed_trains_there_beside_the_original(make):
    scene = begun(make(steps=60))
    other = copied(scene)
    passed(other)
    other.resume_runs("one")
    for _ in range(30):
        passed(other)
        passed(scene)
        scene.cluster.advance(10)
    assert (scene.state(), other.state()) == ("completed", "completed")
    assert len({job.request.token for job in scene.cluster.jobs}) == 2
    assert scene.calls("cancel") == []
    assert len(scene.rows("attempts")) == 1


def test_completed_and_held_runs_of_a_copy_stay_as_they_are(make):
    scene = make()
    scene.worker.failing["two"] = 8
    begun(scene, "one", "two", taken=2)
    finish(scene, "one", "two")
    scene.enter("three")
    other = copied(scene)
    passed(other)
    assert [other.state(name) for name in ("one", "two", "three")] == ["completed", "held", "paused"]
    assert other.run("two")["reason"] == scene.run("two")["reason"]


def test_a_run_that_was_done_when_it_was_copied_is_completed_in_the_copy(make):
    scene = begun(make())
    scene.cluster.advance(60)
    assert scene.files().done.exists()
    assert scene.state() == "running"
    other = copied(scene)
    passed(other)
    assert other.state() == "completed"
    assert other.spent() == {"useful": 12}


def test_a_planned_run_of_a_copy_is_not_submitted(make):
    scene = make()
    scene.cluster.submit_faults.append("deferred")
    scene.enter("one")
    assert scene.state() == "planned"
    other = copied(scene)
    passed(other)
    passed(other)
    assert scene.cluster.jobs == []
    assert other.state() == "paused"
    scene.one_pass()
    assert len(scene.cluster.jobs) == 1


def test_stages_of_a_copy_stop_until_they_are_asked_for_again(make):
    scene = make(Sweep, FIRST, SECOND)
    scene.ask("first", "second")
    scene.cluster.advance(4)
    scene.one_pass()
    other = copied(scene)
    passed(other)
    assert other.stands("first", "second") == ["declared", "declared"]
    assert {row["state"] for row in other.rows("runs")} == {"paused"}
    jobs = len(scene.cluster.jobs)
    other.ask("first")
    assert other.stands("first") == ["running"]
    assert len(scene.cluster.jobs) > jobs
    assert scene.stands("first", "second") == ["running", "asked"]


def test_a_copy_has_no_driver_until_one_is_started(make):
    scene = begun(make(Driven))
    assert len(scene.shown.live()) == 2
    other = copied(scene)
    assert driver_token(other.study.root) != driver_token(scene.study.root)
    for _ in range(3):
        passed(other)
        passed(scene)
    assert len(scene.shown.drivers) == 2
    other.resume_runs("one")
    passed(other)
    assert len(scene.shown.live()) == 2
    with other.session() as session:
        set_stopped(session, stopped=False)
        session.make_pass()
    assert len(scene.shown.live()) == 4
    passed(scene)
    assert len(scene.shown.live()) == 4


def test_a_copy_sends_no_notice(make, monkeypatch):
    scene = make(steps=40)
    config = scene.study.config.model_copy(update={"notify": Notify(webhook="https://chat.example/hook")})
    scene.study = replace(scene.study, config=config)
    sent = []
    monkeypatch.setitem(
        notify._CHANNELS,
        "webhook",
        lambda session, _address, notice, _run: sent.append(notify.message(session.study, notice)) or "",
    )
    other = copied(begun(scene))
    passed(other)
    passed(other)
    assert sent == []
    other.resume_runs("one")
    for _ in range(20):
        passed(other)
        scene.cluster.advance(10)
    assert other.state() == "completed"
    assert [value["event"] for value in sent] == ["ended"]


def test_a_copy_takes_its_lease_while_the_original_holds_its_own(make):
    scene = begun(make(steps=100))
    lease = scene.study.layout.lease
    with acquire(lease, wait=5):
        other = copied(scene)
        assert passed(other)


def test_a_copy_of_a_copy_disowns_the_copys_jobs(make):
    scene = begun(make(steps=400))
    first = copied(scene)
    passed(first)
    first.resume_runs("one")
    passed(first)
    second = copied(first, "second")
    told = passed(second)
    assert told[0].startswith(f"this study is a copy of {first.root}")
    assert second.state() == "paused"
    assert first.state() in ("queued", "interrupted", "running")


def test_a_copy_whose_runs_db_is_made_anew_first_is_a_copy_all_the_same(make):
    scene = begun(make(steps=400))
    other = copied(scene)
    other.study.layout.database.write_bytes(b"torn" * 2000)
    rebuild(other.study, lambda *_: scene.cluster, wait=5, aside=True, now=scene.clock.now)
    told = passed(other)
    assert told[0].startswith(f"this study is a copy of {scene.root}")
    assert other.state() == "paused"
    assert scene.calls("cancel") == []


def test_a_copy_of_a_ledger_that_was_torn_is_refused(make):
    scene = begun(make(steps=400))
    other = copied(scene)
    with closing(sqlite3.connect(other.study.layout.database)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("DELETE FROM submissions")
    before = other.study.layout.database.read_bytes()
    with pytest.raises(LvjobsError, match=r"copied in the middle of a write .*ledger rebuild --aside"):
        passed(other)
    assert other.dump() == _dump_of(before, other)


def _dump_of(content, scene):
    kept = scene.study.layout.database.read_bytes()
    scene.study.layout.database.write_bytes(content)
    dump = scene.dump()
    scene.study.layout.database.write_bytes(kept)
    return dump


def test_a_ledger_that_is_copied_in_the_middle_of_a_commit_is_rolled_back(make):
    scene = begun(make(steps=400))
    with closing(sqlite3.connect(scene.study.layout.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_spill=1")
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN IMMEDIATE")
        for number in range(2000):
            connection.execute("INSERT INTO settings VALUES (?, ?)", (f"key {number}", "x" * 500))
        assert scene.study.layout.database.with_name("runs.db-journal").stat().st_size > 0
        other = copied(scene)
        connection.execute("ROLLBACK")
    assert other.study.layout.database.with_name("runs.db-journal").exists()
    checked = check(other.study, 5)
    assert checked.is_fine
    assert any("this is a copy" in finding.what for finding in checked.findings)
    passed(other)
    assert other.state() == "paused"
    assert check(other.study, 5).is_fine


# -- moved ---------------------------------------------------------------------------------------------------------


def test_a_moved_study_keeps_its_jobs(make):
    scene = begun(make(steps=60))
    other = moved(scene)
    told = passed(other)
    assert told[0] == f"the study was moved here from {scene.root}; its jobs are followed from here"
    assert [row["state"] for row in other.rows("members")] == ["live"]
    assert passed(other) == []
    assert len(events(other)) == 1
    assert place_of(other).former == (str(scene.root),)


def test_the_drivers_of_the_place_that_was_left_end_and_new_ones_begin(make):
    scene = begun(make(Driven))
    assert scene.shown.live() == ["900", "901"]
    other = moved(scene)
    passed(other)
    assert scene.shown.live() == ["902", "903"]
    assert {job.token for job in scene.shown.drivers[2:]} == {driver_token(other.study.root)}
    passed(other)
    assert scene.shown.live() == ["902", "903"]


def test_the_drivers_of_another_study_in_the_place_that_was_left_are_its_own(make):
    scene = begun(make(Driven))
    other = moved(scene)
    scene.root.mkdir()
    scene.study.layout.database.touch()
    passed(other)
    assert scene.shown.live() == ["900", "901", "902", "903"]


def test_a_study_that_is_moved_back_has_its_first_root_again(make):
    scene = begun(make(steps=60))
    other = moved(scene)
    passed(other)
    other.root.rename(scene.root)
    passed(scene)
    assert [row["state"] for row in scene.rows("members")] == ["live"]
    assert len(events(scene)) == 1


def test_a_study_with_two_names_is_in_one_place(make, tmp_path):
    scene = begun(make(steps=60))
    before = place_of(scene)
    (tmp_path / "link").symlink_to(scene.root)
    other = at(scene, tmp_path / "link")
    for _ in range(2):
        passed(other)
        passed(scene)
    assert place_of(scene) == before
    assert events(scene) == []


def test_two_hosts_that_mount_a_study_under_two_names_are_told_once(make, monkeypatch):
    """Each host sees one of the names; the inode number is the same, and the device is not."""
    scene = begun(make(steps=60))
    passed(scene)
    names = [str(scene.root), "/export/home/study"]
    shown = {"name": names[0]}
    real = place._place_of

    def seen(root):
        found = real(root)
        return replace(found, path=shown["name"], device=found.device + names.index(shown["name"]))

    monkeypatch.setattr(place, "_place_of", seen)
    monkeypatch.setattr(place, "_is_same_directory", lambda one, other: one == other)
    monkeypatch.setattr(place, "_lives_at", lambda _study, _path: False)
    for name in names * 3:
        shown["name"] = name
        passed(scene)
    assert len(events(scene)) == 1
    assert [row["state"] for row in scene.rows("members")] == ["live"]


def test_a_backup_that_is_restored_in_place_is_the_study(make):
    scene = begun(make(steps=60))
    passed(scene)
    backup = copied(scene, "backup")
    shutil.rmtree(scene.root)
    scene.root.with_name("taken").mkdir()  # which takes the inode, on file systems that use them again
    shutil.copytree(backup.root, scene.root)
    passed(scene)
    assert [row["state"] for row in scene.rows("members")] == ["live"]
    assert place_of(scene).inode == scene.root.stat().st_ino
    assert events(scene) == []


def test_a_study_that_was_moved_away_from_a_backup_of_it_keeps_its_jobs(make):
    """The backup has never been opened, so that it says of itself that it lives where the study lived."""
    scene = begun(make(steps=60))
    passed(scene)
    copied(scene, "backup")
    other = moved(scene)
    passed(other)
    assert [row["state"] for row in other.rows("members")] == ["live"]


def test_a_study_of_an_earlier_release_records_its_place_silently(make):
    scene = begun(make(steps=60))
    with closing(sqlite3.connect(scene.study.layout.database)) as connection, connection:
        connection.execute("DELETE FROM settings WHERE key = 'place'")
    scene.study.layout.place.unlink()
    assert passed(scene) == []
    assert read_place(scene.study.layout) == place_of(scene)
    assert events(scene) == []


def test_a_ledger_that_is_made_anew_in_its_place_has_the_place_that_it_had(make):
    scene = begun(make(steps=60))
    before = place_of(scene)
    scene.study.layout.database.unlink()
    rebuild(scene.study, lambda *_: scene.cluster, wait=5, aside=False, now=scene.clock.now)
    passed(scene)
    assert place_of(scene) == before
    scene.study.layout.place.write_text("{")
    passed(scene)
    assert read_place(scene.study.layout) == before


# -- the user is asked ---------------------------------------------------------------------------------------------


def test_a_study_that_may_be_a_copy_does_nothing_until_the_user_answers(make):
    scene = begun(make(steps=400, hung_seconds=30))
    other = moved_to_another_disk(scene)
    before = other.dump()
    for _ in range(5):
        scene.clock.now += 15
        with pytest.raises(PlaceUnclear, match=r"lvjobs study moved .* lvjobs study copied"):
            passed(other)
    assert other.dump() == before
    assert [scene.calls(verb) for verb in ("cancel", "release", "lift_hold")] == [[], [], []]
    assert len(scene.cluster.jobs) == 1


@pytest.mark.parametrize(
    ("answer", "member", "state"), [(StudyOrigin.MOVED, "live", "running"), (StudyOrigin.COPIED, "settled", "paused")]
)
def test_the_user_is_asked_once(make, answer, member, state):
    scene = begun(make(steps=400))
    other = moved_to_another_disk(scene)
    with answered(other, answer) as session:
        assert len(session.arrival.news) == 1
        session.make_pass()
    passed(other)
    assert [row["state"] for row in other.rows("members")] == [member]
    assert other.state() == state
    assert scene.calls("cancel") == []


def answered(scene, answer):
    return open_session(
        scene.study, wait=5, factory=lambda _study, _profile: scene.shown, clock=scene.clock, answer=answer
    )


@pytest.mark.parametrize("answer", [StudyOrigin.MOVED, StudyOrigin.COPIED])
def test_an_answer_to_no_question_changes_nothing(make, answer):
    scene = begun(make(steps=60))
    before = scene.dump()
    with answered(scene, answer) as session:
        assert session.arrival.news == ()
    assert scene.dump() == before


def test_nobody_is_asked_where_nothing_hangs_on_the_answer(make):
    scene = begun(make())
    finish(scene)
    with scene.session() as session, session.ledger.transaction() as transaction:
        assert not any(stake_of(transaction))
    other = moved_to_another_disk(scene)
    assert passed(other) == [f"the study was moved here from {scene.root}; its jobs are followed from here"]


def test_commands_that_change_something_ask_and_status_shows_what_is_known(make, typed):
    scene = begun(make(steps=400))
    other = moved_to_another_disk(scene)
    before = other.dump()
    for command in (
        ["resume"],
        ["resume", "one"],
        ["cancel", "one"],
        ["sweep", "stop", "all"],
        ["watch"],
    ):
        code, out, err = typed(*command, "--study", other.root)
        assert (code, out) == (2, ""), command
        assert err.startswith(f"lvjobs: the study was in {scene.root}, now in {other.root}; lvjobs cannot see")
    for command in (["status"], ["why", "one"], ["show", "one"]):
        code, out, err = typed(*command, "--study", other.root)
        assert code == 0
        assert "one" in out
        assert f"type lvjobs study moved --study {other.root}, or" in err
    code, out, _ = typed("status", "--json", "--study", other.root)
    assert code == 0
    assert "lvjobs study copied" in json.loads(out)["stale"]
    assert other.dump() == before
    code, out, err = typed("study", "copied", "--study", other.root)
    assert (code, err) == (0, "")
    assert out.startswith(f"this study is a copy of {scene.root}, whose jobs belong to the original")
    assert other.state() == "paused"
    code, out, _ = typed("study", "moved", "--study", other.root)
    assert (code, out) == (0, f"{other.root}: the study is already recorded here; nothing was changed\n")
    assert other.state() == "paused"


# -- judging -------------------------------------------------------------------------------------------------------


def test_the_root_of_another_file_system_is_not_known_by_its_inode_number(monkeypatch, tmp_path):
    recorded = StudyLocation("a" * 16, str(tmp_path / "gone"), 7, 2)
    here = StudyLocation("b" * 16, str(tmp_path), 8, 2)
    assert judge(recorded, here) is StudyOrigin.MOVED
    monkeypatch.setattr(place.os.path, "ismount", lambda _path: True)
    assert judge(recorded, here) is StudyOrigin.UNCLEAR
    assert judge(replace(recorded, device=8), here) is StudyOrigin.MOVED


def test_a_place_survives_being_written_and_read():
    here = StudyLocation("a" * 16, "/home/a study", 7, 2, ("/home/before",))
    assert parse_place(here.to_json()) == here
    for text in ("{", "[]", "{}", '{"study": 1}', "null"):
        with pytest.raises(ValueError):
            parse_place(text)
