"""The bound on the time that a reading command waits for Slurm."""

import time

import pytest

from lvjobs.cluster import commands
from lvjobs.cluster.commands import patience, run
from lvjobs.cluster.profiles import load_profile
from lvjobs.cluster.protocol import ClusterSilent
from lvjobs.cluster.slurm import SlurmCluster


def test_commands_share_the_time_and_the_next_is_not_asked(monkeypatch):
    begun = []
    monkeypatch.setattr(commands, "_run", lambda words, timeout: begun.append((words[0], timeout)) or time.sleep(0.05))
    with patience(0.04):
        run(["squeue"], 10)
        with pytest.raises(ClusterSilent, match="sacct was not asked, because Slurm did not answer"):
            run(["sacct"], 10)
    run(["sacct"], 10)
    assert [name for name, _ in begun] == ["squeue", "sacct"]
    assert begun[0][1] <= 0.04
    assert begun[1][1] == 10


def test_a_command_without_an_answer_is_ended():
    with patience(0.1), pytest.raises(ClusterSilent, match=r"sleep did not answer within 0\.1 s"):
        run(["sleep", "600"], 900)


def test_one_silence_is_reported_once(monkeypatch, tmp_path):
    def silent(words, timeout):
        raise ClusterSilent(f"{words[0]} did not answer within {timeout:.2g} s")

    monkeypatch.setattr("lvjobs.cluster.slurm.run", silent)
    found = SlurmCluster(load_profile("generic"), tmp_path).observe(["a" * 12], 0.0)
    assert found.queue is None
    assert found.problem == "squeue: squeue did not answer within 10 s"


def test_a_machine_without_a_cluster_is_named_in_words():
    raw = "sinfo: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\nsinfo: fatal: Could not establish a configuration source"
    answer = commands.CompletedProcess(["sinfo"], 1, "", raw)
    with pytest.raises(commands.ClusterError, match="no Slurm cluster is configured on this machine"):
        commands.answered(answer)
