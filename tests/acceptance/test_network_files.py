"""A study on a real network file system: one sshd, and a mount of the same directory for each host.

The clients remember names, missing names and attributes for a while, as those of NFS do. What a worker does on one host
has to be seen by passes and workers on others, and nothing may be lost meanwhile.
"""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from control_scenes import Scene
from simulator.engine import Manners
from worker_helpers import entries, environment, final_weights, make_run, start

from lvjobs.control.submission.declare import RunRequest
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Resources

pytestmark = pytest.mark.slow

CACHED_SECONDS = 20
PATIENCE = 300
"""Seconds after which something is not late, but lost."""

STEPS, EVERY, STEP_SECONDS = 900, 100, 0.05
TRAINED = {"task": "toy_task:train", "steps": STEPS, "checkpoint_every": EVERY, "validate_every": EVERY}
HOSTS = ("login", "n1", "n2", "n3", "n4")
"""A mount each: the host of passes, and the simulator's nodes."""

PROGRAMS = {
    name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("sshd", "sshfs", "ssh-keygen")
}


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.1)


def is_listening(log):
    """Say if the sshd that writes this log has its port: another process may answer there."""
    return "Server listening on" in log.read_text()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(tmp_path):
    """An sshd of this user's own on the loopback; yields the options by which sshfs reaches it."""
    if missing := [name for name, path in PROGRAMS.items() if path is None]:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this user may not mount file systems: /dev/fuse cannot be opened")
    for name in ("host", "user"):
        command = [PROGRAMS["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name]
        subprocess.run(command, check=True)
    config = tmp_path / "sshd_config"
    settings = (
        f"ListenAddress 127.0.0.1\nHostKey {tmp_path / 'host'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {tmp_path / 'user.pub'}\nPermitRootLogin yes\nMaxStartups 20\nSubsystem sftp "
        f"internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd runs part of itself in there
    log = tmp_path / "sshd.log"
    for _ in range(5):  # another process may have taken the port that was free
        port = free_port()
        config.write_text(f"Port {port}\n{settings}")
        with log.open("wb") as said:
            daemon = subprocess.Popen([PROGRAMS["sshd"], "-D", "-e", "-f", config], stdout=said, stderr=said)
        wait_for(lambda: is_listening(log) or daemon.poll() is not None, "sshd listens")  # noqa: B023
        if daemon.poll() is None:
            break
    assert daemon.poll() is None, log.read_text()
    yield {
        "port": port,
        "IdentityFile": tmp_path / "user",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    daemon.terminate()
    daemon.wait()


@pytest.fixture
def mounts(tmp_path, server):
    """The directories by which the hosts see one directory of the server's."""
    (tmp_path / "served").mkdir()
    caches = ("dcache_timeout", "dcache_stat_timeout", "dcache_dir_timeout", "dcache_link_timeout")
    caches += ("attr_timeout", "entry_timeout", "negative_timeout")
    options = server | dict.fromkeys(caches, CACHED_SECONDS) | {"dir_cache": "yes"}
    named = ",".join(f"{key}={value}" for key, value in options.items())
    mounted = {}
    for host in HOSTS:
        mounted[host] = tmp_path / host
        mounted[host].mkdir()
        source = f"{getpass.getuser()}@127.0.0.1:{tmp_path / 'served'}"
        subprocess.run([PROGRAMS["sshfs"], "-o", named, source, mounted[host]], check=True, timeout=PATIENCE)
    yield mounted
    for path in mounted.values():
        subprocess.run(["umount", "--lazy", path], check=True)


class Nodes:
    """`on_step` of the simulated cluster: starts real workers, each on the mount of its job's node."""

    def __init__(self, mounts):
        self.mounts, self.processes = mounts, {}
        self.overlaps, self.ending = (), {}

    def __call__(self, job):
        key = (job.id, job.restart_count)
        if key not in self.processes:
            directory = self.mounts[job.node] / job.run_directory.relative_to(self.mounts["login"])
            variables = {"LVJOBS_BACKEND": "slurm", "LVJOBS_TOKEN": job.request.token, "SLURM_JOB_ID": job.id}
            variables |= {"SLURM_RESTART_COUNT": job.restart_count, "LVJOBS_PREEMPT_MODE": "cancel"}
            self.processes[key] = subprocess.Popen(
                [sys.executable, "-m", "lvjobs.worker", directory], env=environment(**variables)
            )
        return self.processes[key].poll()


class Study(Scene):
    """A scene whose time is real, and whose one run is trained by processes."""

    def __init__(self, mounts):
        gates = mounts["login"] / "study" / "gates" / "one"
        gates.mkdir(parents=True)
        (gates / "1-600").touch()  # its first worker is not done before its node fails
        super().__init__(mounts["login"] / "study", manners=Manners(hold=1.0))
        self.clock.now = time.time()
        self.cluster._on_step = self.worker = Nodes(mounts)

    def wanted(self, *names, **resources):
        config = RunConfig(**TRAINED, seed=7, params={"seconds": STEP_SECONDS})
        return RunRequest([config], names, "train", "lab", Resources(**resources))

    def follow(self, condition, what):
        """Make a pass after the other until something is so."""

        def holds():
            self.cluster.advance(time.time() - self.clock.now)
            with self.session() as session:
                session.make_pass()
            return condition()

        wait_for(holds, what)

    def attempts(self):
        return [(row["generation"], row["executed"], row["cause"]) for row in self.rows("attempts")]


@pytest.fixture
def study(mounts):
    """A study on the host of passes; its run trains on a node, and passes have seen so."""
    scene = Study(mounts)
    scene.enter("one")
    scene.follow(lambda: [row[0] for row in scene.attempts()] == [1], "a pass sees the claim")
    scene.follow(lambda: scene.attempts()[0][1] > EVERY, "a pass sees steps")
    yield scene
    for process in scene.worker.processes.values():
        process.kill()
        process.wait()


def test_a_node_fails_and_its_worker_trains_on(study, tmp_path, fault):
    """The next worker continues on another host, the first one is fenced off, and both are charged."""
    orphan = study.worker.processes[study.job().id, 0]
    study.cluster.fail_node(study.job().id, orphan_steps=PATIENCE)
    study.follow(lambda: [row[0] for row in study.attempts()] == [1, 2], "a pass sees the next claim")
    study.follow(lambda: orphan.poll() is not None, "the first worker sees that claim, and ends")
    study.follow(lambda: study.state() == "completed", "a pass sees that the run is complete")
    undisturbed = make_run(tmp_path / "undisturbed", **TRAINED)
    with start(undisturbed) as alone:
        assert alone.wait() == 0
    fault("network_files", study, same_bits=final_weights(study.files()) == final_weights(undisturbed))


def test_a_run_is_cancelled_while_its_worker_cannot_be_reached(study, tmp_path, fault):
    orphan = study.worker.processes[study.job().id, 0]
    study.cluster.fail_node(study.job().id, orphan_steps=PATIENCE)
    study.cancel("one")
    study.follow(lambda: orphan.poll() is not None, "the worker sees that it is revoked, and ends")
    executed = len(entries(RunLayout(tmp_path / "served" / "study" / "checkpoints" / "one"), "step"))
    study.follow(lambda: study.spent().get("useful") == executed, "what it did until then is charged")
    fault("network_files", study)
