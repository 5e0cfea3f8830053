"""The followers of a process group as the first process and the agents see them, without torch and without Slurm."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from program_helpers import wait_for
from worker_helpers import make_run, submit

from lvjobs.files import write_json
from lvjobs.records.failure import RecordedError
from lvjobs.worker import ranks as module
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.environment import DONE, JobEnvironment
from lvjobs.worker.follower import PEER_LOST, report_of
from lvjobs.worker.generation import claim_generation
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.process_group import Address
from lvjobs.worker.program import nodes
from lvjobs.worker.program.directory import head_of
from lvjobs.worker.program.end import ProcessEnd
from lvjobs.worker.program.launch import Order
from lvjobs.worker.program.messages import AgentReport, Orders, directory_of, read_orders, read_report, write_orders
from lvjobs.worker.program.messages import write_report as report
from lvjobs.worker.ranks import Followers, LaunchedRanks, LostRank
from lvjobs.worker.submission import Submission

EXECUTION = "7.1"
FOLLOWS = "import sys; print(flush=True); sys.stdin.read()"
IS_DEAF = """
import os, signal
deaf = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2} <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
os._exit(20 + deaf)
"""
KEEPS = "import os; os._exit(30 + int(os.environ['SLURM_JOB_ID']))"


def order(rank, script):
    return Order(rank, [sys.executable, "-c", script], {})


@pytest.fixture
def layout(tmp_path):
    layout = make_run(tmp_path / "run")
    submit(layout)
    claim_generation(layout, JobEnvironment("slurm", "abc", "7"))
    return layout


def job(count, processes=1):
    return JobEnvironment("slurm", "abc", "7", processes=processes, nodes=count, node="n1", execution=EXECUTION)


@pytest.fixture
def launched(layout, monkeypatch):
    """The ranks of three nodes, with one process each. Nobody is on the other nodes."""
    monkeypatch.setattr(nodes, "_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(nodes, "_READ_SECONDS", 0.0)
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")
    submission = Submission(layout, "abc")
    journal = JournalWriter(layout.journal(1))
    made = LaunchedRanks(Attempt(layout, submission.read_run(), 1, submission, journal, None), job(3))
    yield made
    made.close()
    journal.close()


def work_of(layout):
    return layout.root / "000001.work"


def test_each_node_is_ordered_to_start_its_followers(launched, layout):
    orders = read_orders(work_of(layout))
    assert (orders.execution, orders.generation) == (EXECUTION, 1)
    assert [[each.rank for each in node] for node in orders.nodes] == [[], [1], [2]]
    assert isinstance(launched.meeting, Address)
    assert launched.meeting.host == "127.0.0.1"
    launched.close()
    assert not work_of(layout).exists()


def test_the_end_that_shows_the_cause_is_the_loss(launched, layout):
    """Not that of a process that only lost another one, nor that of one that lvjobs ended."""
    work = work_of(layout)
    report(work, 1, AgentReport(is_over=True, ends=[ProcessEnd(1, PEER_LOST, node="n2")]))
    report(work, 2, AgentReport(is_over=True, ends=[ProcessEnd(2, -signal.SIGKILL, node="n3")]))
    assert launched.loss() == LostRank(2, -signal.SIGKILL, node="n3")
    assert str(launched.loss()) == "process 2 on node n3 of the process group failed (-9)"
    write_json(report_of(work, 1), RecordedError("ValueError", "no").to_fields())
    error = launched.loss().error
    assert error is not None
    assert (str(error), error.node) == ("ValueError: no (process 1 on node n2)", "n2")


def test_ends_that_show_no_cause_are_no_answer(launched, layout, monkeypatch):
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.5)
    ends = [ProcessEnd(1, PEER_LOST, node="n2"), ProcessEnd(2, -signal.SIGKILL, node="n2", is_ours=True)]
    report(work_of(layout), 1, AgentReport(is_over=True, ends=ends))
    assert launched.loss() == LostRank(0, None)


def test_a_failure_on_another_node_is_seen_by_a_process_that_hangs(launched, layout, monkeypatch):
    """As one does in NCCL, which may not notice that a peer is gone."""
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.5)
    lost = []
    thread = threading.Thread(target=launched.watch, args=[lost.append], daemon=True)
    thread.start()
    report(work_of(layout), 2, AgentReport(is_over=True, ends=[ProcessEnd(2, -signal.SIGKILL, node="n3")]))
    thread.join(60)
    assert lost == [LostRank(2, -signal.SIGKILL, node="n3")]


def test_the_head_is_an_address_that_other_nodes_can_reach():
    def head(name, **environ):
        return head_of(JobEnvironment("slurm", "abc", "7", node=name), environ)

    assert head("192.0.2.1", SLURM_LAUNCH_NODE_IPADDR="192.0.2.9") == "192.0.2.1"
    assert head("localhost", SLURM_LAUNCH_NODE_IPADDR="192.0.2.9") == "192.0.2.9"
    assert head("no-such-node.invalid", SLURM_LAUNCH_NODE_IPADDR="192.0.2.9") == "192.0.2.9"
    assert head("no-such-node.invalid") == os.uname().nodename


def test_followers_end_when_they_are_ended():
    followers = Followers([order(1, FOLLOWS), order(2, "raise SystemExit(3)")])
    wait_for(lambda: followers.is_over, "the failure of one")
    assert [(end.rank, end.code, end.is_ours) for end in followers.end()] == [
        (2, 3, False),
        (1, -signal.SIGKILL, True),
    ]


def test_followers_are_deaf_from_their_start():
    followers = Followers([order(1, IS_DEAF)])
    wait_for(lambda: followers.ends, "it has ended")
    assert [end.code for end in followers.end()] == [21]


@pytest.fixture
def start_agent(layout):
    started = []

    def start(script):
        work = work_of(layout)
        directory_of(work).mkdir(parents=True)
        write_orders(work, Orders(EXECUTION, 1, [[], [order(1, script)]]))
        environ = {"LVJOBS_BACKEND": "slurm", "SLURM_JOB_ID": "7", "LVJOBS_TOKEN": "abc", "SLURMD_NODENAME": "n2"}
        mine = {"LVJOBS_NODES": "2", "SLURM_NODEID": "1", "LVJOBS_EXECUTION": EXECUTION}
        command = [sys.executable, "-m", "lvjobs.worker", str(layout.root)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env={**os.environ, **environ, **mine}, stdout=pipe))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()
        each.stdout.close()


def test_an_agent_starts_followers_in_the_environment_of_the_job(start_agent, layout):
    assert start_agent(KEEPS).wait(120) == DONE
    found = read_report(work_of(layout), 1)
    assert found is not None
    assert [(end.rank, end.code, end.node) for end in found.ends] == [(1, 37, "n2")]
    assert found.has_failed


def test_followers_end_with_their_agent(start_agent):
    """Their output is the agent's, which ends once all have ended."""
    agent = start_agent(FOLLOWS)
    assert agent.stdout.read(1) == b"\n"
    agent.kill()
    assert agent.stdout.read() == b""
