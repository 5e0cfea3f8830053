"""Runs that share a job: each with its own journal, checkpoints and fate, and the same bits as one that had it alone."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
from worker_helpers import Zygote, entries, executed, final_weights, make_run, revoke, start, submit

from lvjobs.errors import RunRefused
from lvjobs.records.run_files import Claim
from lvjobs.worker import pack
from lvjobs.worker.environment import read_environment
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.pack import device_of
from lvjobs.worker.submission import Submission

TOKEN = "0123456789ab"


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.close()


def a_pack(directory, names="abc", **more):
    runs = [make_run(directory / name, steps=30, **more) for name in names]
    submit(*runs, token=TOKEN)
    return runs


def begin(runs, at_once=1, **variables):
    names = " ".join(run.root.name for run in runs)
    return start(runs[0], LVJOBS_PACK=names, LVJOBS_SIDE_BY_SIDE=at_once, LVJOBS_TOKEN=TOKEN, **variables)


def ended(process, code, timeout=300):
    said, _ = process.communicate(timeout=timeout)
    assert process.returncode == code, said
    return said


def until(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gate(run, step):
    """Close a gate in the run's first attempt (`toy_task.wait_at_gate`); return the file that says it came there."""
    path = run.root.parent.parent / "gates" / run.root.name / f"1-{step}"
    path.parent.mkdir(parents=True)
    path.touch()
    return path.with_suffix(".reached")


def pid_of(run):
    return entries(run, "start")[-1]["pid"]


@pytest.mark.slow
@pytest.mark.parametrize(("names", "at_once"), [("ab", 1), ("abc", 2)])
def test_all_are_trained_and_a_preemption_interrupts_and_resumes_all(zygote, tmp_path, names, at_once):
    whole = a_pack(tmp_path / "whole", names)
    for run in whole:
        assert zygote.run(run) == 0
    runs = a_pack(tmp_path / "pack", names)
    gates = [gate(run, 2) for run in runs[:at_once]]
    process = begin(runs, at_once)
    until(lambda: all(path.exists() for path in gates))
    os.kill(process.pid, signal.SIGTERM)  # the parent passes it on
    ended(process, 75)
    begun = [run for run in runs if run.journal(1).exists()]
    assert len(begun) == at_once, "none is begun once the job has to end"
    assert all(entries(run, "leave")[0]["cause"] == "preempted" for run in begun)
    ended(begin(runs, at_once), 0)
    for run, alone in zip(runs, whole, strict=True):
        assert final_weights(run) == final_weights(alone)
        assert len(executed(run)) == 30, "no step was lost in grace"
    assert ended(begin(runs, at_once), 0) == "", "a job that Slurm runs again finds nothing to do, and starts nobody"


@pytest.mark.slow
def test_one_that_is_killed_or_fails_does_not_disturb_the_others(zygote, tmp_path):
    runs = [*a_pack(tmp_path / "pack", "ab"), make_run(tmp_path / "pack" / "bad", steps=30, params={"fail_at": 7})]
    submit(*runs, token=TOKEN)
    reached = gate(runs[0], 4)
    process = begin(runs, 3)
    until(reached.exists)
    os.kill(pid_of(runs[0]), signal.SIGKILL)
    said = ended(process, 75)
    assert "a: its worker failed (-9)" in said
    assert entries(runs[0], "died") == [{"status": -9}]
    assert entries(runs[0], "leave") == entries(runs[0], "done") == []
    assert runs[1].done.exists()
    assert entries(runs[1], "died") == entries(runs[2], "died") == []
    assert len(entries(runs[2], "error")) == 1


@pytest.mark.slow
def test_a_run_that_was_revoked_is_not_begun_and_one_that_trains_leaves(tmp_path):
    runs = a_pack(tmp_path / "pack")
    revoke(runs[1], TOKEN)
    first, last = gate(runs[0], 2), gate(runs[2], 2)
    process = begin(runs, 1)
    until(first.exists)
    revoke(runs[0], TOKEN)
    until(lambda: len(entries(runs[0], "leave")) == 1)
    until(last.exists)
    os.kill(process.pid, signal.SIGTERM)
    ended(process, 75)
    assert entries(runs[0], "leave")[0]["cause"] == "stopped"
    assert not runs[1].journal(1).exists()


@pytest.mark.slow
def test_none_is_begun_that_could_train_no_longer_than_a_minute(tmp_path):
    runs = a_pack(tmp_path / "pack")
    said = ended(begin(runs, 1, LVJOBS_END_TIME=time.time() + 50), 75)
    assert "deadline" in said
    assert not any(run.journal(1).exists() for run in runs)


@pytest.mark.parametrize(
    ("said", "told"), [(["start"], [{"status": 1}]), (["start", "error"], []), ([], [{"status": 1}])]
)
def test_one_that_ended_in_error_and_did_not_say_so_is_told_of(tmp_path, said, told):
    """As where a process of its team was lost: the job goes on, and nobody would see for half an hour that it ended."""
    run = make_run(tmp_path / "run", steps=30)
    child = pack._Child(run, None, SimpleNamespace(pid=4711), 0)
    claim = Claim(1, TOKEN, "17", 0, os.uname().nodename, 4711, 1.0)
    run.generation(1).write_text(claim.to_line())
    (run.generations / ".000002.host.12.claim").write_text("")  # of a machine that died while it claimed
    for kind in said:
        JournalWriter(run.journal(1)).write(kind, message="x")
    pack._journal_killed(child, 1)
    assert [{"status": entry["status"]} for entry in entries(run, "died")] == told


@pytest.mark.parametrize(
    ("error", "token", "wanted"),
    [
        ({}, TOKEN, False),
        ({"device": True}, TOKEN, True),
        ({"breakdown": "device"}, TOKEN, True),
        ({}, "another", True),
        (None, TOKEN, True),
    ],
)
def test_a_code_error_is_not_tried_again_by_the_same_job(tmp_path, error, token, wanted):
    """Slurm requeues it, and nobody is there to revoke the run."""
    run = make_run(tmp_path / "runs" / "run", steps=30)
    run.generation(1).write_text(Claim(1, token, "17", 0, "host", 4711, 1.0).to_line())
    journal = JournalWriter(run.journal(1))
    journal.write("start")
    if error is not None:
        journal.write("error", message="x", **error)
    submit(run, token=TOKEN)
    assert pack._is_wanted(run, Submission(run, TOKEN), TOKEN) is wanted


def test_what_a_pack_is_told():
    told = read_environment({"LVJOBS_PACK": "a b c", "LVJOBS_SIDE_BY_SIDE": "2"})
    assert (list(told.pack), told.side_by_side, told.packed) == (["a", "b", "c"], 2, False)
    alone = read_environment({})
    assert (list(alone.pack), alone.side_by_side, alone.packed) == ([], 1, False)
    with pytest.raises(RunRefused, match="LVJOBS_SIDE_BY_SIDE='0'"):
        read_environment({"LVJOBS_PACK": "a b", "LVJOBS_SIDE_BY_SIDE": "0"})


def test_runs_side_by_side_share_the_gpus_evenly():
    assert [device_of(place, 4, "2,5") for place in range(4)] == ["2", "5", "2", "5"]
    assert device_of(0, 4, "2") is None, "all share the only one, and see it already"
    assert device_of(0, 1, "2,5") is None, "one at a time sees all"
    assert device_of(0, 4, None) is None
