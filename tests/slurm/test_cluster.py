"""The Slurm backend against real Slurm: signals, silence, limits, holds; beyond what all backends promise alike."""

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from driving import LIMITS, limit_jobs, until
from stub import STUB, seen

from lvjobs.cluster import slurm
from lvjobs.cluster.profiles import load_profile
from lvjobs.cluster.protocol import (
    ClusterError,
    ClusterSilent,
    JobRequest,
    SubmitDeferred,
    SubmitRefused,
    SubmitUnclear,
)
from lvjobs.cluster.slurm import SlurmCluster
from lvjobs.errors import UsageError
from lvjobs.lab import LabConfig

pytestmark = pytest.mark.slurm


class Bench:
    """A SlurmCluster, and jobs for it that do as they are told."""

    def __init__(self, root, **patience):
        self.root = root
        self.cluster = SlurmCluster(load_profile("lab"), root / "submissions", **patience)
        self.code = root / "code"
        (self.code / "lvjobs").mkdir(parents=True)
        (self.code / "lvjobs" / "__init__.py").touch()
        shutil.copy(STUB, self.code / "lvjobs" / "worker.py")
        (root / "logs").mkdir()
        self.began = time.time()
        self.count = 0

    def request(self, *programs, **resources):
        runs = []
        for program in programs:
            self.count += 1
            runs.append(self.root / f"run{self.count}")
            runs[-1].mkdir()
            (runs[-1] / "program.json").write_text(json.dumps(program))
        resources = {"gpus": 0, "time_limit_minutes": 5} | resources
        token = os.urandom(6).hex()
        return JobRequest(token, "x", runs, self.root / "logs", self.code, sys.executable, resources=resources)

    def observe(self, request):
        return self.cluster.observe([request.token], self.began - 3600)

    def job(self, request):
        jobs = self.observe(request).queue
        return jobs[0] if jobs else None

    def history(self, request, length):
        """Accounting's rows, once there are so many and all have ended: it is late, and may not answer at all."""
        return until(
            lambda: (
                len(rows := self.observe(request).history or ()) == length
                and all(row.is_ended for row in rows)
                and rows
            )
        )

    def until(self, request, condition, seconds=300):
        return until(lambda: (job := self.job(request)) and condition(job) and job, seconds)

    def started(self, request):
        until(lambda: self.seen(request))

    @staticmethod
    def seen(request):
        return seen(request.run_directories[0])


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, timeout=120, submit_timeout=120)


# -- what reaches the worker --------------------------------------------------------------------------------------


def test_a_preempted_worker_gets_sigterm_and_its_job_is_requeued(lab, bench):
    request = bench.request({"first": {"sleep": 100}})
    job_id = bench.cluster.submit(request)
    bench.started(request)
    lab.preempt(job_id)
    job = bench.until(request, lambda job: job.restart_count == 1)
    assert job.id == job_id
    bench.until(request, lambda job: job.state == "COMPLETED")
    assert "SIGTERM" in bench.seen(request)[1]["signals"]
    rows = bench.history(request, 2)
    assert [(row.state, row.restart_count) for row in rows] == [("PREEMPTED", 0), ("COMPLETED", 1)]


def test_a_preempted_worker_gets_its_own_signal_where_the_site_sends_that(lab_for, lab_configs, bench):
    lab = lab_for(lab_configs["user_signal"])
    request = bench.request({"sleep": 100})
    job_id = bench.cluster.submit(request)
    bench.started(request)
    lab.preempt(job_id)
    bench.until(request, lambda job: job.restart_count == 1)
    assert "SIGUSR2" in bench.seen(request)[1]["signals"]


@pytest.mark.slow
def test_the_worker_is_warned_before_the_time_limit(lab, bench):
    for _ in range(3):
        request = bench.request({"sleep": 100}, time_limit_minutes=1)
        bench.cluster.submit(request)
        job = bench.until(request, lambda job: job.is_ended, seconds=600)
        if job.end - job.start < 60:
            break  # else the machine stalled for as long as the warning comes early, and the limit came
    assert (job.state, job.exit_code) == ("FAILED", 75)
    signals = set(bench.seen(request)[-1]["signals"])
    assert signals - {"SIGCONT"} == {"SIGUSR2"}  # a SIGCONT comes before it or behind it


def test_the_step_has_all_of_the_jobs_cores_memory_and_gpus(lab, bench):
    request = bench.request({}, cpus=5, gpus=2, memory_mb=700)
    bench.cluster.submit(request)
    bench.until(request, lambda job: job.state == "COMPLETED")
    environment = bench.seen(request)[0]["environment"]
    assert environment["SLURM_CPUS_PER_TASK"] == "5"
    assert environment["SLURM_MEM_PER_NODE"] == "700"
    assert len(environment["CUDA_VISIBLE_DEVICES"].split(",")) == 2
    assert environment["SLURM_STEP_ID"] == "0"
    assert float(environment["SLURM_JOB_END_TIME"]) > time.time()


def test_accounting_says_what_each_execution_held(lab, bench):
    request = bench.request({"first": {"sleep": 100}, "sleep": 3}, gpus=2)
    job_id = bench.cluster.submit(request)
    bench.started(request)
    lab.preempt(job_id)
    bench.until(request, lambda job: job.state == "COMPLETED")
    rows = bench.history(request, 2)
    assert [row.gpus for row in rows] == [2, 2]
    assert [row.elapsed for row in rows] == [row.end - row.start for row in rows]
    assert rows[1].elapsed >= 3
    queued = bench.job(request)
    assert (queued.elapsed, queued.gpus) == (None, None)


@pytest.mark.parametrize("name", ["it's", 'a "b" c', "$(touch pwned)`x`", "back\\slash", "a|b", "#x é", "{{ 7 }}"])
def test_any_name_is_found_again(lab, bench, name):
    request = replace(bench.request({"sleep": 250}), name=name)
    job_id = bench.cluster.submit(request)
    assert bench.job(request).id == job_id
    assert until(lambda: bench.observe(request).history)[0].id == job_id
    bench.cluster.cancel(job_id)


def test_submitting_from_inside_a_job(lab, bench, monkeypatch):
    leaked = {"SLURM_NTASKS": "4", "SLURM_ARRAY_JOB_ID": "77", "SLURM_MEM_PER_NODE": "1", "SBATCH_PARTITION": "nope"}
    for key, value in {
        **leaked,
        "SLURM_TIME_FORMAT": "relative",
        "SQUEUE_STATES": "CD",
        "SACCT_FORMAT": "user",
    }.items():
        monkeypatch.setenv(key, value)
    request = bench.request({})
    job_id = bench.cluster.submit(request)
    job = bench.until(request, lambda job: job.is_ended)
    assert (job.id, job.state, job.partition) == (job_id, "COMPLETED", "low")
    assert bench.seen(request)[0]["environment"]["SLURM_NTASKS"] == "1"


# -- submissions that go wrong ------------------------------------------------------------------------------------


def test_a_frozen_controller_has_the_job_all_the_same(lab, tmp_path, capfd):
    bench = Bench(tmp_path, submit_timeout=10, timeout=3)
    request = bench.request({}, {})
    lab.freeze()
    with pytest.raises(SubmitUnclear, match="did not answer within 10 s"):
        bench.cluster.submit(request)
    snapshot = until(lambda: (snapshot := bench.observe(request)).history is not None and snapshot)
    assert snapshot.queue is None
    assert snapshot.history == []
    assert snapshot.problem == "squeue: squeue did not answer within 3 s"
    for call in (bench.cluster.probe, lambda: bench.cluster.check(request), lambda: bench.cluster.release("1")):
        with pytest.raises(ClusterSilent):
            call()
    lab.thaw()
    jobs = until(lambda: bench.observe(request).queue)
    assert {job.member for job in jobs} == {0, 1}
    until(lambda: (jobs := bench.observe(request).queue) and all(job.state == "COMPLETED" for job in jobs))
    assert capfd.readouterr() == ("", "")


def test_slurms_own_timeout_is_unclear_too(impatient, bench):
    lab = impatient
    request = bench.request({})
    lab.freeze()
    with pytest.raises(SubmitUnclear, match=r"^Batch job submission failed: Socket timed out on send/recv operation$"):
        bench.cluster.submit(request)
    lab.thaw()
    until(lambda: bench.job(request))


def test_a_dead_controller_has_no_job(impatient, bench):
    lab = impatient
    request = bench.request({})
    lab.kill_controller()
    with pytest.raises(SubmitDeferred, match="Unable to contact slurm controller"):
        bench.cluster.submit(request)
    with pytest.raises(ClusterSilent):
        bench.cluster.cancel("1")
    assert bench.observe(request).queue is None
    lab.start_controller()
    until(lambda: bench.observe(request).queue == [])


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"partition": "nope"}, "Invalid partition name specified"),
        ({"account": "nope"}, "Invalid account or account/partition combination specified"),
        ({"qos": "nope"}, "Invalid qos specification"),
        ({"gpus": 99}, "Requested node configuration is not available"),
        ({"extra_sbatch": ["--nope"]}, "unrecognized option"),
        ({"extra_sbatch": ["--comment=a --partition=urgent"], "partition": "nope"}, "Invalid partition name"),
    ],
)
def test_refusals_in_slurms_words(lab, bench, resources, said, capfd):
    request = bench.request({}, **resources)
    with pytest.raises(SubmitRefused, match=said) as caught:
        bench.cluster.submit(request)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_submit_limit_is_waiting(lab, bench):
    try:
        limit_jobs(lab, 1)
        first = bench.request({"sleep": 250})
        job_id = bench.cluster.submit(first)
        with pytest.raises(SubmitDeferred, match="QOSMaxSubmitJobPerUserLimit"):
            bench.cluster.submit(bench.request({}))
        bench.cluster.cancel(job_id)
    finally:
        lab.run("sacctmgr", "-iQ", "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=-1")
        until(lambda: "MaxSubmitJobsPU=1(" not in lab.run(*LIMITS))


def test_no_sbatch_here(bench, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SubmitDeferred, match="Slurm is not reachable from"):
        bench.cluster.submit(bench.request({}))
    snapshot = bench.observe(bench.request({}))
    assert snapshot.queue is None
    assert "is this a Slurm login node?" in snapshot.problem


def test_check(lab, bench):
    bench.cluster.check(bench.request({}))
    with pytest.raises(UsageError, match="partition: there is no 'nope' here; there are low, urgent"):
        bench.cluster.check(bench.request({}, partition="nope"))
    with pytest.raises(UsageError, match="time_limit: 2161 minutes is over partition low's maximum, 1-12:00:00"):
        bench.cluster.check(bench.request({}, time_limit_minutes=2161))
    with pytest.raises(UsageError, match="time_limit"):
        bench.cluster.check(bench.request({}, time_limit_minutes=2161, qos="normal"))
    with pytest.raises(UsageError, match="partitoin"):
        bench.cluster.check(bench.request({}, partitoin="low"))
    assert lab.run("squeue", "-h", "-a", "-o", "%j") == ""


# -- what is seen -------------------------------------------------------------------------------------------------


def test_without_accounting_ended_jobs_are_seen_while_slurm_remembers_them(lab_for, lab_configs, bench):
    lab_for(replace(lab_configs["no_accounting"], min_job_age=2))
    job = None
    for _ in range(10):  # it is remembered for 2 s: a machine that stalls misses it
        request = bench.request({"exit": 3})
        bench.cluster.submit(request)
        while (jobs := bench.observe(request).queue) != [] and job is None:
            job = jobs[0] if jobs and jobs[0].is_ended else None
        if job is not None:
            break
    else:
        pytest.fail("none that ended is seen")
    assert (job.state, job.exit_code) == ("FAILED", 3)
    until(lambda: bench.observe(request).queue == [])
    snapshot = bench.observe(request)
    assert (snapshot.history, snapshot.accounting, snapshot.problem) == (None, False, "")
    assert not bench.cluster.probe().accounting


def test_members_cancelled_while_they_waited_are_remembered_by_accounting(lab_for, lab_configs, bench):
    lab_for(replace(lab_configs["requeue"], min_job_age=2))
    request = replace(bench.request(*[{"sleep": 250}] * 3), max_parallel=1)
    array = bench.cluster.submit(request)
    bench.started(request)
    bench.cluster.cancel(array)
    until(lambda: bench.observe(request).queue == [])
    rows = bench.history(request, 3)
    assert {(row.id, row.state) for row in rows} == {(f"{array}_{index}", "CANCELLED") for index in range(3)}


def test_accounting_that_died_is_a_problem_and_not_an_absence(lab_for, lab_configs, bench):
    lab = lab_for(replace(lab_configs["requeue"], min_job_age=2))
    request = bench.request({"sleep": 250})
    job_id = bench.cluster.submit(request)
    pid = lab.status().daemons["slurmdbd"]
    os.kill(pid, 9)
    snapshot = bench.observe(request)
    assert [job.id for job in snapshot.queue] == [job_id]
    assert (snapshot.history, snapshot.accounting) == (None, True)
    assert snapshot.problem.startswith("sacct: ")
    lab.up()
    until(lambda: bench.observe(request).history is not None)


@pytest.mark.skipif(os.getuid() != 0, reason="who runs the lab is its administrator, whom slurmdbd refuses nothing")
def test_a_range_that_slurmdbd_refuses_is_made_shorter_and_older_jobs_are_asked_for_by_id(
    lab_for, lab_configs, bench, tmp_path, monkeypatch
):
    lab = lab_for(replace(lab_configs["requeue"], min_job_age=2, cpus=31))  # a cluster that no other test asks for
    request = bench.request({})
    job_id = bench.cluster.submit(request)
    bench.history(request, 1)
    until(lambda: bench.observe(request).queue == [])
    configuration = lab.directory / "etc" / "slurmdbd.conf"
    configuration.write_text(configuration.read_text() + "MaxQueryTimeRange=1-00:00:00\n")
    os.kill(lab.status().daemons["slurmdbd"], signal.SIGHUP)
    # An ordinary user's sacct: root may ask for any range.
    wrapper = tmp_path / "bin" / "sacct"
    wrapper.parent.mkdir()
    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    wrapper.write_text(f'#!/bin/sh\ncd / && exec {as_nobody} {shutil.which("sacct")} "$@"\n')
    wrapper.chmod(0o755)
    for path in (lab.directory, *lab.directory.rglob("*")):
        if path.is_dir():
            path.chmod(path.stat().st_mode | 0o755)
    (lab.directory / "etc" / "slurm.conf").chmod(0o644)
    monkeypatch.setenv("PATH", str(wrapper.parent), prepend=os.pathsep)
    month = 30 * 86400
    refused = until(
        lambda: (answer := bench.cluster._ask_accounting("--starttime", "now-30days")).returncode and answer
    )
    assert "Too wide of a date range in query" in refused.stderr
    snapshot = bench.cluster.observe([request.token], time.time() - month)
    assert (snapshot.problem, [job.id for job in snapshot.history]) == ("", [job_id])


def test_many_jobs_are_one_squeue_and_one_sacct(lab, bench, monkeypatch):
    requests = [replace(bench.request({}), run_directories=[Path("/r")] * 1000, max_parallel=1) for _ in range(2)]
    arrays = [bench.cluster.submit(request) for request in requests]
    tokens = [request.token for request in requests] + [f"{number:012x}" for number in range(5000)]
    asked, real = [], slurm.run
    monkeypatch.setattr(slurm, "run", lambda *words, **more: asked.append(words[0][0]) or real(*words, **more))
    snapshot = bench.cluster.observe(tokens, bench.began - 3600)
    assert sorted(asked) == ["sacct", "squeue"]
    assert len(snapshot.queue) == 2000
    assert snapshot.problem == ""
    for array in arrays:
        bench.cluster.cancel(array)


def long_hold(lab_configs):
    """A cluster whose requeued jobs wait long enough to be looked at."""
    return replace(lab_configs["no_accounting"], hold=1000, kill_wait=60)


# -- holds --------------------------------------------------------------------------------------------------------


def test_lifting_the_hold_of_a_requeued_job(lab_for, lab_configs, bench):
    lab = lab_for(long_hold(lab_configs))
    request = bench.request({"first": {"exit": 1}})
    job_id = bench.cluster.submit(request)
    bench.until(request, lambda job: job.is_ended)
    lab.run("scontrol", "requeue", job_id)
    # until the scheduler looks at it, the reason is still that of its end
    job = bench.until(request, lambda job: job.state == "PENDING" and job.reason == "BeginTime")
    assert job.start > time.time() + 200
    bench.cluster.lift_hold(job_id)
    assert bench.job(request).start < time.time() + 10
    bench.cluster.lift_hold(job_id)  # a second time changes nothing
    bench.until(request, lambda job: job.state == "COMPLETED")


def test_the_hold_is_not_lifted_while_the_job_is_completing(lab_for, lab_configs, bench):
    """The requeued job's old process will not leave its node: PENDING is what Slurm means, COMPLETING what it says."""
    lab = lab_for(long_hold(lab_configs))
    request = bench.request({"sleep": 250, "stubborn": True})
    job_id = bench.cluster.submit(request)
    bench.started(request)
    lab.run("scontrol", "requeue", job_id)
    assert bench.until(request, lambda job: job.restart_count == 1).state == "COMPLETING"
    bench.cluster.lift_hold(job_id)
    os.kill(bench.seen(request)[0]["pid"], signal.SIGKILL)  # else at the end of KillWait
    job = bench.until(request, lambda job: job.state == "PENDING")
    assert job.start > time.time() + 200


def test_one_task_of_an_array_is_lifted(lab_for, lab_configs, bench):
    lab = lab_for(long_hold(lab_configs))
    request = bench.request({"exit": 1}, {"exit": 1})
    array = bench.cluster.submit(request)
    until(lambda: (jobs := bench.observe(request).queue) and all(job.is_ended for job in jobs))
    lab.run("scontrol", "requeue", array)
    until(lambda: (jobs := bench.observe(request).queue) and all(job.reason == "BeginTime" for job in jobs))
    bench.cluster.lift_hold(f"{array}_0")
    starts = {job.member: job.start for job in until(lambda: bench.observe(request).queue)}
    assert starts[0] < time.time() + 10
    assert starts[1] > time.time() + 200


def test_commands_about_jobs_that_are_not_there(lab, bench):
    bench.cluster.cancel("99999")
    for call in (bench.cluster.release, bench.cluster.lift_hold):
        with pytest.raises(ClusterError, match="Invalid job id"):
            call("99999")


def test_releasing_a_held_job(lab, bench):
    request = bench.request({})
    held = replace(request, resources={**request.resources, "extra_sbatch": ["--hold"]})
    job_id = bench.cluster.submit(held)
    assert bench.job(held).reason == "JobHeldUser"
    bench.cluster.release(job_id)
    bench.until(held, lambda job: job.state == "COMPLETED")


@pytest.mark.parametrize(
    ("config", "mode"),
    [("requeue", "requeue"), ("cancel", "cancel"), ("qos", "requeue"), ("no_accounting", "requeue")],
)
def test_the_probe(lab_for, lab_configs, bench, config, mode):
    lab: LabConfig = lab_configs[config]
    lab_for(lab)
    site = bench.cluster.probe()
    assert (site.preempt_mode, site.accounting) == (mode, lab.accounting)
    assert site.requeue_hold_seconds == lab.hold
    assert site.partitions == {"low": 2160, "urgent": 2160}
    assert any("cancelled, not requeued" in note for note in site.notes) == (mode == "cancel")
    assert any("preempts" in note for note in site.notes) == (config == "qos")
