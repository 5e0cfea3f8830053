"""A program that is started as several processes: what each gets, and whose end counts."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from program_helpers import make_program, processes_of, wait_for_step
from worker_helpers import Zygote, entries, executed, submit

from lvjobs.study.program.command import CommandConfig
from lvjobs.worker.environment import DONE, ERROR
from lvjobs.worker.program.end import Outcome, ProcessEnd, ProgramFailed, ProgramLost, cause_of, judge
from lvjobs.worker.program.launch import orders_of
from lvjobs.worker.program.process import environment_of

RANKS = Path(__file__).parents[3] / "programs" / "ranks.py"
STEPS, EVERY = 40, 10
PEER = ["RuntimeError: [pair.cc:553] Connection closed by peer [::1]:92. This is typically caused by a remote worker"]
MINE = ["[rank1]: ValueError: no"]
VALUES = {"nodes": 2, "node_rank": 0, "head": "n1", "port": 20007, "processes": 2, "out": "out"}


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote("lvjobs.worker.program.execution")
    yield zygote
    zygote.close()


def make_ranks(directory, *words, **keys):
    command = [sys.executable, str(RANKS), "--steps={steps}", "--every={checkpoint_every}", "--out={out}", *words]
    own = {"checkpoint": "{out}/checkpoint.json", "resume": ["--resume={checkpoint}"], "launch": "process", **keys}
    return make_program(directory, command=command, **own)


def result(layout):
    return json.loads((layout.final / "out" / "result.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(zygote, tmp_path_factory):
    layout = make_ranks(tmp_path_factory.mktemp("ranks") / "run")
    assert zygote.run(layout, LVJOBS_PROCESSES=3) == DONE
    assert result(layout)["ranks"] == 3
    assert executed(layout) == list(range(1, STEPS + 1)), "the lines of the other ranks do not count"
    return result(layout)


def rank_of(process):
    return int(process.environ()["RANK"])


def test_a_killed_rank_ends_the_others_and_the_run_resumes_with_the_same_result(zygote, undisturbed, tmp_path):
    gate = tmp_path / "gates" / str(EVERY + 2)
    gate.parent.mkdir()
    gate.touch()
    layout = make_ranks(tmp_path / "run", f"--gates={gate.parent}")
    submit(layout)
    worker = zygote.start(layout, LVJOBS_TOKEN="abc", LVJOBS_PROCESSES=3)
    wait_for_step(layout, EVERY + 2)
    by_rank = {rank_of(process): process for process in processes_of(layout)}
    assert sorted(by_rank) == [0, 1, 2]
    os.kill(by_rank[1].pid, signal.SIGKILL)
    assert zygote.wait(worker) == 128 + signal.SIGKILL
    gate.unlink()
    assert not processes_of(layout)
    assert entries(layout, "error") == []
    assert entries(layout, "lost_process") == [{"rank": 1, "status": -signal.SIGKILL}]
    assert zygote.run(layout, LVJOBS_TOKEN="abc", LVJOBS_PROCESSES=3) == DONE
    assert result(layout) == undisturbed


def test_the_error_of_a_rank_is_the_run_s_and_not_what_its_peers_say(zygote, tmp_path):
    layout = make_ranks(tmp_path / "run", f"--raise-at={EVERY + 2}")
    assert zygote.run(layout, LVJOBS_PROCESSES=3) == ERROR
    (error,) = entries(layout, "error")
    assert error["type"] == "ValueError"
    assert f"step {EVERY + 2} has failed" in error["message"]


def test_another_number_of_processes_is_noted(zygote, tmp_path):
    layout = make_ranks(tmp_path / "run", "--raise-at=15", "--seconds-per-step=0.05")
    assert zygote.run(layout, LVJOBS_PROCESSES=2) == ERROR
    zygote.run(layout, LVJOBS_PROCESSES=1)
    assert entries(layout, "other_processes") == [{"trained": 2, "processes": 1}]


def test_each_node_gets_its_own_torchrun():
    config = CommandConfig(command=["train.py", "--out={out}", "--node={node_rank}"], launch="torchrun")
    first, second = orders_of(config, config.command, VALUES, {"A": "1"}, on_slurm=True)
    counts = ["torchrun", "--nnodes=2", "--nproc-per-node=2"]
    meeting = ["--master-addr=n1", "--master-port=20007", "train.py", "--out=out"]
    assert [order.command for order in first] == [[*counts, "--node-rank=0", *meeting, "--node=0"]]
    assert [order.command for order in second] == [[*counts, "--node-rank=1", *meeting, "--node=1"]]
    assert second[0].variables == {"A": "1"}
    (alone,) = orders_of(config, config.command, {**VALUES, "nodes": 1}, {}, on_slurm=False)
    assert "--standalone" in alone[0].command


def test_each_process_has_a_rank_and_slurm_s_variables_only_under_slurm():
    config = CommandConfig(command=["train"], launch="process", environment={"PLACE": "{node_rank}"})
    _, second = orders_of(config, config.command, VALUES, {}, on_slurm=True)
    assert [order.rank for order in second] == [2, 3]
    found = second[1].variables
    assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"], found["PLACE"]) == ("3", "1", "4", "1")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("n1", "20007")
    assert (found["SLURM_PROCID"], found["SLURM_LOCALID"], found["SLURM_NTASKS"]) == ("3", "1", "4")
    job = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SRUN_X": "", "LVJOBS_TOKEN": "t"}
    kept = environment_of(job, "", found)
    assert (kept["SLURM_JOB_ID"], kept["SLURM_PROCID"]) == ("7", "3")
    assert not {"SRUN_X", "LVJOBS_TOKEN"} & set(kept)
    _, second = orders_of(config, config.command, VALUES, {}, on_slurm=False)
    assert not any(name.startswith("SLURM_") for name in environment_of(job, "", second[1].variables))


@pytest.mark.parametrize("launch", ["once", "node"])
def test_other_programs_are_started_once_a_node(launch):
    config = CommandConfig(command=["train", "--rank={node_rank}"], launch=launch)
    nodes = orders_of(config, config.command, VALUES, {}, on_slurm=True)
    assert [[order.command for order in node] for node in nodes] == [[["train", "--rank=0"]], [["train", "--rank=1"]]]


@pytest.mark.parametrize(
    ("ends", "rank"),
    [
        ([ProcessEnd(0, 1, PEER), ProcessEnd(1, -9)], 1),
        ([ProcessEnd(0, 1, PEER), ProcessEnd(1, 1, MINE)], 1),
        ([ProcessEnd(0, 0), ProcessEnd(1, 3)], 1),
        ([ProcessEnd(0, 1, MINE), ProcessEnd(1, 1, MINE)], 0),
        ([ProcessEnd(0, 1, MINE), ProcessEnd(1, 1, ["exitcode  : -9 (pid: 7)"])], 1),
    ],
)
def test_the_end_that_shows_the_cause_is_judged(ends, rank):
    assert cause_of(ends).rank == rank


@pytest.mark.parametrize(
    ("tail", "raised"),
    [
        (PEER, ProgramLost),
        ([f"[rank0]: {PEER[0]}", "torch.x.ChildFailedError: "], ProgramLost),
        (["torch.distributed.DistBackendError: NCCL error in x: remote process exited"], ProgramLost),
        (["ncclRemoteError: A call failed possibly due to a network error or a remote process exiting"], ProgramLost),
        ([*PEER, *MINE], ProgramFailed),
        (MINE, ProgramFailed),
        (["exit"], ProgramFailed),
    ],
)
def test_a_program_that_only_lost_a_peer_is_retried(tail, raised):
    config = CommandConfig(command=["train.py"], launch="torchrun")
    with pytest.raises(raised):
        judge(Outcome(1, step=3, steps=9, gap=1, counts=True, reports=3, was_stopped=False, tail=tail), config)


def test_a_node_that_does_not_answer_is_a_loss_although_the_run_was_to_stop():
    """srun ends the worker, too, when an agent is killed: SIGTERM alone would look like a preemption."""
    config = CommandConfig(command=["train.py"], launch="torchrun")
    known = {"step": 3, "steps": 9, "gap": 1, "counts": True, "reports": 3, "was_stopped": True}
    assert not judge(Outcome(-9, **known), config).is_done
    with pytest.raises(ProgramLost):
        judge(Outcome(-9, **known, is_lost=True), config)
    ends = [ProcessEnd(0, 1, MINE), ProcessEnd(1, -9, is_lost=True), ProcessEnd(2, -9, is_ours=True)]
    assert cause_of(ends).is_lost
    assert cause_of([ends[2], ends[0]]) is ends[0], "what lvjobs killed shows nothing"


@pytest.mark.parametrize("first", ["torchrun", "python3.11", "/opt/bin/accelerate"])
def test_torchrun_is_not_started_twice(first):
    with pytest.raises(ValueError, match="begin command with the script"):
        CommandConfig(command=[first, "train.py"], launch="torchrun")
