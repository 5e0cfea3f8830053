"""Several processes on two nodes: the worker and the agent of the other node, as a job starts them, without Slurm."""

import signal
from contextlib import suppress
from itertools import count

import psutil
import pytest
from program_helpers import wait_for
from worker_helpers import Zygote, entries, executed, final_weights, make_run

from lvjobs.worker.environment import DONE, ERROR, EXITED_EARLY

pytestmark = pytest.mark.heavy

JOB = {
    "LVJOBS_BACKEND": "slurm",
    "LVJOBS_NODES": 2,
    "LVJOBS_END_TIME": 2e9,
    "SLURM_JOB_ID": 7,
    "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1",
    "PATH": "",  # no program of Slurm is asked
}


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote("torch")
    yield zygote
    zygote.close()


class Nodes:
    """The executions of one run's job, on two nodes."""

    def __init__(self, zygote, directory, processes=1):
        self.layout = make_run(directory, steps=12, checkpoint_every=4, task="team_task:train", params={"dropout": 0.2})
        self.zygote, self.processes, self.executions = zygote, processes, count(1)
        self.agent = 0

    def start(self, **faults):
        """Start the agent and the worker; return the worker's pid."""
        job = {**JOB, "LVJOBS_EXECUTION": f"7.{next(self.executions)}", "LVJOBS_PROCESSES": self.processes, **faults}
        self.agent, worker = (
            self.zygote.start(self.layout, **job, SLURM_NODEID=node, SLURMD_NODENAME=f"n{node + 1}") for node in (1, 0)
        )
        return worker

    def run(self, **faults):
        """Execute the job; return the worker's exit code, once the agent has ended well too."""
        worker = self.start(**faults)
        code = self.zygote.wait(worker)
        assert self.zygote.wait(self.agent) == DONE
        return code

    def followers(self):
        """The processes that follow in this run."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                words = process.cmdline()
                if "lvjobs.worker.follower" in words and f'"{self.layout.root}"' in words[-1]:
                    found.append(process)
        return found


@pytest.fixture(scope="module")
def undisturbed(zygote, tmp_path_factory):
    """The weights of two processes of one node."""
    layout = Nodes(zygote, tmp_path_factory.mktemp("whole") / "run").layout
    assert zygote.run(layout, LVJOBS_PROCESSES=2) == DONE
    return final_weights(layout)


@pytest.mark.slow
def test_a_run_on_two_nodes_stops_and_loses_a_process_and_a_worker(zygote, tmp_path, undisturbed):
    """It ends with the weights of as many processes of one node."""
    nodes = Nodes(zygote, tmp_path / "run")
    layout = nodes.layout
    assert nodes.run(TEAM_TERM="0:5") == EXITED_EARLY
    assert executed(layout) == [1, 2, 3, 4, 5]
    assert nodes.run(TEAM_KILL="1:7") == 128 + signal.SIGKILL
    assert entries(layout, "lost_process") == [{"rank": 1, "node": "n2", "status": -signal.SIGKILL}]
    assert nodes.run(TEAM_KILL="0:11") == -signal.SIGKILL
    wait_for(lambda: not nodes.followers(), "the follower ends with the agent")
    assert nodes.run() == DONE
    assert final_weights(layout) == undisturbed
    assert [entry["processes"] for entry in entries(layout, "start")] == [2] * 4
    assert entries(layout, "other_processes") == entries(layout, "error") == []
    assert not list(layout.root.glob("*.work"))


@pytest.mark.slow
def test_an_exception_on_the_other_node_is_the_runs_error(zygote, tmp_path):
    nodes = Nodes(zygote, tmp_path / "run")
    assert nodes.run(TEAM_FAIL="1:3") == ERROR
    (error,) = entries(nodes.layout, "error")
    message = "the follower broke (process 1 on node n2)"
    assert (error["type"], error["message"]) == ("ZeroDivisionError", message)
    assert "team_task.py" in error["traceback"]
    assert entries(nodes.layout, "lost_process") == entries(nodes.layout, "leave") == []
    assert not list(nodes.layout.root.glob("*.work"))


@pytest.mark.slow
def test_two_processes_on_each_of_two_nodes_have_the_sums_of_four_on_one(zygote, tmp_path):
    nodes, one = Nodes(zygote, tmp_path / "run", processes=2), Nodes(zygote, tmp_path / "one").layout
    assert nodes.run() == DONE
    assert zygote.run(one, LVJOBS_PROCESSES=4) == DONE
    assert final_weights(nodes.layout) == final_weights(one)
    assert [entry["processes"] for entry in entries(nodes.layout, "start")] == [4]
