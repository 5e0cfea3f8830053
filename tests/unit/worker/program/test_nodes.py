"""The worker and the agent of another node, each in its own process: what is ordered, answered and reported."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from program_helpers import make_program, processes_of, wait_for

from lvjobs.errors import LvjobsError, RunRefused
from lvjobs.worker.environment import DONE, JobEnvironment, read_environment
from lvjobs.worker.generation import claim_generation
from lvjobs.worker.program import agent as agents
from lvjobs.worker.program import nodes
from lvjobs.worker.program.agent import Agent
from lvjobs.worker.program.launch import Order
from lvjobs.worker.program.messages import Orders, directory_of, read_report, write_orders
from lvjobs.worker.program.nodes import SpreadProgram
from lvjobs.worker.program.surroundings import Surroundings, starts_of

EXECUTION = "7.1"
PATIENCE = 120
WAITS = "import time; time.sleep(600)"
WRITES = """
import pathlib, time
with open("out/shard", "w") as file:
    pathlib.Path("writes").touch()
    while not pathlib.Path("enough").exists():
        time.sleep(0.01)
pathlib.Path("closed").touch()
time.sleep(600)
"""
STOPS = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
pathlib.Path("ready").touch()
time.sleep(600)
"""


def order(rank, script, program=sys.executable):
    return Order(rank, [program, "-c", script], {"RANK": str(rank)})


@pytest.fixture
def layout(tmp_path):
    layout = make_program(tmp_path / "run")
    claim_generation(layout, JobEnvironment("slurm", "", "7"))
    return layout


def work_of(layout, generation=1):
    work = layout.root / f"{generation:06d}.work"
    (work / "out").mkdir(parents=True, exist_ok=True)
    return work


@pytest.fixture
def start_agent(layout):
    started = []

    def start():
        job = {"LVJOBS_BACKEND": "slurm", "SLURM_JOB_ID": "7", "LVJOBS_TOKEN": "", "SLURMD_NODENAME": "n2"}
        mine = {"LVJOBS_NODES": "2", "SLURM_NODEID": "1", "LVJOBS_EXECUTION": EXECUTION}
        command = [sys.executable, "-m", "lvjobs.worker", str(layout.root)]
        started.append(subprocess.Popen(command, env={**os.environ, **job, **mine}))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


@pytest.fixture
def spread(layout, monkeypatch):
    monkeypatch.setattr(nodes, "_ANSWER_SECONDS", float(PATIENCE))
    made = []

    def make(here, there, program=sys.executable):
        orders = Orders(EXECUTION, 1, [[order(0, here)], [order(1, there, program)]])
        work = work_of(layout)
        made.append(
            SpreadProgram(work, orders, starts_of(orders.nodes[0], os.environ, Surroundings(work.parent, work)))
        )
        return made[-1]

    return make


def test_a_script_for_one_node_is_refused_on_two():
    job = {"LVJOBS_BACKEND": "slurm", "SLURM_JOB_ID": "7", "LVJOBS_NODES": "2", "SLURM_NODEID": "1"}
    with pytest.raises(RunRefused, match="sets no LVJOBS_EXECUTION, so it is for one node; include _worker"):
        read_environment(job)
    assert read_environment({**job, "LVJOBS_EXECUTION": EXECUTION}).node_rank == 1
    assert read_environment({**job, "LVJOBS_NODES": "1"}).node_rank == 0


def runs(layout, rank):
    for process in processes_of(layout):
        with suppress(psutil.Error):  # it ended just then
            if process.environ().get("RANK") == str(rank):
                return True
    return False


def test_both_parts_end_and_so_does_the_agent(spread, start_agent):
    agent = start_agent()
    program = spread("", "")
    wait_for(lambda: program.is_over, "both have ended")
    assert program.has_ended
    assert [(end.rank, end.code, end.node) for end in program.end()] == [(0, 0, ""), (1, 0, "n2")]
    assert agent.wait(PATIENCE) == DONE


def test_a_failure_elsewhere_ends_the_program_here(spread, start_agent, layout):
    agent = start_agent()
    program = spread(WAITS, "raise ValueError('no')")
    wait_for(lambda: program.is_over, "the failure is seen")
    here, there = program.end()
    assert (here.rank, here.code, here.is_ours) == (0, -signal.SIGKILL, True)
    assert (there.rank, there.code, there.tail[-1]) == (1, 1, "ValueError: no")
    assert agent.wait(PATIENCE) == DONE
    assert not processes_of(layout)


def test_a_file_that_another_node_writes_is_being_written(spread, start_agent, layout):
    start_agent()
    program = spread(WAITS, WRITES)
    work = work_of(layout).resolve()
    wait_for((work / "writes").exists, "it writes")
    assert program.files_being_written(work / "out") == {work / "out" / "shard"}
    assert program.files_being_written(work / "other") == set()
    (work / "enough").touch()
    wait_for((work / "closed").exists, "it has closed the file")
    assert program.files_being_written(work / "out") == set()
    program.end()


def test_a_signal_reaches_the_other_node(spread, start_agent, layout):
    start_agent()
    program = spread(STOPS.replace("ready", "here"), STOPS)
    wait_for(lambda: all((work_of(layout) / name).exists() for name in ("here", "ready")), "both are ready")
    program.signal("TERM")
    wait_for(lambda: program.has_ended, "both stop")
    assert [end.code for end in program.end()] == [7, 7]


def test_a_node_that_does_not_answer_is_lost(spread, start_agent, layout, monkeypatch):
    monkeypatch.setattr(nodes, "_ANSWER_SECONDS", 0.5)
    agent = start_agent()
    program = spread(WAITS, WAITS)
    wait_for(lambda: runs(layout, 1), "the other node's part runs")
    agent.kill()
    agent.wait()
    wait_for(lambda: not runs(layout, 1), "the kernel ends the program of a killed agent")
    path = work_of(layout) / "out"
    assert program.files_being_written(path) == {path}, "nobody knows"
    _, there = program.end()
    assert (there.rank, there.is_lost) == (1, True)


def test_a_program_that_another_node_does_not_have_is_an_error(spread, start_agent):
    start_agent()
    program = spread(WAITS, "", program="no-such-program")
    wait_for(lambda: program.is_over, "the problem is seen")
    with pytest.raises(LvjobsError, match="node n2: no-such-program cannot be started"):
        program.end()


def test_an_agent_ends_with_its_generation(spread, start_agent, layout):
    agent = start_agent()
    program = spread(WAITS, WAITS)
    wait_for(lambda: runs(layout, 1), "the other node's part runs")
    claim_generation(layout, JobEnvironment("slurm", "", "8"))
    assert agent.wait(PATIENCE) == DONE
    assert not runs(layout, 1)
    assert runs(layout, 0), "the worker ends that"
    program.end()


def test_an_agent_whose_working_directory_is_gone_ends_in_peace(spread, start_agent, layout):
    agent = start_agent()
    program = spread(WAITS, WAITS)
    wait_for(lambda: runs(layout, 1), "the other node's part runs")
    shutil.rmtree(work_of(layout))
    claim_generation(layout, JobEnvironment("slurm", "", "8"))
    assert agent.wait(PATIENCE) == DONE
    program.end()


def test_a_worker_whose_generation_is_over_does_not_wait_for_agents(spread, layout, monkeypatch):
    monkeypatch.setattr(nodes, "_ANSWER_SECONDS", 10_000)
    program = spread(WAITS, WAITS)
    shutil.rmtree(work_of(layout))
    (here,) = program.end()
    assert here.is_ours
    assert not (layout.root / "000001.work").exists()


def test_an_agent_obeys_only_the_orders_of_its_execution(start_agent, layout):
    """Others are of an execution before, or of another job; these would be found first, as those of a newer one."""
    mine, other = work_of(layout, 1), work_of(layout, 2)
    touch = "import pathlib; pathlib.Path('started').touch()"
    for work, execution in ((other, "8.0"), (mine, EXECUTION)):
        directory_of(work).mkdir(parents=True)
        write_orders(work, Orders(execution, 1, [[], [order(1, touch)]]))
    assert start_agent().wait(PATIENCE) == DONE
    assert (mine / "started").exists()
    assert not (other / "started").exists()
    report = read_report(mine, 1)
    assert report is not None
    assert [(end.rank, end.code) for end in report.ends] == [(1, 0)]


def test_an_agent_of_a_run_that_is_done_has_nothing_to_do(start_agent, layout):
    layout.done.write_text("{}")
    assert start_agent().wait(PATIENCE) == DONE


def test_an_agent_ends_the_program_of_a_worker_that_is_silent(layout, monkeypatch):
    monkeypatch.setattr(agents, "_SILENT_SECONDS", 0.5)
    work = work_of(layout)
    directory_of(work).mkdir(parents=True)
    write_orders(work, Orders(EXECUTION, 1, [[], [order(1, "import time; time.sleep(60)")]]))
    begun = time.monotonic()
    Agent(layout, JobEnvironment("slurm", "", "7", nodes=2, node_rank=1, node="n2", execution=EXECUTION), work).run()
    assert time.monotonic() - begun >= 0.5
    report = read_report(work, 1)
    assert report is not None
    assert [(end.code, end.is_ours, end.node) for end in report.ends] == [(-signal.SIGKILL, True, "n2")]
