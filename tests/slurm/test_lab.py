"""`lvjobs lab` against the real daemons."""

import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from driving import wait_until_saved

from lvjobs.errors import UsageError
from lvjobs.lab import Lab, LabConfig, LabError

pytestmark = pytest.mark.slurm


def submit(lab: Lab, *options: str, wrap: str = "srun sleep 300", name: str = "probe") -> str:
    words = (
        "sbatch",
        "--parsable",
        "--requeue",
        "--output=/dev/null",
        f"--job-name={name}",
        *options,
        f"--wrap={wrap}",
    )
    return lab.run(*words).strip()


def show(lab: Lab, job: str) -> dict[str, str]:
    return dict(re.findall(r"(\S+?)=(\S*)", lab.run("scontrol", "-o", "show", "job", job)))


def until(condition: Callable[[], object], seconds: float = 300) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        time.sleep(0.1)
    return time.monotonic() - start


def state(lab: Lab, job: str) -> str:
    return show(lab, job)["JobState"]


def running(lab: Lab, job: str, restarts: int = 0) -> None:
    until(lambda: state(lab, job) == "RUNNING" and show(lab, job)["Restarts"] == str(restarts))


def is_there(pid: int) -> bool:
    """Return whether such a process is more than a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def fresh() -> Iterator[Callable[[], Lab]]:
    """Labs of the test's own, gone after it."""
    labs: list[Lab] = []

    def give() -> Lab:
        labs.append(Lab(tempfile.mkdtemp(prefix="lvlab")))
        return labs[-1]

    yield give
    for lab in labs:
        lab.down(purge=True)


def test_is_up_with_its_nodes_and_gpus(lab, tmp_path):
    until(lambda: lab.status().healthy)
    until(lambda: {node.state for node in lab.status().nodes} == {"idle"})
    status = lab.status()
    output = tmp_path / "out"
    lab.run("sbatch", "--wait", "--gres=gpu:2", f"--output={output}", "--wrap=echo $CUDA_VISIBLE_DEVICES $SLURM_CONF")
    assert output.read_text().split() == ["0,1", str(lab.layout.slurm_conf)]
    assert json.dumps(status.to_dict())


def test_a_second_up_changes_nothing(lab):
    before = lab.status()
    assert lab.up().daemons == before.daemons
    with pytest.raises(UsageError, match="other settings"):
        lab.up(LabConfig(nodes=2))


def test_accounting_knows_a_job_and_its_account(lab):
    job = submit(lab, "--wait", wrap="true")
    until(lambda: lab.run("sacct", "-nPX", "-j", job, "-o", "account,state").strip() == "lab|COMPLETED")
    with pytest.raises(LabError, match="Invalid account"):
        submit(lab, "--account=nobody")


def test_a_job_over_the_time_limit_is_refused(lab):
    with pytest.raises(LabError, match="time limit"):
        submit(lab, "--time=37:00:00")


def test_without_accounting(lab_for, lab_configs):
    lab = lab_for(lab_configs["no_accounting"])
    submit(lab, "--wait", wrap="true")
    assert "slurmdbd" not in lab.status().daemons
    with pytest.raises(LabError, match="accounting storage is disabled"):
        lab.run("sacct")


@pytest.mark.parametrize("kind", ["requeue", "grace_0", "qos"])
def test_preempted_and_back(lab_for, lab_configs, kind):
    lab = lab_for(lab_configs[kind])
    job = submit(lab, name="run7.x1")
    bystander = submit(lab, "--nodelist=n2")
    running(lab, job)
    running(lab, bystander)
    node = show(lab, job)["NodeList"]
    done = lab.preempt("run7", seconds=1)
    assert (done.job_id, done.node) == (job, node)
    running(lab, job, restarts=1)
    until(lambda: state(lab, done.urgent_job_id) == "COMPLETED")
    assert show(lab, bystander)["Restarts"] == "0"


def test_preempted_and_cancelled(lab_for, lab_configs):
    lab = lab_for(lab_configs["cancel"])
    job = submit(lab)
    running(lab, job)
    lab.preempt(job, seconds=1)
    until(lambda: state(lab, job) == "PREEMPTED")


def test_user_signal_replaces_term(lab_for, lab_configs, tmp_path):
    lab = lab_for(lab_configs["user_signal"])
    seen, ready = tmp_path / "seen", tmp_path / "ready"
    code = f"open({str(seen)!r}, 'a').write(signal.sigwait([10, 12, 15]).name)"
    script = tmp_path / "wait.py"
    wait = f"signal.pthread_sigmask(signal.SIG_BLOCK, [10, 12, 15])\nopen({str(ready)!r}, 'w').close()"
    script.write_text(f"import signal\n{wait}\n{code}\n")
    job = submit(lab, "--signal=USR2@60", "--time=30", wrap=f"srun {sys.executable} {script}")
    running(lab, job)
    until(ready.exists)
    lab.preempt(job, seconds=1)
    until(lambda: seen.exists() and seen.read_text())
    assert seen.read_text() == "SIGUSR2"


def test_preempt_says_what_it_cannot_do(lab):
    with pytest.raises(UsageError, match="no job 4711"):
        lab.preempt(4711)
    waiting = submit(lab, "--begin=now+1hour")
    with pytest.raises(UsageError, match="PENDING"):
        lab.preempt(waiting)


def test_a_failed_node_leaves_its_processes_and_comes_back(lab, tmp_path):
    pid_file = tmp_path / "pid"
    job = submit(lab, "--nodelist=n3", wrap=f"srun sh -c 'echo $$ > {pid_file}; exec sleep 300'")
    until(lambda: pid_file.exists() and pid_file.read_text().strip())
    orphan = psutil.Process(int(pid_file.read_text()))
    lab.fail("n3")
    until(lambda: state(lab, job) == "PENDING" and show(lab, job)["Restarts"] == "1")
    assert orphan.is_running()
    assert {node.name: node.slurmd for node in lab.status().nodes}["n3"] is False
    lab.restore("n3")
    until(lambda: {node.state for node in lab.status().nodes} <= {"idle", "mixed", "allocated"})
    running(lab, job, restarts=1)
    with pytest.raises(UsageError, match="no node n9"):
        lab.fail("n9")


def test_a_node_that_fails_as_its_job_starts_is_not_put_back_in_service_by_a_late_answer(lab):
    job = submit(lab, "--nodelist=n3", wrap="exec sleep 300")
    running(lab, job)
    lab.fail("n3")
    time.sleep(1.5)  # the controller handles answers once a second
    shown = lab.run("sinfo", "-h", "-N", "-n", "n3", "-o", "%T").split()
    assert shown, "sinfo names no node"
    assert all(each.startswith("down") for each in shown), shown
    lab.restore("n3")
    running(lab, job, restarts=1)


def test_a_frozen_controller_answers_nobody(lab):
    lab.freeze()
    assert lab.status().controller == "frozen"
    with pytest.raises(LabError):
        lab.run("squeue", timeout=1)
    lab.thaw()
    until(lambda: lab.status().controller == "up")


def test_jobs_outlive_the_controller(lab):
    job = submit(lab)
    running(lab, job)
    wait_until_saved(lab, job)
    lab.kill_controller()
    assert lab.status().controller == "down"
    lab.start_controller()
    assert state(lab, job) == "RUNNING"
    assert show(lab, job)["Restarts"] == "0"


def test_down_keeps_the_queue_and_kills_only_its_own(fresh, tmp_path):
    config = LabConfig(nodes=1, hold=6, message_timeout=60)
    lab, other = fresh(), fresh()
    lab.up(config)
    other.up(config)
    other_job = submit(other)
    pid_file = tmp_path / "pid"
    job = submit(lab, wrap=f"srun sh -c 'trap : TERM; echo $$ > {pid_file}; sleep 300; sleep 300'")
    waiting = submit(lab, "--begin=now+1hour")
    until(lambda: pid_file.exists() and pid_file.read_text().strip())
    running(other, other_job)
    process = psutil.Process(int(pid_file.read_text()))

    # a stale pid file names a process that is not of this lab
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    lab.layout.pid_file("slurmd.n1").rename(tmp_path / "kept")
    lab.layout.pid_file("slurmd.n1").write_text(str(bystander.pid))
    assert not lab.status().healthy
    (tmp_path / "kept").rename(lab.layout.pid_file("slurmd.n1"))

    wait_until_saved(lab, job)
    lab.down()
    assert bystander.poll() is None
    bystander.send_signal(signal.SIGKILL)
    bystander.wait()
    until(lambda: not is_there(process.pid))
    assert not lab.status().running
    assert state(other, other_job) == "RUNNING"

    lab.up()
    assert state(lab, waiting) == "PENDING"
    running(lab, job, restarts=1)


def test_two_labs_use_other_ports(fresh):
    first, second = fresh(), fresh()
    config = LabConfig(nodes=1, gpus=0)
    base = first.up(config).port_base
    assert base is not None
    assert second.up(config).port_base != base
    with pytest.raises(UsageError, match=f"port {base} is taken"):
        fresh().up(LabConfig(nodes=1, gpus=0, port_base=base))


def test_other_settings_start_afresh(fresh):
    lab = fresh()
    lab.up(LabConfig(nodes=1))
    submit(lab, "--begin=now+1hour")
    lab.down()
    assert lab.up(LabConfig(nodes=2)).jobs == {}


def test_purge_leaves_nothing(fresh):
    lab = fresh()
    lab.up(LabConfig(nodes=1, accounting=True))
    submit(lab)
    pids = [pid for pid in lab.status().daemons.values() if pid]
    lab.down(purge=True)
    assert not lab.directory.exists()
    assert not any(map(is_there, pids))


def test_extra_lines_reach_slurm(fresh):
    lab = fresh()
    lab.up(LabConfig(nodes=1, extra=("MaxArraySize=77",)))
    assert re.search(r"MaxArraySize\s*= 77", lab.run("scontrol", "show", "config"))


AS_ANOTHER = """
import encodings.idna, os, sys
from lvjobs.lab import Lab, LabConfig  # while this user may still read them
directory, user = sys.argv[1], int(sys.argv[2])
os.setgroups([]), os.setgid(user), os.setuid(user), os.chdir("/")
os.environ["HOME"] = directory
lab = Lab(directory + "/lab")
lab.up(LabConfig(nodes=2, accounting=True, hold=6, message_timeout=60))
assert any(lab.status().healthy for _ in range(5))
try:
    lab.run("sbatch", "--wait", "--output=/dev/null", "--gres=gpu:1", "--wrap=srun true")
finally:
    lab.down(purge=True)
"""


def test_works_as_an_ordinary_user(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("every other test is of an ordinary user here")
    directory = Path(tempfile.mkdtemp(prefix="lvlab"))
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(directory, nobody, nobody)
    command = [sys.executable, "-c", AS_ANOTHER, str(directory), str(nobody)]
    environment = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    directory.rmdir()
