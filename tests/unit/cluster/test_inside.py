"""A job's own view of Slurm. The texts in captured/ are what Slurm 24.11.5 printed."""

import os
import stat
import time
from pathlib import Path

import pytest

from lvjobs.cluster import inside
from lvjobs.cluster.inside import JobView, parse_job_json, parse_preempt_mode
from lvjobs.cluster.protocol import ClusterError

CAPTURED = Path(__file__).parents[1] / "captured"


def captured(name):
    return (CAPTURED / f"scontrol_job_{name}.json").read_text()


def test_running():
    assert parse_job_json(captured("running"), "1") == JobView(
        "1", ("RUNNING",), 0, None, 1795565549.0, 1795566149.0, "low"
    )


def test_cancelled():
    view = parse_job_json(captured("cancelled"), "1")
    assert view.state == ("CANCELLED", "COMPLETING")
    assert view.preempt_time is None


def test_one_task_is_found_among_all_tasks_of_its_array():
    """Asked for `2_0`, scontrol prints the whole array, the last task first, whose raw id is the array's."""
    text = captured("array_in_grace")
    assert parse_job_json(text, "2_0").job_id == "2_0"
    assert parse_job_json(text.replace('"restart_cnt":0', '"restart_cnt":7', 1), "2_0").restart_count == 0
    assert parse_job_json(text.replace('"restart_cnt":0', '"restart_cnt":7', 1), "2_1").restart_count == 7
    assert parse_job_json(text, "2_2") is None
    assert parse_job_json(text, "3").partition == "low"  # task 0's own id


def test_in_grace():
    view = parse_job_json(captured("array_in_grace"), "2_0")
    assert (view.state, view.preempt_time, view.restart_count) == (("RUNNING",), 1795565557.0, 0)
    assert view.end_time == 1795565567.0, "Slurm moves the end to the end of the grace"


def test_requeued_after_preemption():
    view = parse_job_json(captured("array_requeued"), "2_0")
    assert view.state == ("PENDING", "COMPLETING")
    assert view.restart_count == 1
    assert view.preempt_time
    assert view.start_time is view.end_time is None


def test_an_unknown_job_is_an_empty_list_and_exit_0():
    assert parse_job_json(captured("unknown"), "99") is None


def test_older_releases_print_plain_values():
    text = '{"jobs":[{"job_id":4,"job_state":"RUNNING","preempt_time":0,"restart_cnt":2,"end_time":9,"partition":"p"}]}'
    assert parse_job_json(text, "4") == JobView("4", ("RUNNING",), 2, None, None, 9.0, "p")


@pytest.mark.parametrize("text", ["", "slurm_load_jobs error: Invalid job id", "[]", "{}", '{"jobs":[{"job_id":4}]}'])
def test_what_is_no_answer(text):
    with pytest.raises(ValueError):
        parse_job_json(text, "4")


def test_preempt_mode():
    assert parse_preempt_mode((CAPTURED / "scontrol_partition.txt").read_text()) == "requeue"
    assert parse_preempt_mode("PartitionName=x PreemptMode=CANCEL State=UP") == "cancel"
    assert parse_preempt_mode("Partition nowhere not found") is None


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Put a scontrol of our own on PATH; it notes how it was called."""
    monkeypatch.setattr(inside, "_PAUSE", 0)
    monkeypatch.setattr(inside, "TIMEOUT", 600.0)

    def make(body):
        script = tmp_path / "bin" / "scontrol"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{body}\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
        return lambda: (tmp_path / "calls").read_text().splitlines()

    return make


def test_query(scontrol):
    calls = scontrol(f"cat {CAPTURED}/scontrol_job_array_in_grace.json")
    assert inside.query_self("2_0").preempt_time
    assert calls() == ["show job 2_0 --json"]


@pytest.mark.parametrize("body", ["exit 1", "echo nonsense", f"cat {CAPTURED}/scontrol_job_unknown.json"])
def test_three_tries_then_none(scontrol, body):
    calls = scontrol(body)
    assert inside.query_self("5") is None
    assert len(calls()) == 3


def test_the_second_try_may_do(scontrol, tmp_path):
    scontrol(f"[ $(wc -l < {tmp_path}/calls) -gt 1 ] || exit 1; cat {CAPTURED}/scontrol_job_running.json")
    assert inside.query_self("1").state == ("RUNNING",)


def test_a_frozen_controller_is_given_up(scontrol, monkeypatch):
    monkeypatch.setattr(inside, "TIMEOUT", 0.1)
    scontrol("exec sleep 3600")
    started = time.monotonic()
    assert inside.query_self("1") is None
    assert time.monotonic() - started < 600


def test_no_scontrol_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(inside, "_PAUSE", 0)
    assert inside.query_self("1") is None
    assert inside.forbid_requeue("1") is False
    assert inside.query_preempt_mode("low") is None


def test_requeue(scontrol):
    calls = scontrol("exit 0")
    inside.requeue_self("2_0")
    assert calls() == ["requeue 2_0"]
    assert inside.forbid_requeue("2_0") is True
    assert calls()[1] == "update jobid=2_0 requeue=0"


def test_a_refused_requeue_is_in_slurms_words(scontrol):
    scontrol("echo 'Requested operation is presently disabled for job 5' >&2; exit 1")
    with pytest.raises(ClusterError, match="presently disabled for job 5"):
        inside.requeue_self("5")


@pytest.fixture
def driver_is(tmp_path, scontrol, monkeypatch):
    """squeue shows one job, so; returns what scontrol (and s`cancel`) was told."""

    monkeypatch.setattr(inside, "_LOOK_AGAIN_SECONDS", 0)

    def make(reason, start, state):
        calls = scontrol("exit 0")
        script = tmp_path / "bin" / "squeue"
        script.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "7|{reason}|{start}|{state}"\n')
        script.chmod(0o755)
        cancel = tmp_path / "bin" / "scancel"
        cancel.write_text(f'#!/bin/sh\nexec {tmp_path}/bin/scontrol cancel "$@"\n')
        cancel.chmod(0o755)
        return lambda: calls() if (tmp_path / "calls").exists() else []

    return make


@pytest.mark.parametrize(
    ("reason", "start", "state", "told"),
    [
        ("BeginTime", 100, "PENDING", ["update jobid=7 starttime=now+2"]),
        ("BeginTime", 5, "PENDING", []),
        ("Dependency", "N/A", "PENDING", []),
        ("launch failed requeued held", "N/A", "PENDING", ["release 7"]),
        ("None", -60, "RUNNING", ["cancel --signal=URG --full 7"]),
        ("None", -600, "RUNNING", ["requeue 7"]),
    ],
)
def test_waking_a_driver(driver_is, tmp_path, reason, start, state, told):
    calls = driver_is(reason, start if isinstance(start, str) else int(time.time()) + start, state)
    assert inside.wake("driver.abc") is bool(told)
    assert calls() == told
    assert "--name=driver.abc" in (tmp_path / "asked").read_text()


def first_shown(tmp_path, *rows):
    """squeue shows these, one a time it is asked, before it shows what it would."""
    script = tmp_path / "bin" / "squeue"
    cases = "\n".join(f'{number}) echo "{row}" ;;' for number, row in enumerate(rows, 1))
    later = script.read_text().splitlines()[-1]
    look = f"echo >> {tmp_path}/looks\ncase $(wc -l < {tmp_path}/looks) in"
    script.write_text(f"#!/bin/sh\n{look}\n{cases}\n*) {later} ;;\nesac\n")


@pytest.mark.parametrize("shown", ["7|None|5|COMPLETING", "7|None|N/A|PENDING"], ids=["leaving", "back just now"])
def test_a_driver_that_is_just_leaving_is_looked_for_again(driver_is, tmp_path, shown):
    calls = driver_is("BeginTime", int(time.time()) + 100, "PENDING")
    first_shown(tmp_path, *[shown] * 2)
    assert inside.wake("driver.abc") is True
    assert calls() == ["update jobid=7 starttime=now+2"]
    driver_is("None", 5, "COMPLETING")
    assert inside.wake("driver.abc") is False


@pytest.mark.parametrize("code", [0, 1])
def test_a_driver_that_was_about_to_leave_when_it_was_told_is_put_forward(driver_is, tmp_path, code):
    """The signal came too late for it, or did not come: it is back in the queue, first with no reason yet."""
    calls = driver_is("BeginTime", int(time.time()) + 100, "PENDING")
    cancel = tmp_path / "bin" / "scancel"
    cancel.write_text(f"{cancel.read_text().replace('exec ', '')}exit {code}\n")
    first_shown(tmp_path, f"7|None|{int(time.time())}|RUNNING", "7|None|5|PENDING")
    assert inside.wake("driver.abc") is True
    assert calls() == ["cancel --signal=URG --full 7", "update jobid=7 starttime=now+2"]


def test_a_driver_that_cannot_be_woken_is_no_trouble(scontrol):
    scontrol("exit 1")
    assert inside.wake("driver.abc") is False
