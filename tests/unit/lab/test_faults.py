import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lvjobs.errors import UsageError
from lvjobs.lab import Lab, LabConfig, tools
from lvjobs.lab.daemons import ready_nodes
from lvjobs.lab.faults import QueuedJob, choose_victim, parse_queue
from lvjobs.lab.layout import Layout
from lvjobs.lab.processes import daemon_process, is_alive, stop
from lvjobs.lab.tools import LabError, clean_environment, run_tool, search_path

QUEUE = """\
12|12|b3.t81|RUNNING|low|n2
13_4|17|odd|name|RUNNING|low|n[3-4]
13_[5-9]|13|odd|name|PENDING|low|
14|14|b3x.t9|RUNNING|low|n1
15|15|lab-urgent|RUNNING|urgent|n4
"""


@pytest.mark.parametrize(
    ("nodes", "first"), [("n2", "n2"), ("n[3-4]", "n3"), ("n[2,5]", "n2"), ("n1,n4", "n1"), ("", "")]
)
def test_first_node(nodes, first):
    assert QueuedJob("1", "1", "one", "RUNNING", "low", nodes).first_node == first


@pytest.mark.parametrize(
    ("text", "job"), [("12", "12"), ("b3", "12"), ("b3.t81", "12"), ("13_4", "13_4"), ("17", "13_4")]
)
def test_victim(text, job):
    assert choose_victim(parse_queue(QUEUE), text).job_id == job


@pytest.mark.parametrize(("text", "why"), [("99", "no job 99"), ("13_[5-9]", "PENDING"), ("15", "urgent itself")])
def test_no_victim(text, why):
    with pytest.raises(UsageError, match=why):
        choose_victim(parse_queue(QUEUE), text)


@pytest.fixture
def sleeper(short_path):
    """A process whose command line mentions the lab's directory."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", f"{short_path}/etc/slurm.conf"])
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.01)  # Popen returns a moment before the kernel shows what it runs
    yield process
    process.kill()
    process.wait()


def test_a_daemon_is_known_by_more_than_its_number(short_path, sleeper):
    layout = Layout(short_path)
    layout.make()
    assert daemon_process(layout, "slurmctld") is None
    layout.pid_file("slurmctld").write_text(str(sleeper.pid))
    found = daemon_process(layout, "slurmctld")
    assert found is not None
    assert found.pid == sleeper.pid
    other = Layout(short_path / "other")
    other.make()
    other.pid_file("slurmctld").write_text(str(sleeper.pid))
    assert daemon_process(other, "slurmctld") is None
    layout.pid_file("slurmctld").write_text("nonsense")
    assert daemon_process(layout, "slurmctld") is None


def test_stop_wakes_the_frozen_and_counts_zombies_as_dead(sleeper):
    process = psutil.Process(sleeper.pid)
    process.send_signal(signal.SIGSTOP)
    stop([process], patience=300)
    assert not is_alive(process)
    assert sleeper.wait() == -signal.SIGTERM


def test_environment_has_nothing_of_another_cluster():
    layout = Layout(Path("/tmp/lab"))
    base = {"SLURM_JOB_ID": "1", "SBATCH_PARTITION": "p", "LANG": "C", "PATH": "/usr/bin"}
    assert clean_environment(layout, base) == {
        "LANG": "C",
        "SLURM_CONF": "/tmp/lab/etc/slurm.conf",
        "PATH": search_path("/usr/bin"),
    }
    assert search_path("/usr/sbin").count("/usr/sbin") == 1


def test_a_tool_that_fails_says_why(short_path):
    layout = Layout(short_path)
    with pytest.raises(LabError, match=r"sh -c .* failed: broken"):
        run_tool(layout, "sh", "-c", "echo broken >&2; exit 3", timeout=600)
    with pytest.raises(LabError, match=r"no answer in 0\.2 s"):
        run_tool(layout, "sleep", "3600", timeout=0.2)
    with pytest.raises(LabError, match="not installed"):
        run_tool(layout, "no-such-slurm-tool")


def test_a_silent_controller_has_no_node_ready_and_is_asked_again(short_path, monkeypatch):
    sinfo = short_path / "sinfo"
    sinfo.write_text("#!/bin/sh\nexit 1\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", str(short_path), prepend=os.pathsep)
    assert ready_nodes(Layout(short_path)) == set()
    sinfo.write_text("#!/bin/sh\necho n1\necho n2\n")
    assert ready_nodes(Layout(short_path)) == {"n1", "n2"}


def test_missing_packages_are_named_with_the_command(monkeypatch, short_path):
    monkeypatch.setattr(
        tools, "find_program", lambda name: None if name in {"slurmd", "munged"} else f"/usr/bin/{name}"
    )
    monkeypatch.setattr(tools.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(tools.os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match=r"apt-get install --no-install-recommends munge slurmd, then") as caught:
        Lab(short_path / "lab").up(LabConfig())
    assert caught.value.exit_code == 2
    assert not (short_path / "lab").exists()


def test_missing_packages_where_there_is_no_apt(monkeypatch, short_path):
    monkeypatch.setattr(tools, "find_program", lambda _: None)
    monkeypatch.setattr(tools.shutil, "which", lambda _: None)
    with pytest.raises(UsageError, match="package manager"):
        Lab(short_path / "lab").up(LabConfig())


def test_missing_accounting_packages(monkeypatch):
    monkeypatch.setattr(tools, "find_program", lambda name: None)
    found = tools.missing_packages(accounting=True)
    assert set(found) >= {"munge", "slurmctld", "slurmd", "slurm-client", "slurmdbd", "mariadb-server-core"}
    assert "slurmdbd" not in tools.missing_packages(accounting=False)


def test_installing_needs_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match=r"sudo apt-get install .* munge"):
        tools.install_packages(["munge"])
    tools.install_packages([])


def test_a_directory_with_other_things_is_refused(monkeypatch, short_path):
    monkeypatch.setattr(tools, "find_program", lambda name: f"/opt/{name}")
    (short_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="holds other things"):
        Lab(short_path).up(LabConfig())
    Lab(short_path).down(purge=True)
    assert (short_path / "thesis.tex").exists()


def test_nothing_works_on_a_lab_that_is_not_there(short_path):
    lab = Lab(short_path / "lab")
    assert lab.status().controller == "down"
    assert not lab.status().running
    assert lab.config is None
    for act in (lambda: lab.preempt(1), lambda: lab.fail("n1"), lambda: lab.restore("n1"), lab.start_controller):
        with pytest.raises(UsageError, match="lvjobs lab up"):
            act()
    for act in (lab.freeze, lab.thaw):
        with pytest.raises(LabError, match="lvjobs lab up"):
            act()
    lab.down()
    assert not (short_path / "lab").exists()
