import json
import subprocess

import pytest
from click.testing import CliRunner

from lvjobs.cli.lab import lab
from lvjobs.lab import Lab, LabConfig, LabError, LabStatus, NodeStatus, Preemption, tools


@pytest.fixture
def run(short_path, monkeypatch):
    monkeypatch.setenv("LVJOBS_LAB", str(short_path / "lab"))

    def call(*words):
        return CliRunner().invoke(lab, words, catch_exceptions=False)

    return call


@pytest.fixture
def asked(monkeypatch, short_path):
    """Return the requests of `up`, without bringing anything up."""
    configs = []

    def up(self, config):
        configs.append(config)
        daemons = {"munged": 11, "slurmctld": None}
        nodes = (NodeStatus("n1", None, slurmd=True),)
        return LabStatus(str(self.directory), "silent", daemons, nodes, {"RUNNING": 2}, config, 21_000, False)

    monkeypatch.setattr(Lab, "up", up)
    monkeypatch.setattr("lvjobs.cli.lab.require_packages", lambda **_: None)
    return configs


def test_up_hands_over_what_was_given(run, asked):
    result = run("up", "--nodes", "2", "--preempt-by", "qos", "--hold", "6", "--user-signal", "--grace", "0")
    assert asked == [LabConfig(nodes=2, preempt_by="qos", hold=6, user_signal=True, grace=0)]
    assert "controller silent" in result.output
    assert "dead: slurmctld" in result.output
    assert "n1 unknown" in result.output
    assert "2 RUNNING" in result.output
    assert "listens on every address" in result.output
    assert 'eval "$(lvjobs lab env)"' in result.output


def test_up_keeps_what_was_not_given(run, asked, monkeypatch):
    monkeypatch.setattr(Lab, "config", LabConfig(nodes=7, accounting=True))
    run("up", "--no-accounting")
    assert asked == [LabConfig(nodes=7)]


def test_status_of_no_lab(run):
    assert "lvjobs lab up" in run("status").output
    found = json.loads(run("status", "--json").output)
    assert found["controller"] == "down"
    assert found["healthy"] is False


def test_env_is_for_eval(run, short_path):
    assert run("env").output.splitlines()[0] == f"export SLURM_CONF={(short_path / 'lab').resolve()}/etc/slurm.conf"


def test_preempt_says_what_it_did(run, monkeypatch):
    monkeypatch.setattr(Lab, "preempt", lambda self, job, seconds: Preemption("12", "n2", "15"))
    assert run("preempt", "b3.t81").output == "urgent job 15 takes node n2 from job 12 for 3 s\n"


@pytest.mark.parametrize("words", [("fail", "n1"), ("restore", "n1"), ("freeze",), ("thaw",), ("down", "--purge")])
def test_one_line_each(run, monkeypatch, words):
    monkeypatch.setattr(Lab, words[0], lambda self, *args, **kwargs: None)
    assert len(run(*words).output.splitlines()) == 1


def test_install_starts_no_daemon(monkeypatch, short_path):
    policy = short_path / "policy-rc.d"
    calls = []

    def apt(command, **_):
        calls.append((command, policy.read_text()))
        return subprocess.CompletedProcess(command, 100 if command[1] == "install" else 0, "", "E: no such package\n")

    monkeypatch.setattr(tools, "_POLICY", policy)
    monkeypatch.setattr(tools.os, "geteuid", lambda: 0)
    monkeypatch.setattr(tools.subprocess, "run", apt)
    with pytest.raises(LabError, match=r"apt-get install failed: E: no such package; .* lvjobs lab up --install"):
        tools.install_packages(["munge"])
    assert [command[1] for command, _ in calls] == ["update", "install"]
    assert all("exit 101" in text for _, text in calls)
    assert not policy.exists()
