"""The twin's faults, each as it was measured on Slurm."""

from pathlib import Path

import pytest
from simulator.cluster import SimulatedCluster
from simulator.engine import Clock, Manners

from lvjobs.cluster.protocol import (
    ClusterError,
    ClusterSilent,
    JobRequest,
    SubmitDeferred,
    SubmitRefused,
    SubmitUnclear,
)
from lvjobs.errors import UsageError

TOKEN = "0123456789ab"


class Worker:
    """Trains `steps` steps a run, from where the last run stopped; leaves at a signal if it is well-behaved."""

    def __init__(self, steps=20, *, leaves=True):
        self.steps, self.leaves = steps, leaves
        self.done = 0
        self.log = []

    def __call__(self, job):
        self.log.append((job.id, job.restart_count, job.step, tuple(job.signals), job.orphan_steps is not None))
        if self.leaves and job.signals:
            return 75
        self.done += 1
        return 0 if self.done >= self.steps else None


def world(worker=None, **manners):
    clock = Clock()
    worker = worker or Worker()
    return SimulatedCluster(clock, worker, Manners(**manners)), worker


def request(token=TOKEN, members=1, **resources):
    runs = [Path(f"/run{index}") for index in range(members)]
    return JobRequest(token, "x", runs, Path("/l"), Path("/c"), "/py", resources=resources)


def rows(cluster):
    return [(job.state, job.restart_count) for job in cluster.observe([TOKEN], 0).history]


def queue(cluster):
    return [(job.id, job.state, job.reason) for job in cluster.observe([TOKEN], 0).queue]


def test_accounting_says_what_each_execution_held():
    cluster, _ = world(Worker(steps=20, leaves=False), grace=4, hold=5)
    job_id = cluster.submit(request(gpus=2))
    held = lambda: [(job.elapsed, job.gpus) for job in cluster.observe([TOKEN], 0).history]  # noqa: E731
    assert held() == [(0.0, None)]
    cluster.advance(11)
    assert held() == [(None, 2)]
    cluster.preempt(job_id)
    cluster.advance(6)
    assert held() == [(15.0, 2), (0.0, None)]
    cluster.run_until_quiet()
    assert held()[:1] == [(15.0, 2)]
    assert all(0 < elapsed < 15 and gpus == 2 for elapsed, gpus in held()[1:])
    assert {(job.elapsed, job.gpus) for job in cluster.observe([TOKEN], 0).queue} == {(None, None)}


def test_a_job_runs_to_its_end():
    cluster, worker = world()
    job_id = cluster.submit(request())
    assert queue(cluster) == [("1", "PENDING", "Priority")]
    cluster.advance(5)
    assert queue(cluster) == [("1", "RUNNING", "")]
    cluster.run_until_quiet()
    assert queue(cluster) == [(job_id, "COMPLETED", "")]
    assert rows(cluster) == [("COMPLETED", 0)]
    assert worker.done == 20


def test_it_is_deterministic():
    def history():
        cluster, worker = world()
        cluster.submit(request(members=6))
        cluster.advance(7)
        cluster.preempt("1_2")
        cluster.fail_node("1_0", orphan_steps=3)
        cluster.run_until_quiet()
        return worker.log, cluster.observe([TOKEN], 0)

    assert history() == history()


def test_a_preempted_job_that_leaves():
    cluster, worker = world()
    cluster.submit(request())
    cluster.advance(6)
    cluster.preempt("1")
    cluster.advance(1)
    assert queue(cluster) == [("1", "PENDING", "BeginTime")]
    cluster.advance(120)
    assert queue(cluster)[0][1] == "PENDING"
    cluster.run_until_quiet()
    assert rows(cluster) == [("PREEMPTED", 0), ("COMPLETED", 1)]
    assert worker.done == 20


def test_a_preempted_job_that_stays_runs_once_too_often():
    cluster, _ = world(Worker(30, leaves=False), grace=3)
    cluster.submit(request())
    cluster.advance(6)
    cluster.preempt("1")
    cluster.run_until_quiet()
    assert rows(cluster) == [("PREEMPTED", 0), ("PREEMPTED", 1), ("COMPLETED", 2)]


def test_no_grace():
    cluster, _ = world(grace=0)
    cluster.submit(request())
    cluster.advance(6)
    cluster.preempt("1")
    assert queue(cluster) == [("1", "PENDING", "BeginTime")]


def test_a_site_that_cancels():
    cluster, _ = world(preempt_mode="cancel")
    cluster.submit(request())
    cluster.advance(6)
    cluster.preempt("1")
    cluster.run_until_quiet()
    assert queue(cluster) == [("1", "PREEMPTED", "")]


def test_a_node_failure_with_an_orphan():
    cluster, worker = world(hold=2)
    cluster.submit(request())
    cluster.advance(6)
    cluster.fail_node("1", orphan_steps=8)
    cluster.run_until_quiet()
    assert rows(cluster) == [("NODE_FAIL", 0), ("COMPLETED", 1)]
    together = {restart for _, restart, _, _, orphan in worker.log if orphan}
    assert together == {0}
    assert [entry[1] for entry in worker.log if entry[4]] == [0] * 8


def test_a_kill():
    cluster, _ = world()
    cluster.submit(request())
    cluster.advance(6)
    cluster.kill("1")
    [job] = cluster.observe([TOKEN], 0).queue
    assert (job.state, job.exit_code, job.exit_signal) == ("FAILED", 0, 9)
    cluster.requeue("1")
    cluster.run_until_quiet()
    assert rows(cluster) == [("FAILED", 0), ("COMPLETED", 1)]


@pytest.mark.parametrize(("leaves", "state"), [(True, "FAILED"), (False, "TIMEOUT")])
def test_the_time_limit(leaves, state):
    cluster, worker = world(Worker(1000, leaves=leaves))
    cluster.submit(request(time_limit_minutes=1, signal_lead_seconds=90))
    cluster.run_until_quiet()
    assert queue(cluster)[0][1] == state
    assert "SIGUSR2" in worker.log[-1][3]


def test_launches_that_fail():
    cluster, _ = world()
    cluster.submit(request())
    cluster.hold_launch("1")
    cluster.advance(1000)
    assert queue(cluster) == [("1", "PENDING", "launch failed requeued held")]
    cluster.release("1")
    cluster.advance(3)
    assert queue(cluster) == [("1", "RUNNING", "")]
    cluster.submit(request("f" * 12))
    cluster.fail_launch("2")
    [job] = cluster.observe(["f" * 12], 0).queue
    assert (job.state, job.exit_code) == ("FAILED", 1)


def test_lifting_the_hold():
    cluster, _ = world()
    cluster.submit(request())
    cluster.advance(6)
    cluster.preempt("1")
    cluster.advance(2)
    cluster.lift_hold("1")
    cluster.advance(4)
    cluster.lift_hold("1")  # too late to matter, and it changes nothing
    cluster.advance(2)
    assert queue(cluster) == [("1", "RUNNING", "")]


def test_submissions_that_go_wrong():
    cluster, _ = world()
    cluster.submit_faults.extend(["lost", "vanished", "refused", "deferred"])
    with pytest.raises(SubmitUnclear):
        cluster.submit(request("a" * 12))
    with pytest.raises(SubmitUnclear):
        cluster.submit(request("b" * 12))
    with pytest.raises(SubmitRefused):
        cluster.submit(request("c" * 12))
    with pytest.raises(SubmitDeferred):
        cluster.submit(request("d" * 12))
    found = cluster.observe([letter * 12 for letter in "abcd"], 0).queue
    assert [job.token for job in found] == ["a" * 12]
    assert cluster.submit(request()) == "2"


def test_a_silent_controller():
    cluster, _ = world()
    cluster.silent = True
    with pytest.raises(SubmitUnclear):
        cluster.submit(request())
    snapshot = cluster.observe([TOKEN], 0)
    assert snapshot.queue is None
    assert "squeue" in snapshot.problem
    for call in (cluster.cancel, cluster.requeue, cluster.release, cluster.lift_hold):
        with pytest.raises(ClusterSilent):
            call("1")
    with pytest.raises(ClusterSilent):
        cluster.check(request())
    cluster.silent = False
    assert queue(cluster) == [("1", "PENDING", "Priority")]


def test_accounting_that_is_late_dead_or_absent():
    cluster, _ = world(accounting_lag=5)
    cluster.submit(request())
    assert rows(cluster) == []
    cluster.advance(6)
    assert rows(cluster) == [("RUNNING", 0)]
    cluster.kill("1")
    assert rows(cluster) == [("RUNNING", 0)]
    cluster.advance(5)
    assert rows(cluster) == [("FAILED", 0)]
    cluster.accounting = "dead"
    snapshot = cluster.observe([TOKEN], 0)
    assert (snapshot.history, snapshot.accounting, bool(snapshot.problem)) == (None, True, True)
    cluster.accounting = "off"
    snapshot = cluster.observe([TOKEN], 0)
    assert (snapshot.history, snapshot.accounting, snapshot.problem) == (None, False, "")


def test_the_queue_forgets():
    cluster, _ = world(min_job_age=10)
    cluster.submit(request())
    cluster.run_until_quiet()
    cluster.advance(11)
    assert queue(cluster) == []
    assert rows(cluster) == [("COMPLETED", 0)]


def test_a_reused_id():
    cluster, _ = world()
    assert cluster.submit(request()) == "1"
    cluster.forget()
    assert cluster.submit(request("f" * 12)) == "1"
    assert queue(cluster) == []
    assert [job.id for job in cluster.observe(["f" * 12], 0).queue] == ["1"]


def test_slots_and_max_parallel():
    cluster, _ = world(Worker(10**6), slots=3)
    cluster.submit(request(members=6))
    cluster.advance(3)
    assert [state for _, state, _ in queue(cluster)].count("RUNNING") == 3


def test_cancel_and_commands_are_noted():
    cluster, _ = world()
    array = cluster.submit(request(members=2))
    cluster.advance(2)
    cluster.cancel(array)
    assert {state for _, state, _ in queue(cluster)} == {"CANCELLED"}
    assert cluster.calls == [("cancel", "1")]
    with pytest.raises(ClusterError):
        cluster.requeue("99")


def test_check():
    cluster, _ = world(max_minutes=60)
    cluster.check(request(time_limit_minutes=60))
    with pytest.raises(UsageError, match="time_limit: 61"):
        cluster.check(request(time_limit_minutes=61))
