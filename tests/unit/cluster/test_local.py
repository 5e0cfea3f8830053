"""The local backend where its contract with the loop does not reach: deaths of wrappers, reboots, limits, crashes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from stub import STUB, seen

from lvjobs.cluster import local_files
from lvjobs.cluster.local import LocalCluster
from lvjobs.cluster.local_files import ABANDONED, JobFiles
from lvjobs.cluster.protocol import JobRequest, SubmitDeferred, SubmitRefused, SubmitUnclear
from lvjobs.processes import Identity, identify

TOKEN = "0123456789ab"


class Bench:
    def __init__(self, root):
        self.root = root
        self.cluster = LocalCluster(root / "local", slots=2, kill_wait_seconds=0.3)
        self.code = root / "code"
        (self.code / "lvjobs").mkdir(parents=True)
        (self.code / "lvjobs" / "__init__.py").touch()
        shutil.copy(STUB, self.code / "lvjobs" / "worker.py")

    def request(self, *programs, **resources):
        runs = []
        for number, program in enumerate(programs):
            runs.append(self.root / f"run{number}")
            runs[-1].mkdir(exist_ok=True)
            (runs[-1] / "program.json").write_text(json.dumps(program))
        return JobRequest(TOKEN, "x", runs, self.root / "logs", self.code, sys.executable, resources=resources)

    def job(self):
        [job] = self.cluster.observe([TOKEN], 0).queue
        return job

    def until(self, condition, seconds=600):
        deadline = time.monotonic() + seconds
        while not condition(self.job()):
            assert time.monotonic() < deadline, self.job()
            time.sleep(0.05)
        return self.job()

    def running(self):
        self.until(lambda job: job.state == "RUNNING")
        while not self.seen():
            time.sleep(0.05)

    def files(self):
        return JobFiles(self.root / "local" / "jobs" / "L1").members()[0]

    def seen(self):
        return seen(self.root / "run0")


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    for path in (tmp_path / "local").glob("jobs/L*/*/runs/*/w*r.json"):
        identity = Identity.from_dict(json.loads(path.read_text()))
        if identity.is_alive:
            os.kill(identity.pid, signal.SIGKILL)


def test_a_wrapper_that_is_killed_takes_its_worker_along(bench):
    bench.cluster.submit(bench.request({"sleep": 3600, "stubborn": True}))
    bench.running()
    worker = bench.files().process("worker")
    assert worker.is_alive
    os.kill(bench.files().process("wrapper").pid, signal.SIGKILL)
    job = bench.until(lambda job: job.is_ended)
    assert (job.state, job.exit_code) == ("NODE_FAIL", None)
    assert job.elapsed == max(0.0, job.end - job.start)  # the last sign may be older than the worker
    assert not worker.is_alive
    assert [(job.state, job.restart_count) for job in bench.cluster.observe([TOKEN], 0).history] == [("NODE_FAIL", 0)]


def test_a_worker_that_is_killed_is_told_apart(bench):
    bench.cluster.submit(bench.request({"sleep": 3600}))
    bench.running()
    os.kill(bench.files().process("worker").pid, signal.SIGKILL)
    job = bench.until(lambda job: job.is_ended)
    assert (job.state, job.exit_signal) == ("FAILED", 9)


def test_a_reboot(bench, monkeypatch):
    bench.cluster.submit(bench.request({"sleep": 3600}))
    bench.running()
    with monkeypatch.context() as context:
        context.setattr("lvjobs.processes.boot_id", lambda: "another boot")
        assert bench.job().state == "NODE_FAIL"
        assert bench.job().end is not None
    assert (bench.job().state, bench.job().elapsed) == ("RUNNING", None)
    bench.cluster.cancel("L1")
    bench.until(lambda job: job.is_ended)


def test_a_last_sign_before_the_beginning_is_no_time_held(bench, monkeypatch):
    bench.cluster.submit(bench.request({"sleep": 3600}))
    bench.running()
    with monkeypatch.context() as context:
        context.setattr("lvjobs.processes.boot_id", lambda: "another boot")
        context.setattr(local_files.MemberFiles, "last_sign", lambda _run: 1.0)
        assert (bench.job().end, bench.job().elapsed) == (1.0, 0.0)
    bench.cluster.cancel("L1")
    bench.until(lambda job: job.is_ended)


def test_a_job_of_another_machine_is_judged_by_its_signs_of_life(bench):
    bench.cluster.submit(bench.request({"sleep": 3600}))
    bench.running()
    real = bench.files().process("wrapper")
    for who in ("wrapper", "worker"):
        elsewhere = replace(bench.files().process(who), host="elsewhere", boot="other")
        bench.files().write(who, vars(elsewhere) | {"start": 1.0})
    assert bench.job().state == "RUNNING"
    wrapper = psutil.Process(real.pid)
    wrapper.suspend()  # or it would give another sign
    while wrapper.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    long_ago = time.time() - 1000
    os.utime(bench.files().alive, (long_ago, long_ago))
    assert bench.job().state == "NODE_FAIL"
    os.kill(real.pid, signal.SIGKILL)


def test_a_reused_process_id_is_another_process():
    me = identify(os.getpid())
    assert me.is_alive
    assert Identity.from_dict(vars(me)) == me
    assert not replace(me, ticks=me.ticks + 1).is_alive


def test_a_zombie_is_dead():
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 600
    while identify(child.pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.wait()


def test_wrappers_are_nobodys_children(bench):
    bench.cluster.submit(bench.request({"sleep": 3600}))
    stat = Path(f"/proc/{bench.files().process('wrapper').pid}/stat").read_text(encoding="utf-8")
    assert int(stat.rpartition(")")[2].split()[1]) != os.getpid()


def test_the_time_limit(bench):
    before = time.time()
    bench.cluster.submit(
        bench.request({"sleep": 3600, "stubborn": True}, time_limit_minutes=0.05, signal_lead_seconds=90)
    )
    job = bench.until(lambda job: job.is_ended)
    assert job.state == "TIMEOUT"
    assert 2.9 <= job.end - job.start < 600
    assert job.elapsed == job.end - job.start
    environment = bench.seen()[0]["environment"]
    assert float(environment["LVJOBS_LEAD_SECONDS"]) == pytest.approx(0.3)
    assert before + 2.99 <= float(environment["LVJOBS_END_TIME"]) <= job.start + 3.01


def test_the_warning_before_the_time_limit(bench, monkeypatch):
    """A second after the start, and an hour before the end: a machine that stalls in between changes nothing."""
    monkeypatch.setattr("lvjobs.cluster.local._LARGEST_LEAD", 1.0)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})  # inherited: the worker may start late
    try:
        bench.cluster.submit(bench.request({"sleep": 3600}, time_limit_minutes=60, signal_lead_seconds=3599))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    job = bench.until(lambda job: job.is_ended)
    assert (job.state, job.exit_code) == ("FAILED", 75)
    assert bench.seen()[-1]["signals"] == ["SIGUSR2"]


def test_a_wrapper_passes_on_that_the_machine_shuts_down(bench):
    bench.cluster.submit(bench.request({"sleep": 3600}))
    bench.running()
    os.kill(bench.files().process("wrapper").pid, signal.SIGTERM)
    job = bench.until(lambda job: job.is_ended)
    assert (job.state, job.exit_code) == ("FAILED", 75)
    assert bench.seen()[-1]["signals"] == ["SIGTERM"]


def test_jobs_wait_for_a_slot_that_death_sets_free(bench):
    cluster = LocalCluster(bench.root / "local", slots=1)
    cluster.submit(bench.request({"sleep": 3600}))
    bench.running()
    second = replace(bench.request({"sleep": 0}), token="f" * 12)
    cluster.submit(second)
    time.sleep(0.5)
    assert cluster.observe(["f" * 12], 0).queue[0].reason == "Resources"
    os.kill(bench.files().process("wrapper").pid, signal.SIGKILL)
    deadline = time.monotonic() + 600
    while not cluster.observe(["f" * 12], 0).queue[0].is_ended:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_worker_leaves_behind_does_not_go_on(bench, tmp_path):
    (bench.code / "lvjobs" / "worker.py").write_text(
        "import os, subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '3600'])\n"
        "open(sys.argv[1] + '/child', 'w').write(str(child.pid))\nos._exit(0)\n"
    )
    bench.cluster.submit(bench.request({}))
    bench.until(lambda job: job.state == "COMPLETED")
    deadline = time.monotonic() + 600
    while identify(int((tmp_path / "run0" / "child").read_text())) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_whose_submitter_died_before_it_could_start_it(bench, monkeypatch):
    job = bench.cluster._write_down(bench.request({"exit": 0}))
    assert (bench.job().state, bench.job().reason) == ("PENDING", "Launching")
    monkeypatch.setattr(local_files, "_LAUNCH_SECONDS", 0.0)
    assert (bench.job().state, bench.job().reason) == ("NODE_FAIL", "NeverStarted")
    assert (bench.job().elapsed, bench.job().gpus) == (0.0, 0)
    # a submitter that was only asleep does not start it any more
    assert bench.cluster._start(job) == 3
    assert not (bench.root / "run0" / "seen.jsonl").exists()


def test_cancelling_a_job_that_was_never_started(bench, monkeypatch):
    job = bench.cluster._write_down(bench.request({"exit": 0}))
    bench.cluster.cancel(job.id)
    assert bench.cluster._start(job) == 0
    cancelled = bench.until(lambda job: job.is_ended)
    assert (cancelled.state, cancelled.elapsed, cancelled.gpus) == ("CANCELLED", 0.0, 0)
    assert not (bench.root / "run0" / "seen.jsonl").exists()


def test_a_job_that_cannot_be_started_leaves_nothing(bench, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(SubmitDeferred, match="could not be started"):
        bench.cluster.submit(bench.request({}))
    assert bench.cluster.observe([TOKEN], 0).queue == []


def test_a_start_that_nobody_saw_is_unclear(bench, monkeypatch):
    def interrupted(job, *which):
        raise subprocess.TimeoutExpired("starter", 60)

    monkeypatch.setattr(bench.cluster, "_start", interrupted)
    with pytest.raises(SubmitUnclear):
        bench.cluster.submit(bench.request({}))
    assert bench.job().state == "PENDING"


def test_a_place_that_cannot_be_written(bench, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SubmitRefused, match="cannot be written"):
        LocalCluster(tmp_path / "file" / "local").submit(bench.request({}))


def test_ids_are_given_once(bench):
    ids = [bench.cluster.submit(replace(bench.request({}), token=f"{number:012d}")) for number in range(3)]
    assert ids == ["L1", "L2", "L3"]


def test_an_interpreter_that_is_not_there(bench):
    bench.cluster.submit(replace(bench.request({}), python="/no/such/python"))
    job = bench.until(lambda job: job.is_ended)
    assert (job.state, job.exit_code) == ("FAILED", 1)
    assert "cannot be started" in (bench.root / "logs" / "L1.out").read_text()


def test_files_of_no_job_are_passed_over(bench):
    bench.cluster.submit(bench.request({}))
    (bench.root / "local" / "jobs" / ".left.123").mkdir()
    (bench.root / "local" / "jobs" / "Lx").mkdir()
    assert [job.id for job in local_files.jobs_in(bench.root / "local")] == ["L1"]
    assert ABANDONED not in (bench.root / "local" / "jobs" / "L1" / "launch").read_text()
