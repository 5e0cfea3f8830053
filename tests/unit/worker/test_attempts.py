"""Whole attempts: killed, asked to leave, fenced off, broken, done. The weights at the end must not know."""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter

import psutil
import pytest
from small_disk import filled, mounted
from worker_helpers import (
    Zygote,
    checkpoint_path,
    entries,
    executed,
    final_weights,
    journals,
    make_run,
    published,
    revoke,
    start,
    submit,
    write_directory,
)

from lvjobs.errors import LvjobsError, Superseded
from lvjobs.records.run_files import Allowance, CheckpointName
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunFile
from lvjobs.worker import checkpoints
from lvjobs.worker.checkpoints import _LEFTOVER, find_newest_valid, write_checkpoint
from lvjobs.worker.generation import newest_generation
from lvjobs.worker.saved_files import copy_saved, finish, publish_final
from lvjobs.worker.stored import open_checkpoint
from lvjobs.worker.tensor_file import sha256_of

STEPS = 40


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def undisturbed(zygote, tmp_path_factory):
    layout = make_run(tmp_path_factory.mktemp("undisturbed") / "run")
    assert zygote.run(layout) == 0
    return layout


def _is_frozen(pid):
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def _wait_for(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


def _steps_of(layout, generation):
    path = layout.journal(generation)
    return path.read_bytes().count(b'"kind":"step"') if path.exists() else -1


@pytest.mark.torch
def test_undisturbed(undisturbed):
    (journal,) = journals(undisturbed)
    assert executed(undisturbed) == list(range(1, STEPS + 1))
    assert journal[0].kind == "start"
    assert journal[-1].kind == "done"
    assert journal[0].fields["resumed_from"] is None
    assert "torch" in journal[0].fields["versions"]
    step = entries(undisturbed, "step")[0]
    assert step["tokens"] == 24
    assert step["seconds"] >= 0
    done = json.loads(undisturbed.done.read_text())
    assert (done["generation"], done["step"], done["checkpoint"]) == (1, STEPS, "000001-00000040")
    assert (undisturbed.final / "model" / "nested" / "note.txt").read_text() == "kept"
    # keep_last 2, and the best: the validation losses double from step 30 on
    assert set(published(undisturbed)) >= {"000001-00000030", "000001-00000040"}
    losses = {e["step"]: e["loss"] for e in entries(undisturbed, "validation")}
    assert f"000001-{min(losses, key=losses.get):08d}" in published(undisturbed)
    assert not [path for path in undisturbed.steps.iterdir() if path.name.startswith(".")]


def test_the_real_command_from_a_shell(tmp_path, undisturbed):
    """`python -m lvjobs.worker`: SIGTERM while it trains, then again to the end: the same bits as forked attempts."""
    layout = make_run(tmp_path / "run")
    umask = os.umask(0)
    process = start(layout, TOY_FREEZE_AT=13)
    os.umask(umask)
    _wait_for(lambda: layout.journal(1).exists() and len(executed(layout)) == 13 and _is_frozen(process.pid))
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 75, output
    assert "preempted" in output
    made = [path for path in layout.root.rglob("*") if path != layout.config]
    assert not [path for path in made if path.stat().st_mode & 0o077], "for its user alone, whatever the umask"
    process = start(layout)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert executed(layout) == list(range(1, STEPS + 1)), "no step twice, none missing"
    assert final_weights(layout) == final_weights(undisturbed)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments(zygote, tmp_path, undisturbed, seed, fault):
    rng = random.Random(seed)
    layout = make_run(tmp_path / "run")
    killed = 0
    for generation in range(1, 7):
        pid = zygote.start(layout, TOY_PAUSE=0.004)
        steps = rng.randrange(15)
        _wait_for(lambda: layout.done.exists() or _steps_of(layout, generation) >= steps)  # noqa: B023
        time.sleep(rng.uniform(0.0, 0.02))
        os.kill(pid, signal.SIGKILL)
        killed += zygote.wait(pid) == -signal.SIGKILL
    assert zygote.run(layout) == 0
    assert set(executed(layout)) == set(range(1, STEPS + 1))
    assert final_weights(layout) == final_weights(undisturbed)
    fault("killed_anywhere", layout.root, same_bits=True, times=killed)


def test_killed_at_every_sync_of_checkpointing_and_finishing(zygote, tmp_path, undisturbed, fault):
    """Between any two fsyncs of a checkpoint, of the final weights and of the done marker."""
    died = 0
    for count in range(1, 60):
        layout = make_run(tmp_path / str(count), steps=STEPS, checkpoint_every=20)
        if zygote.run(layout, TOY_DIE_AT_SYNC=count) == 0:
            break
        died += 1
        assert not find_newest_valid(layout)[1], "whole or not there"
        assert zygote.run(layout) == 0
        assert final_weights(layout) == final_weights(undisturbed)
        assert not [path for path in layout.steps.iterdir() if _LEFTOVER.match(path.name)], "leftovers are swept"
        newest = max(published(layout))
        assert json.loads(layout.done.read_text())["checkpoint"] == newest
        fault("killed_writing", layout.root, same_bits=True)
    else:
        pytest.fail("never got to the end")
    assert died > 15


def test_asked_to_leave_at_every_sync_of_checkpointing_and_finishing(zygote, tmp_path, undisturbed, fault):
    """It leaves once the checkpoint is whole, or finishes; no step is executed twice."""
    codes = Counter()
    for count in range(1, 120):
        layout, told = make_run(tmp_path / str(count), steps=STEPS, checkpoint_every=20), tmp_path / f"told {count}"
        code = zygote.run(layout, TOY_TERM_AT_SYNC=count, TOY_TOLD=told)
        if not told.exists():
            break
        codes[code] += 1
        assert code in (0, 75), count
        if code == 75:
            assert entries(layout, "leave")[0]["cause"] == "preempted"
            assert entries(layout, "leave")[0]["step"] >= 20
            assert not layout.done.exists()
            assert not find_newest_valid(layout)[1], "whole or not there"
            assert zygote.run(layout) == 0
        assert executed(layout) == list(range(1, STEPS + 1)), count
        assert final_weights(layout) == final_weights(undisturbed), count
        fault("preempted_writing", layout.root, same_bits=True)
    else:
        pytest.fail("never got to the end")
    assert codes[75] >= 4
    assert codes[0] > 8


def test_asked_to_leave_again_and_again(zygote, tmp_path, undisturbed):
    layout = make_run(tmp_path / "run")
    for step, name in ((3, "SIGTERM"), (4, "SIGUSR1"), (17, "SIGUSR2"), (30, "SIGTERM")):
        assert zygote.run(layout, TOY_TERM_AT=step, TOY_SIGNAL=name) == 75
        assert not list(layout.steps.glob(".*")), "the files that it resumed from are deleted"
    assert zygote.run(layout) == 0
    assert executed(layout) == list(range(1, STEPS + 1)), "a run that leaves replays nothing"
    assert [(e["cause"], e["step"], e["action"]) for e in entries(layout, "leave")] == [
        ("preempted", 3, "none"),
        ("preempted", 4, "none"),
        ("timeout", 17, "none"),
        ("preempted", 30, "none"),
    ]
    assert [e["signal"] for e in entries(layout, "signal")] == ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGTERM"]
    assert final_weights(layout) == final_weights(undisturbed)


def test_a_signal_in_a_long_step_is_journaled_before_the_kill(zygote, tmp_path, fault):
    """Grace ends in the midst of a step: that the run was asked to leave is all that tells it from one that was killed."""
    layout = make_run(tmp_path / "run")
    pid = zygote.start(layout, TOY_DEAF_AT=3)
    _wait_for(lambda: _steps_of(layout, 1) == 3)
    _wait_for(lambda: psutil.Process(pid).cpu_times().user > 1)  # now it is in that call, which computes
    os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGTERM)
    try:
        _wait_for(lambda: entries(layout, "signal"), 300)
        os.kill(pid, signal.SIGUSR2)  # of signals that wait for a process, the kernel delivers the lowest number first
    finally:
        os.kill(pid, signal.SIGKILL)
        zygote.wait(pid)
    assert entries(layout, "signal") == [{"signal": "SIGTERM", "step": 3}]
    assert entries(layout, "leave") == []
    assert zygote.run(layout) == 0
    fault("preempted_long_step", layout.root)


def test_a_signal_before_there_is_a_journal_is_told_of_and_nothing_is_begun(zygote, tmp_path):
    layout = make_run(tmp_path / "run")
    assert zygote.run(layout, ZYGOTE_TERM=1) == 75
    assert [entry.kind for entry in journals(layout)[0]] == ["start", "software", "signal", "leave"]
    assert zygote.run(layout, TOY_TERM_AT=3) == 75
    assert zygote.run(layout, ZYGOTE_TERM=1) == 75
    assert [entry["step"] for entry in entries(layout, "leave")] == [0, 3, 3]


def test_a_signal_at_the_last_step_is_a_finish(zygote, tmp_path):
    layout = make_run(tmp_path / "run")
    assert zygote.run(layout, TOY_TERM_AT=STEPS) == 0
    assert layout.done.exists()
    assert entries(layout, "leave") == []


def test_local_cancel_and_deadline(zygote, tmp_path):
    cancel = tmp_path / "cancel"
    cancel.touch()
    for limit in (1.5, 6, 24, 96):  # a machine that stalls has no time left to train in the shorter ones
        layout = make_run(tmp_path / f"run{limit}", steps=10_000)
        assert zygote.run(layout, TOY_TERM_AT=5, LVJOBS_CANCEL_FILE=cancel, LVJOBS_BACKEND="local") == 75
        limits = {"LVJOBS_END_TIME": time.time() + limit, "LVJOBS_LEAD_SECONDS": 60 * limit}
        assert zygote.run(layout, **limits, TOY_PAUSE=0.05) == 75
        first, second = entries(layout, "leave")
        assert first["cause"] == "cancelled"
        assert second["cause"] == "timeout"
        assert entries(layout, "signal")[1]["signal"] == "deadline"
        if second["step"] > 6:
            break
    else:
        pytest.fail("the lead is at most a tenth of the limit, so there was time to train")


def test_done_is_done(zygote, tmp_path):
    layout = make_run(tmp_path / "run", steps=3)
    assert zygote.run(layout) == 0
    before = {path: path.stat().st_mtime_ns for path in layout.root.rglob("*")}
    output = tmp_path / "output"
    assert zygote.run(layout, TOY_OUTPUT=output) == 0
    assert {path: path.stat().st_mtime_ns for path in layout.root.rglob("*")} == before, (
        "nothing claimed, nothing spent"
    )
    assert output.read_text().count("\n") == 1


def test_at_the_last_step_but_not_done(zygote, tmp_path, undisturbed):
    """The done marker is lost, the weights half there: it finishes without executing a step."""
    layout = make_run(tmp_path / "run")
    assert zygote.run(layout) == 0
    layout.done.unlink()
    (layout.final / "model" / "weights.npy").write_bytes(b"damaged")
    assert zygote.run(layout) == 0
    assert len(executed(layout)) == STEPS
    assert final_weights(layout) == final_weights(undisturbed)
    assert json.loads(layout.done.read_text())["generation"] == 2
    assert not [path for path in layout.steps.iterdir() if _LEFTOVER.match(path.name)]


def test_revoked(zygote, tmp_path):
    layout = make_run(tmp_path / "runs" / "run")
    for token in ("abc", "abd"):
        submit(layout, token=token)
    layout.config.unlink()
    layout.root.rmdir()
    revoke(layout, "abc")
    assert zygote.run(layout, LVJOBS_TOKEN="abc") == 0
    assert not layout.root.exists()
    assert zygote.run(layout, LVJOBS_TOKEN="abd") == 0
    assert layout.done.exists()


def test_a_mark_of_an_older_release_revokes_too(zygote, tmp_path):
    layout = make_run(tmp_path / "runs" / "run")
    for directory in (layout.root / "generations", layout.revoked):
        directory.mkdir()
    (layout.revoked / "abc").touch()
    assert zygote.run(layout, LVJOBS_TOKEN="abc") == 0
    assert newest_generation(layout) == 0
    assert zygote.run(layout, LVJOBS_TOKEN="abd") == 0
    assert [path.name for path in (layout.root / "generations").iterdir()] == ["000001"]
    assert [path.name for path in (layout.root / "journals").iterdir()] == ["000001.jsonl"]


def test_a_job_whose_submission_is_lost_trains_nothing(zygote, tmp_path):
    """Its allowance is lost with it."""
    layout = make_run(tmp_path / "runs" / "run")
    output = tmp_path / "output"
    assert zygote.run(layout, LVJOBS_TOKEN="abc", TOY_OUTPUT=output) == 1
    assert "abc.jsonl: what this job is to train cannot be read, for it is gone" in output.read_text()
    assert newest_generation(layout) == 0


def test_a_revocation_between_the_first_look_and_the_claim_is_seen(zygote, tmp_path):
    """The pass gave the order before it could see the claim, and submits the run again."""
    layout = make_run(tmp_path / "runs" / "run")
    submit(layout)
    assert zygote.run(layout, LVJOBS_TOKEN="abc", ZYGOTE_REVOKE=1) == 75
    assert executed(layout) == []
    assert [fields["cause"] for fields in entries(layout, "leave")] == ["stopped"]


def test_an_attempt_whose_study_is_moved_leaves_and_is_continued_in_the_new_place(zygote, tmp_path, undisturbed):
    (tmp_path / "here").mkdir()
    layout = make_run(tmp_path / "here" / "run")
    pid = zygote.start(layout, TOY_FREEZE_AT=15)
    _wait_for(lambda: executed(layout)[-1:] == [15] and _is_frozen(pid))
    (tmp_path / "here").rename(tmp_path / "there")
    os.kill(pid, signal.SIGCONT)
    assert zygote.wait(pid) == 75
    assert not (tmp_path / "here").exists()
    moved = RunLayout(tmp_path / "there" / "run")
    (left,) = entries(moved, "leave")
    assert (left["cause"], left["step"]) == ("stopped", 20)
    assert f"{layout.root} is gone: its study was moved or deleted" in left["detail"]
    assert entries(moved, "error") == []
    assert zygote.run(moved) == 0
    assert executed(moved) == [*range(1, 21), *range(11, 41)]
    assert final_weights(moved) == final_weights(undisturbed)


def test_an_edited_configuration_is_refused(zygote, tmp_path):
    layout = make_run(tmp_path / "run")
    layout.config.write_text(layout.config.read_text().replace('"steps":40', '"steps":41'))
    output = tmp_path / "output"
    assert zygote.run(layout, TOY_OUTPUT=output) == 1
    assert "fingerprint" in output.read_text()
    assert newest_generation(layout) == 0


def test_a_run_that_was_declared_when_all_keys_were_hashed_goes_on(zygote, tmp_path):
    layout = make_run(tmp_path / "run")
    stored = RunFile.model_validate_json(layout.config.read_text())
    former = stored.model_copy(update={"fingerprint": stored.config.former_fingerprint})
    assert former.fingerprint != stored.fingerprint
    layout.config.write_text(former.model_dump_json())
    assert zygote.run(layout) == 0
    assert layout.done.exists()


def test_somebody_elses_directory_is_refused(zygote, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    layout = make_run(tmp_path / "run")
    os.chown(layout.root, 12345, -1)
    assert zygote.run(layout) == 1
    assert newest_generation(layout) == 0


def test_an_orphan_cannot_publish(zygote, tmp_path, undisturbed):
    """Two generations alive: the old one, frozen before its checkpoint, thaws when the new one has trained on."""
    layout = make_run(tmp_path / "run")
    old = zygote.start(layout, TOY_FREEZE_AT=10)
    _wait_for(lambda: layout.journal(1).exists() and len(executed(layout)) == 10)
    _wait_for(lambda: _is_frozen(old))
    assert zygote.run(layout, TOY_TERM_AT=15) == 75
    before = published(layout)
    os.kill(old, signal.SIGCONT)
    assert zygote.wait(old) == 75
    assert published(layout) == before
    last = journals(layout)[0][-1]
    assert (last.kind, last.fields["cause"], last.fields["action"]) == ("leave", "superseded", "none")
    assert zygote.run(layout) == 0
    assert final_weights(layout) == final_weights(undisturbed)


def test_an_orphan_cannot_finish(zygote, tmp_path):
    """Its last step was checkpointed before the new generation came; final/ and the done marker are not its any more."""
    layout = make_run(tmp_path / "run", steps=10)
    assert zygote.run(layout, TOY_DIE_AT_SYNC=10_000) == 0
    layout.done.unlink()
    for path in sorted(layout.final.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    layout.final.rmdir()
    checkpoint, _ = find_newest_valid(layout)
    layout.generation(2).write_text("{}")
    with pytest.raises(Superseded):
        finish(layout, 1, checkpoint)
    assert not layout.final.exists()
    assert not layout.done.exists()


def test_the_final_weights_are_the_last_checkpoints(tmp_path):
    layout = make_run(tmp_path / "run")

    def saver(text):
        return {"model": lambda directory: (directory / "model.pt").write_text(text)}

    write_checkpoint(layout, CheckpointName(1, 30), saver("old"), {})
    publish_final(layout, 1, find_newest_valid(layout)[0])
    path, _ = write_checkpoint(layout, CheckpointName(1, 40), saver("new"), {"loss": 1.0})
    newest = find_newest_valid(layout)[0]
    publish_final(layout, 1, newest)
    assert (layout.final / "model" / "model.pt").read_text() == "new"
    before = layout.final.stat().st_ino
    publish_final(layout, 1, newest)
    assert layout.final.stat().st_ino == before, "published once"
    assert [path.name for path in layout.final.iterdir()] == ["model"], "nothing but what the Saver wrote"
    (layout.final / "model" / "model.pt").write_text("damaged")
    path.write_bytes(path.read_bytes().replace(b"new", b"old"))
    with pytest.raises(LvjobsError, match="changed after it was written"):
        finish(layout, 1, newest)
    assert not layout.done.exists()
    assert not list(layout.root.glob(".final*"))


@pytest.mark.parametrize(
    ("params", "kind", "words"),
    [
        ({"fail_at": 12}, "ZeroDivisionError", "the toy broke"),
        pytest.param({"cuda_oom_at": 12}, "OutOfMemoryError", "gradient checkpointing", marks=pytest.mark.torch),
        ({"return_at": 12}, "LvjobsError", "nothing had asked it to stop"),
    ],
)
def test_code_errors(zygote, tmp_path, params, kind, words):
    layout = make_run(tmp_path / "run", params=params)
    assert zygote.run(layout) == 1
    (error,) = entries(layout, "error")
    assert error["type"] == kind
    assert words in error["message"]
    assert "Traceback" in error["traceback"]
    assert error["step"] == (12 if "return_at" in params else 11)
    assert not layout.done.exists()


def test_sys_exit_is_an_error(zygote, tmp_path):
    layout = make_run(tmp_path / "run")
    assert zygote.run(layout, TOY_EXIT_AT=4) == 1
    assert entries(layout, "error")[0]["type"] == "SystemExit"


def test_an_unknown_task_is_an_error(zygote, tmp_path):
    layout = make_run(tmp_path / "run", task="no_such_module:train")
    assert zygote.run(layout) == 1
    assert entries(layout, "error")[0]["type"] == "ModuleNotFoundError"


def test_a_full_disk(zygote, tmp_path, undisturbed):
    layout = make_run(tmp_path / "run")
    assert zygote.run(layout, TOY_TERM_AT=15) == 75
    before = published(layout)
    assert zygote.run(layout, TOY_FULL_DISK=1) == 1
    (error,) = entries(layout, "error")
    assert "could not be written" in error["message"]
    assert "lvjobs resume" in error["message"]
    assert published(layout) == before
    assert not [path for path in layout.steps.iterdir() if path.name.startswith(".")]
    assert zygote.run(layout) == 0
    assert final_weights(layout) == final_weights(undisturbed)


def test_a_small_disk_that_is_full_at_a_checkpoint(zygote, tmp_path, undisturbed, fault):
    with mounted(tmp_path / "disk"):
        layout = make_run(tmp_path / "disk" / "run")
        assert zygote.run(layout, TOY_TERM_AT=15) == 75
        before = published(layout)
        with filled(tmp_path / "disk", left=24_000):  # the journal's lines find room, a checkpoint does not
            assert zygote.run(layout) == 1
        (error,) = entries(layout, "error")
        assert "could not be written" in error["message"]
        assert "No space left on device" in error["message"]
        assert published(layout) == before
        assert not [path for path in layout.steps.iterdir() if path.name.startswith(".")]
        assert zygote.run(layout) == 0
        assert final_weights(layout) == final_weights(undisturbed)
        steps = executed(layout)
        assert len(steps) > STEPS, "what no checkpoint has is in the journal all the same, and is charged"
        assert set(steps) == set(range(1, STEPS + 1))
    fault("full_checkpoint", layout.root, saw=error["message"].replace(str(tmp_path), "..."), same_bits=True)


def test_damaged_checkpoints_fall_back(zygote, tmp_path, undisturbed, fault):
    layout = make_run(tmp_path / "run")
    assert zygote.run(layout, TOY_KILL_AT=25) == -signal.SIGKILL
    newest = checkpoint_path(layout, published(layout)[-1])
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    assert zygote.run(layout) == 0
    (bad,) = entries(layout, "invalid_checkpoint")
    assert bad["name"] == newest.stem
    assert "is not what was written" in bad["problem"]
    assert not newest.exists(), "pruned once a good one was durable"
    assert final_weights(layout) == final_weights(undisturbed)
    fault("bytes_flipped", layout.root, saw=bad["problem"], same_bits=True)


def test_a_run_that_an_older_release_began_ends_with_the_same_bits(zygote, tmp_path, undisturbed):
    """Its checkpoints are directories: resumed from, the best of them kept, the others deleted."""
    layout = make_run(tmp_path / "run")
    (layout.root / "generations").mkdir()
    assert zygote.run(layout, TOY_KILL_AT=25) == -signal.SIGKILL
    for name, path in checkpoints.published(layout).items():
        found = checkpoints.verify(path)
        copy_saved(layout, found, tmp_path / str(name))
        saver = {"model": lambda to, name=name: shutil.copytree(tmp_path / str(name) / "model", to, dirs_exist_ok=True)}
        with open_checkpoint(path) as stored:
            write_directory(layout, name, stored.trees() | saver, found.manifest.metrics)
        path.unlink()
    assert zygote.run(layout) == 0
    assert entries(layout, "start")[-1]["resumed_from"] == "000001-00000020"
    assert final_weights(layout) == final_weights(undisturbed)
    kept = {path.name for path in layout.steps.iterdir()}
    assert kept == {"000001-00000020", "000002-00000030.safetensors", "000002-00000040.safetensors"}


@pytest.mark.parametrize(("kept", "resumed"), [(1, "000001-00000010"), (0, None)])
def test_checkpoints_that_are_gone_cost_their_steps_and_nothing_else(
    zygote, tmp_path, undisturbed, kept, resumed, fault
):
    layout = make_run(tmp_path / "run")
    assert zygote.run(layout, TOY_KILL_AT=25) == -signal.SIGKILL
    for name in published(layout)[kept:]:
        checkpoint_path(layout, name).unlink()
    assert zygote.run(layout) == 0
    assert entries(layout, "start")[-1]["resumed_from"] == resumed
    assert final_weights(layout) == final_weights(undisturbed)
    fault("checkpoint_gone", layout.root, saw="", same_bits=True)


# -- the allowance -------------------------------------------------------------------------------------------------


def allow(layout, steps):
    layout.allowance.write_text(Allowance(training=steps).to_json())


def test_an_attempt_executes_no_more_than_is_left_of_the_allowance(zygote, tmp_path):
    layout = make_run(tmp_path / "run")
    allow(layout, 25)
    assert zygote.run(layout) == 75
    assert executed(layout) == list(range(1, 26))
    (leave,) = entries(layout, "leave")
    assert (leave["cause"], leave["step"], leave["action"]) == ("exhausted", 25, "none")
    assert str(find_newest_valid(layout)[0].name) == "000001-00000025"
    assert not layout.done.exists()


def test_what_earlier_attempts_executed_counts_and_nothing_is_begun_where_nothing_is_left(zygote, tmp_path):
    layout = make_run(tmp_path / "run")
    allow(layout, 25)
    assert zygote.run(layout) == 75
    assert zygote.run(layout) == 75
    assert executed(layout) == list(range(1, 26))
    assert [line["step"] for line in entries(layout, "leave")] == [25, 25]
    allow(layout, 40)
    assert zygote.run(layout) == 0
    assert executed(layout) == list(range(1, STEPS + 1))


def test_a_run_stops_at_its_rung_and_the_next_submission_goes_on_from_there(zygote, tmp_path, undisturbed):
    layout = make_run(tmp_path / "run")
    submit(layout, stop_at=20)
    assert zygote.run(layout, LVJOBS_TOKEN="abc") == 75
    assert executed(layout) == list(range(1, 21))
    (leave,) = entries(layout, "leave")
    assert (leave["cause"], leave["step"], leave["action"]) == ("rung", 20, "none")
    assert str(find_newest_valid(layout)[0].name) == "000001-00000020"
    assert zygote.run(layout, LVJOBS_TOKEN="abc") == 75, "the same job again has nothing to do"
    assert executed(layout) == list(range(1, 21))
    submit(layout, token="def")
    assert zygote.run(layout, LVJOBS_TOKEN="def") == 0
    assert executed(layout) == list(range(1, STEPS + 1))
    assert final_weights(layout) == final_weights(undisturbed)


def test_a_run_that_needs_its_whole_allowance_is_done(zygote, tmp_path, undisturbed):
    layout = make_run(tmp_path / "run")
    allow(layout, STEPS)
    assert zygote.run(layout) == 0
    assert final_weights(layout) == final_weights(undisturbed)


@pytest.mark.parametrize(("spare", "code"), [(7, 0), (6, 75)])
def test_lost_steps_use_the_allowance_up(zygote, tmp_path, spare, code):
    layout = make_run(tmp_path / "run")
    allow(layout, STEPS + spare)
    assert zygote.run(layout, TOY_KILL_AT=17) == -signal.SIGKILL  # of which 7 are in no checkpoint
    assert zygote.run(layout) == code
    assert len(executed(layout)) == STEPS + spare


def test_an_allowance_that_cannot_be_read_is_no_permission(zygote, tmp_path):
    layout = make_run(tmp_path / "run")
    layout.allowance.write_text("{}")
    assert zygote.run(layout) == 1
    assert executed(layout) == []


def test_a_training_function_may_end_the_run_early(zygote, tmp_path):
    """Completed at that step, also where it is no multiple of anything; a rerun spends nothing."""
    layout = make_run(tmp_path / "run", params={"end_at": 23})
    log = tmp_path / "log"
    log.touch()
    assert zygote.run(layout, TOY_OUTPUT=log) == 0
    assert "is done: 23 steps of 40: it ended early" in log.read_text()
    done = json.loads(layout.done.read_text())
    assert (done["step"], done["checkpoint"]) == (23, "000001-00000023")
    assert executed(layout) == list(range(1, 24))
    assert done["files"]["model/weights.npy"] == sha256_of(layout.final / "model" / "weights.npy")
    assert zygote.run(layout) == 0
    assert len(journals(layout)) == 1


def test_killed_while_it_ends_early(zygote, tmp_path):
    """Between any two fsyncs from the last checkpoint on: the next attempt ends the run there, and trains no further."""
    whole = make_run(tmp_path / "whole", checkpoint_every=20, params={"end_at": 23})
    assert zygote.run(whole) == 0
    replayed = 0
    for count in range(6, 40):
        layout = make_run(tmp_path / str(count), checkpoint_every=20, params={"end_at": 23})
        if zygote.run(layout, TOY_DIE_AT_SYNC=count) == 0:
            break
        assert zygote.run(layout) == 0
        assert json.loads(layout.done.read_text())["step"] == 23
        assert max(executed(layout)) == 23
        assert final_weights(layout) == final_weights(whole)
        replayed += len(executed(layout)) > 23
    assert 0 < replayed < count - 6, "some died before the checkpoint was there, and some after"


def test_garbage_is_looked_for_as_usual_once_it_trains(tmp_path, zygote):
    layout = make_run(tmp_path / "run")
    assert zygote.run(layout, TOY_TELL_GC="1") == 0
    while_loading, while_training = json.loads((layout.root / "gc.json").read_text())
    assert while_loading[0] > while_training[0]
