"""A disk that is full, or read-only: a small file system is mounted, and no result lies; with room again, it goes on."""

import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest
from control_scenes import Scene, make_haste
from small_disk import filled, mounted, read_only
from worker_helpers import make_run

from lvjobs.errors import LvjobsError
from lvjobs.ledger.copies import back_up, examine
from lvjobs.records.journal import parse_entries
from lvjobs.worker.journal import JournalWriter


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk"):
        yield tmp_path / "disk"


# -- the worker -----------------------------------------------------------------------------------------------------


def test_full_at_a_journal_line(disk, fault):
    journal = JournalWriter(disk / "journals" / "000001.jsonl")
    journal.write("start", generation=1)
    told = 0
    with filled(disk):
        with pytest.raises(LvjobsError, match=r"cannot be written \(No space left on device\).*lvjobs resume"):
            for step in range(1, 1000):
                journal.write("step", step=step, loss=0.5)
                told = step
        seen, end = parse_entries(journal.path.read_bytes())
        assert [entry.fields["step"] for entry in seen[1:]] == list(range(1, told + 1))
        assert journal.path.stat().st_size > end, "the last line is torn, and not read"
        with pytest.raises(LvjobsError):
            journal.write("error", message="the attempt ends")
    again = JournalWriter(journal.path)
    again.write("step", step=told + 1, loss=0.5)
    seen, _ = parse_entries(journal.path.read_bytes())
    assert [entry.fields["step"] for entry in seen[1:]] == list(range(1, told + 2))
    journal.close()
    again.close()
    fault("full_journal", None, saw="one line, and what to type; the torn line is not read")


# -- the ledger -----------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(disk, tmp_path, monkeypatch):
    """A study on the small disk, whose run directories are elsewhere: a worker there is not what is tested."""
    make_haste(monkeypatch)
    (disk / "study").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (disk / "study" / "checkpoints").symlink_to(tmp_path / "checkpoints")
    return Scene(disk / "study")


def finish(scene):
    for _ in range(12):
        scene.one_pass()
        if scene.state() == "completed" and not scene.is_busy():
            break
        scene.cluster.advance(35)
    assert scene.state() == "completed"
    assert scene.worker.executed["one"] == 12
    assert scene.spent() == {"useful": 12}
    assert len(scene.jobs()) == 1
    assert examine(scene.study.layout.database).problems == ()


@pytest.mark.parametrize("left", [0, 4096, 16_384])
def test_full_at_a_submission(scene, disk, left, fault):
    """Wherever in it the room ends: at the lease, at the ledger's journal, at the ledger, behind it."""
    with (
        filled(disk, left),
        pytest.raises((LvjobsError, OSError), match=r"No space left|full|cannot be written") as told,
    ):
        scene.enter("one")
        scene.one_pass()
    assert told.value.errno == 28 if isinstance(told.value, OSError) else "\n" not in str(told.value)
    jobs = len(scene.cluster.jobs)
    assert jobs <= 1
    if not scene.rows("runs"):
        scene.enter("one")
    finish(scene)
    fault("full_ledger", scene)


@pytest.mark.parametrize("left", [0, 4096, 16_384])
def test_full_while_a_run_trains(scene, disk, left, fault):
    scene.enter("one")
    scene.one_pass()
    with filled(disk, left):
        for _ in range(3):
            scene.cluster.advance(3)
            with suppress(LvjobsError):  # which the command line prints; a pass that has no need to write is fine
                scene.one_pass()
    finish(scene)
    fault("full_ledger", scene)


def test_full_at_a_copy(scene, disk, tmp_path):
    scene.enter("one")
    with filled(disk), pytest.raises(LvjobsError, match="no copy was kept"):
        back_up(scene.study.layout.database, disk / "copy")
    assert sorted(path.name for path in disk.iterdir()) == ["study"]
    back_up(scene.study.layout.database, tmp_path / "copy")


def test_what_the_user_is_told(scene, disk, typed, fault):
    """In one line each, and never a traceback; what a pass said before can still be read."""
    scene.enter("one")
    scene.one_pass()
    (disk / "study" / "study.toml").write_text('profile = "local"\n')
    at = ("--study", disk / "study")
    with filled(disk):
        code, out, err = typed("status", *at)
        assert (code, "one" in out) == (0, True)
        assert "No space left on device" in err or "full" in err
        assert "; the state shown is " in err
        assert err.count("\n") == 1
        code, out, _ = typed("ledger", "check", *at)
        assert code in (1, 2)
        assert "Traceback" not in out
        assert typed("status", "--no-pass", *at)[0] == 0
    with read_only(disk):
        code, _, err = typed("status", *at)
        assert code == 0
        assert "cannot be written (Read-only file system); nothing was done" in err
        assert "; the state shown is " in err
        code, _, err = typed("resume", *at)
        assert code == 2
        assert "cannot be written (Read-only file system); nothing was done" in err
        assert typed("status", "--no-pass", *at)[0] == 0
        code, out, err = typed("ledger", "check", "--json", *at)
        assert code == 1
        checked = json.loads(out)
        assert checked["revision"]
        errors = [each["what"] for each in checked["findings"] if each["level"] == "error"]
        assert any("is mounted read-only here" in what for what in errors)
    code, out, _ = typed("ledger", "check", *at)
    assert (code, "MiB are free" in out, "tmpfs is this machine's memory" in out) == (1, True, True), "4 MiB are few"
    finish(scene)
    fault("read_only", scene, saw="cannot be written (Read-only file system); nothing was done")


def test_a_worker_on_a_disk_that_became_read_only(disk):
    layout = make_run(disk / "run")
    journal = JournalWriter(layout.journal(1))
    journal.write("start", generation=1)
    journal.close()
    with read_only(disk):
        done = subprocess.run(
            [sys.executable, "-m", "lvjobs.worker", str(layout.root)],
            env={key: value for key, value in os.environ.items() if not key.startswith("LVJOBS")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
