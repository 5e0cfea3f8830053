"""The journal's writer, and what the run interface puts into it."""

import errno
import hashlib
import math
import os
import time

import numpy as np
import pytest
import torch
from worker_helpers import entries, make_run, revoke, submit

from lvjobs.errors import LvjobsError
from lvjobs.files import append_line
from lvjobs.records.journal import parse_entries
from lvjobs.records.run_files import CheckpointName
from lvjobs.records.submission import orders_text
from lvjobs.worker import attempt as attempt_module
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.checkpoints import find_newest_valid, verify, write_checkpoint
from lvjobs.worker.early_exit import Deadline
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.submission import Submission


def test_one_write_a_line(tmp_path, monkeypatch):
    path = tmp_path / "journals" / "000001.jsonl"
    journal = JournalWriter(path)
    written, real = [], os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: written.append(data) or real(descriptor, data))
    journal.write("start", token="t")
    journal.write("step", step=1, loss=0.5)
    journal.close()
    assert len(written) == 2
    assert all(data.endswith(b"\n") for data in written)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.kind for entry in parse_entries(path.read_bytes())[0]] == ["start", "step"]


@pytest.mark.parametrize(
    ("kind", "synced"),
    [("start", 1), ("checkpoint", 1), ("leave", 1), ("error", 1), ("done", 1), ("step", 0), ("validation", 0)],
)
def test_what_is_synced(tmp_path, monkeypatch, kind, synced):
    journal = JournalWriter(tmp_path / "j" / "1")
    calls, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(1) or real(descriptor))
    journal.write(kind)
    journal.close()
    assert len(calls) == synced


def test_a_torn_line_takes_nothing_with_it(tmp_path, fault):
    path = tmp_path / "j" / "1"
    path.parent.mkdir()
    path.write_bytes(b'{"kind":"step","time":1,"step":1}\n{"kind":"st')
    journal = JournalWriter(path)
    journal.write("step", step=2)
    journal.write("step", step=3)
    journal.close()
    assert [entry.fields["step"] for entry in parse_entries(path.read_bytes())[0]] == [1, 2, 3]
    fault("torn_line", None, saw="nothing: the next line is whole")


def test_a_short_write_says_so_and_the_next_line_survives(tmp_path, monkeypatch):
    path = tmp_path / "j" / "1"
    journal = JournalWriter(path)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        with pytest.raises(LvjobsError, match="cannot be written"):
            journal.write("step", step=1)
    journal.write("error", step=1)
    journal.close()
    assert [entry.kind for entry in parse_entries(path.read_bytes())[0]] == ["error"]


@pytest.fixture
def make_attempt(tmp_path):
    layout = make_run(tmp_path / "runs" / "run", steps=33)
    submit(layout)
    made = []

    def make(generation=1, deadline=None):
        journal = JournalWriter(layout.journal(generation))
        made.append(journal)
        found, invalid = find_newest_valid(layout)
        submission = Submission(layout, "abc")
        return Attempt(
            layout,
            submission.read_run(),
            generation,
            submission,
            journal,
            found,
            invalid,
            deadline or Deadline(None, None, 0.0),
        )

    yield make
    for journal in made:
        journal.close()


@pytest.mark.parametrize("what", ["generations", "orders"])
def test_a_file_system_that_is_away_for_a_while_ends_no_run(make_attempt, monkeypatch, what):
    """A run looks ten thousand times a day; nothing is published without the fence, whatever it saw."""
    run = make_attempt()
    run.resume()
    monkeypatch.setattr(attempt_module, "_CHECK_EVERY", -1.0)

    def away(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(attempt_module, "is_superseded", away) if what == "generations" else patch.setattr(
            "pathlib.Path.open", away
        )
        assert run.must_stop() is False
        patch.setattr(attempt_module, "_UNREADABLE_SECONDS", -1.0)
        with pytest.raises(OSError, match="Input/output"):
            run.must_stop()
    assert run.must_stop() is False
    revoke(run.layout)
    assert run.must_stop() is True


def test_it_leaves_before_a_step_whose_validation_the_job_would_not_survive(make_attempt):
    """The checkpoint comes after it: all since the last one would be lost."""
    run = make_attempt(deadline=Deadline(time.time() + 1000, None, 0.0))
    run.resume()
    for step in range(1, 29):
        run.log(step)
    run._validation_seconds = 2000.0
    assert not run.must_stop(), "step 29 is not validated"
    run.log(29)
    assert run.must_stop()


def test_metrics(make_attempt):
    run = make_attempt()
    assert run.resume() is None
    run.log(1, loss=torch.tensor(0.25, requires_grad=True) * 1, tokens=np.int64(2**40 + 1), learning_rate=1e-5)
    run.validated(1, loss=np.float32(0.5), batches=3)
    (step,) = entries(run.layout, "step")
    assert step == step | {"step": 1, "loss": 0.25, "tokens": 2**40 + 1, "learning_rate": 1e-5}
    assert type(step["tokens"]) is int
    assert step["seconds"] >= 0
    path = run.checkpoint(1, {"x": 1})
    assert find_newest_valid(run.layout)[0].manifest.metrics == {
        "loss": 0.25, "tokens": 2**40 + 1, "learning_rate": 1e-5, "validation_loss": 0.5, "validation_batches": 3,
    }  # fmt: skip
    (checkpoint,) = entries(run.layout, "checkpoint")
    assert checkpoint["name"] == path.stem
    assert checkpoint["bytes"] == path.stat().st_size


def test_a_checkpoint_takes_four_syncs_and_proves_the_journal(make_attempt, monkeypatch):
    """The journal, the file, its directory, and the journal's line about it."""
    run = make_attempt()
    run.layout.steps.mkdir(exist_ok=True)
    run.log(1)
    journal, synced, real = run.journal.path.read_bytes(), [], os.fsync

    def fsync(descriptor):
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    path = run.checkpoint(1, {"x": torch.zeros(3), "saved": lambda directory: (directory / "a").touch()})
    assert len(synced) == 4
    first = verify(path)
    assert (first.manifest.parent, first.manifest.journal_bytes) == ("", len(journal))
    assert first.manifest.journal_sha256 == hashlib.sha256(journal).hexdigest()
    run.log(2)
    assert verify(run.checkpoint(2, {"x": 1})).manifest.parent == first.sha256


def test_the_parent_is_the_checkpoint_that_was_resumed_from(make_attempt):
    run = make_attempt()
    run.log(1)
    first = verify(run.checkpoint(1, {"x": 1}))
    again = make_attempt(generation=2)
    again.resume()
    again.log(2)
    assert verify(again.checkpoint(2, {"x": 1})).manifest.parent == first.sha256


@pytest.mark.parametrize("metrics", [{"kind": 1}, {"time": 1}, {"loss": "high"}, {"loss": None}])
def test_metrics_that_would_break_the_line(make_attempt, metrics):
    run = make_attempt()
    with pytest.raises((ValueError, TypeError)):
        run.log(1, **metrics)
    assert entries(run.layout, "step") == []


@pytest.mark.parametrize("step", [0, 2, 3])
def test_steps_are_consecutive(make_attempt, step):
    with pytest.raises(ValueError, match="the next step is 1"):
        make_attempt().log(step)


def test_steps_end(make_attempt):
    run = make_attempt()
    for step in range(1, 34):
        run.log(step)
    with pytest.raises(ValueError, match="has 33 steps"):
        run.log(34)


def test_a_checkpoint_is_of_the_last_step(make_attempt):
    run = make_attempt()
    run.log(1)
    with pytest.raises(ValueError, match="last step that was logged is 1"):
        run.checkpoint(2, {})


def test_resume_is_not_forgotten(make_attempt):
    run = make_attempt()
    write_checkpoint(run.layout, CheckpointName(1, 5), {"x": 1}, {})
    run = make_attempt(2)
    assert run.step == 5
    with pytest.raises(ValueError, match=r"run\.resume"):
        run.log(6)
    resumed = run.resume()
    assert (resumed.step, resumed.state) == (5, {"x": 1})
    assert resumed.directory("adapter") == resumed.path / "adapter"
    run.log(6)


def test_a_checkpoint_is_due_at_each_interval_and_at_the_last_step(make_attempt):
    run = make_attempt()
    assert [step for step in range(1, 34) if run.due(step)] == [10, 20, 30, 33]


def test_should_stop_looks_about_for_a_revocation_and_a_successor(make_attempt, monkeypatch):
    run = make_attempt()
    monkeypatch.setattr(attempt_module, "_CHECK_EVERY", -1.0)
    assert not run.should_stop()
    revoke(run.layout)
    assert run.should_stop()
    submit(run.layout)
    assert run.should_stop(), "once true it stays true"
    assert [entry["signal"] for entry in entries(run.layout, "signal")] == ["revoked"]
    run = make_attempt(2)
    run.layout.generation(3).touch()
    assert run.should_stop()
    assert run.reason == "superseded"


def test_orders_of_a_file_that_was_lost_and_written_again_are_read_from_the_beginning(make_attempt, monkeypatch):
    """It is another file, whose orders may lie before the place up to which the first one was read."""
    run = make_attempt()
    monkeypatch.setattr(attempt_module, "_CHECK_EVERY", -1.0)
    path = run.layout.study.submission("abc")
    for steps in range(100, 120):
        append_line(path, orders_text(allowed={"run": steps}))
    assert not run.should_stop()
    assert run.submission.allowance == 119
    aside = path.with_name("aside")
    path.rename(aside)
    submit(run.layout, allowance=77)
    assert not run.should_stop()
    assert run.submission.allowance == 77
    revoke(run.layout)
    assert run.should_stop()


def test_a_run_whose_directory_is_gone_trains_on_for_a_while_and_believes_nothing(make_attempt, monkeypatch):
    """A file system may come back. An absent directory has no revocation and no bound, which means nothing."""
    run = make_attempt()
    run.resume()
    monkeypatch.setattr(attempt_module, "_CHECK_EVERY", -1.0)
    run.layout.root.rename(run.layout.root.with_name("moved"))
    assert run.is_stranded
    assert not run.should_stop()
    with monkeypatch.context() as patch:
        patch.setattr(attempt_module, "_UNREADABLE_SECONDS", -1.0)
        with pytest.raises(FileNotFoundError):
            run.should_stop()
    run.layout.root.with_name("moved").rename(run.layout.root)
    assert not run.is_stranded
    assert not run.should_stop()


def test_should_stop_is_cheap(make_attempt, monkeypatch):
    assert attempt_module._CHECK_EVERY >= 1
    monkeypatch.setattr(attempt_module, "_CHECK_EVERY", math.inf)
    run = make_attempt()
    for name in ("stat", "listdir", "scandir", "open"):
        monkeypatch.setattr(os, name, lambda *_, **__: pytest.fail("a system call a step"))
    for _ in range(1000):
        assert not run.should_stop()


@pytest.mark.parametrize(
    ("now", "limit", "needed", "expected"),
    [
        (909, 3600.0, 0, False),
        (911, 3600.0, 0, True),
        (911, 100.0, 0, False),  # a tenth of 100 s
        (991, 100.0, 0, True),
        (975, 100.0, 20, False),
        (981, 100.0, 20, True),  # a step and a checkpoint take 20 s
        (911, None, 0, True),
    ],
)
def test_deadline(now, limit, needed, expected):
    assert Deadline(1000.0, limit, 90.0).has_come(now, needed) is expected


def test_no_deadline():
    assert not Deadline(None, None, 90.0).has_come(1e12, 1e9)


def test_a_run_that_was_ended_goes_no_further(make_attempt):
    run = make_attempt()
    run.resume()
    run.log(1, loss=1.0)
    assert not run.is_over
    run.checkpoint(1, {"x": 1}, final=True)
    assert run.is_over
    assert find_newest_valid(run.layout)[0].manifest.final
    with pytest.raises(ValueError, match="ended at step 1"):
        run.log(2, loss=1.0)


def test_a_checkpoint_that_is_there_already_ends_no_run(make_attempt):
    run = make_attempt()
    run.resume()
    run.log(1, loss=1.0)
    run.checkpoint(1, {"x": 1})
    with pytest.raises(ValueError, match="checkpointed already"):
        run.checkpoint(1, {"x": 1}, final=True)
