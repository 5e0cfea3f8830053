"""Several processes that train one run: the same losses, the same bits after any death, and no hang."""

import contextlib
import os
import signal
import socket
import time

import psutil
import pytest
import torch
from worker_helpers import Zygote, entries, executed, final_weights, make_run

from lvjobs.errors import LvjobsError, RunRefused
from lvjobs.records.failure import RecordedError
from lvjobs.worker import process_group
from lvjobs.worker.environment import read_environment
from lvjobs.worker.follower import seed_of_step
from lvjobs.worker.process_group import Address, Alone, Place, count_devices, interface_to, own_device, variables_of
from lvjobs.worker.ranks import LostRank, exit_code_of

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote("torch")
    yield zygote
    zygote.close()


def a_run(directory, dropout=0.2):
    return make_run(directory, steps=12, checkpoint_every=4, task="team_task:train", params={"dropout": dropout})


def together(zygote, layout, processes=2, **faults):
    return zygote.run(layout, LVJOBS_PROCESSES=processes, **faults)


def losses(layout):
    return {entry["step"]: entry["loss"] for entry in entries(layout, "step")}


@pytest.mark.slow
def test_two_processes_stop_and_die_and_end_with_the_bits_of_an_undisturbed_run(zygote, tmp_path):
    """With dropout, of which each draws its own."""
    whole, run = a_run(tmp_path / "whole"), a_run(tmp_path / "run")
    assert together(zygote, whole) == 0
    assert together(zygote, run, TEAM_TERM="0:6") == 75
    assert executed(run) == list(range(1, 7)), "both end the same step"
    started = time.monotonic()
    assert together(zygote, run, TEAM_KILL="1:9") == 137
    assert time.monotonic() - started < 500
    assert entries(run, "lost_process") == [{"rank": 1, "status": -9}]
    assert together(zygote, run, TEAM_KILL="0:11") == -9
    assert together(zygote, run) == 0
    assert set(executed(run)) == set(range(1, 13))
    assert final_weights(run) == final_weights(whole)
    assert losses(run) == losses(whole)
    assert entries(run, "other_processes") == entries(run, "error") == []
    assert len(entries(run, "done")) == 1


@pytest.mark.slow
def test_the_first_is_ended_while_it_waits_for_nobody_and_another_one_dies(zygote, tmp_path):
    """No call of torch's fails: the thread that watches the others ends the process."""
    gate = tmp_path / "gates" / "run" / "1-3"
    gate.parent.mkdir(parents=True)
    gate.touch()
    run = a_run(tmp_path / "runs" / "run")
    assert together(zygote, run, TEAM_KILL="1:3", ZYGOTE_GRACE="1") == 137
    assert entries(run, "lost_process") == [{"rank": 1, "status": -9}]
    assert entries(run, "error") == []


@pytest.mark.slow
def test_one_that_is_stuck_ends_with_the_first(zygote, tmp_path):
    """In a library that hears of nobody's death: it would hold its GPU for ever."""
    told = tmp_path / "told"
    pid = zygote.start(a_run(tmp_path / "run"), LVJOBS_PROCESSES=2, TEAM_STICK="1:3", TEAM_TOLD=told)
    deadline = time.monotonic() + 300
    while not (told.exists() and told.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stuck = psutil.Process(int(told.read_text()))
    os.kill(pid, signal.SIGKILL)
    assert zygote.wait(pid) == -signal.SIGKILL
    deadline = time.monotonic() + 120
    with contextlib.suppress(psutil.NoSuchProcess):
        while stuck.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, stuck.kill()
            time.sleep(0.02)


@pytest.mark.slow
def test_another_number_of_processes_goes_on_and_says_so(zygote, tmp_path):
    one, run = a_run(tmp_path / "one", dropout=0.0), a_run(tmp_path / "run", dropout=0.0)
    log = tmp_path / "log"
    log.touch()
    assert zygote.run(one) == 0
    assert together(zygote, run, TEAM_TERM="0:6") == 75
    assert zygote.run(run, TOY_OUTPUT=log) == 0
    assert entries(run, "other_processes") == [{"trained": 2, "processes": 1}]
    assert "with processes = 2 and continues with 1: the result is valid, but not bit for bit" in log.read_text()
    assert [entry["processes"] for entry in entries(run, "start")] == [2, 1]
    assert losses(run) == pytest.approx(losses(one), rel=1e-5)
    assert entries(run, "step")[0]["tokens"] == entries(one, "step")[0]["tokens"], "of the whole batch, told once"


@pytest.mark.slow
def test_an_error_in_a_follower_is_the_runs_error(zygote, tmp_path):
    run = a_run(tmp_path / "run")
    assert together(zygote, run, TEAM_FAIL="1:3") == 1
    (error,) = entries(run, "error")
    assert (error["type"], error["message"]) == ("ZeroDivisionError", "the follower broke")
    assert "team_task.py" in error["traceback"]
    assert entries(run, "lost_process") == entries(run, "leave") == []


@pytest.mark.slow
def test_processes_meet_where_the_temporary_directory_reads_like_a_url(zygote, tmp_path):
    scratch = tmp_path / "a#b?c=%20d"
    for directory in (scratch, tmp_path / "a"):  # a path as far as its #, by the rules of URLs
        directory.mkdir()
    log = tmp_path / "log"
    log.touch()
    assert together(zygote, a_run(tmp_path / "run"), TMPDIR=scratch, TOY_OUTPUT=log) == 0, log.read_text()


def test_what_the_job_is_told():
    assert read_environment({}).processes == 1
    assert read_environment({"LVJOBS_PROCESSES": "4"}).processes == 4
    slurm = {"LVJOBS_BACKEND": "slurm", "SLURM_JOB_ID": "1", "LVJOBS_PROCESSES": "2"}
    assert read_environment(slurm).processes == 2
    for wrong in ("0", "two", "-1", "1.5"):
        with pytest.raises(RunRefused, match="LVJOBS_PROCESSES"):
            read_environment({"LVJOBS_PROCESSES": wrong})


def test_a_restart_count_that_is_no_number_is_refused_in_one_line():
    slurm = {"LVJOBS_BACKEND": "slurm", "SLURM_JOB_ID": "1"}
    assert read_environment(slurm).restart_count == 0
    assert read_environment({**slurm, "SLURM_RESTART_COUNT": "0"}).restart_count == 0
    assert read_environment({**slurm, "SLURM_RESTART_COUNT": "3"}).restart_count == 3
    with pytest.raises(RunRefused, match="SLURM_RESTART_COUNT='many'"):
        read_environment({**slurm, "SLURM_RESTART_COUNT": "many"})


def test_each_process_sees_one_gpu():
    first, second = (Place(2 + rank, 4, rank, 2) for rank in (0, 1))
    assert [own_device(place, None) for place in (first, second)] == ["0", "1"]
    assert [own_device(place, "2,5") for place in (first, second)] == ["2", "5"]
    assert own_device(second, "GPU-a,GPU-b") == "GPU-b"
    assert own_device(second, "") == "", "GPUs that were hidden stay hidden"


def test_a_process_that_is_alone_on_its_node_sees_all_its_gpus():
    alone = Place(1, 2, 0, 1)
    assert [own_device(alone, visible) for visible in (None, "2,5")] == [None, "2,5"]


def test_processes_of_one_node_speak_over_the_loopback(tmp_path):
    found = variables_of(Place(3, 4, 3, 4), tmp_path, {"GLOO_SOCKET_IFNAME": "ib0"})
    assert found["MASTER_ADDR"] == "127.0.0.1"
    assert found["GLOO_SOCKET_IFNAME"] == found["NCCL_SOCKET_IFNAME"] == "lo"


def test_processes_of_several_nodes_speak_over_the_way_to_the_first(monkeypatch):
    place, head = Place(3, 4, 1, 2), Address("n1", 20001)
    found = {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "n1",
        "MASTER_PORT": "20001",
    }
    monkeypatch.setattr(process_group, "interface_to", {head: "ens3"}.__getitem__)
    assert variables_of(place, head, {}) == {**found, "GLOO_SOCKET_IFNAME": "ens3"}
    assert variables_of(place, head, {"GLOO_SOCKET_IFNAME": "ib0"}) == {**found, "GLOO_SOCKET_IFNAME": "ib0"}
    monkeypatch.setattr(process_group, "interface_to", lambda _: "")
    assert variables_of(place, head, {}) == found


def test_the_way_to_another_node_is_the_interface_of_its_network():
    assert interface_to(Address("127.0.0.1", 20001)) == "lo"
    assert interface_to(Address("no-such-node.invalid", 20001)) == ""
    for name, found in psutil.net_if_addrs().items():
        for each in found:
            if each.family == socket.AF_INET:
                assert interface_to(Address(each.address, 20001)) == name


@pytest.mark.parametrize(("there", "is_enough"), [(0, True), (1, False), (2, True)])
def test_each_node_has_as_many_gpus_as_processes_or_none(monkeypatch, there, is_enough):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    place = Place(2, 4, 0, 2)
    if is_enough:
        assert count_devices(place) == there
    else:
        with pytest.raises(LvjobsError, match="2 processes are to train together, one a GPU, and this job sees 1; set"):
            count_devices(place)


def test_followers_draw_what_hangs_on_nothing_but_seed_rank_and_step():
    seeds = {seed_of_step(seed, rank, step) for seed in (0, 1) for rank in (1, 2) for step in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_how_a_lost_process_ends_the_attempt():
    assert [exit_code_of(LostRank(1, status)) for status in (-9, -11, 3, None)] == [137, 139, 3, 1]
    assert "failed (-9)" in str(LostRank(1, -9))
    assert "no longer answer" in str(LostRank(0, None))
    assert str(LostRank(2, 1, RecordedError("ValueError", "no"))) == "process 2 failed: ValueError: no"


def test_alone():
    team, tensor = Alone(), torch.ones(2)
    team.add_up(tensor)
    assert tensor.tolist() == [1, 1]
    assert (team.rank, team.size, team.agree(True), team.agree(False)) == (0, 1, True, False)
