"""The same promises, kept by every backend: each parameter is a world in which a test's jobs can run.

A test says what a job does (`world.run(exit=3)`); a stub stands in for the worker, so that nothing but the cluster room
is met.
"""

import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time

import pytest
from simulator.cluster import SimulatedCluster
from simulator.engine import Clock, Manners
from stub import STUB, seen

from lvjobs.cluster.local import LocalCluster
from lvjobs.cluster.profiles import load_profile
from lvjobs.cluster.protocol import JobRequest
from lvjobs.cluster.slurm import SlurmCluster
from lvjobs.errors import UsageError
from lvjobs.lab import Lab, LabConfig, require_packages


class World:
    """A backend, and what a test needs to make jobs for it and wait for them."""

    real = True
    accounting = True
    operator = None
    """What suspends, resumes and requeues the world's jobs: it has `suspend(job_id)` and so on; None: nobody can."""

    def __init__(self, root, cluster):
        self.root, self.cluster, self.began = root, cluster, time.time()
        self.code = root / "co de"
        (self.code / "lvjobs").mkdir(parents=True)
        (self.code / "lvjobs" / "__init__.py").touch()
        shutil.copy(STUB, self.code / "lvjobs" / "worker.py")
        self.logs = root / "lo'gs %j"
        self.logs.mkdir()
        self.tokens = []

    def run(self, **program):
        """A run directory whose job does what `program` says."""
        directory = self.root / f"run {secrets.token_hex(3)}"
        directory.mkdir()
        (directory / "program.json").write_text(json.dumps(program))
        return directory

    def request(self, *runs, **more):
        token = secrets.token_hex(6)
        self.tokens.append(token)
        more = {"resources": {"time_limit_minutes": 5} | more.pop("resources", {}), **more}
        return JobRequest(token, "te st", runs, self.logs, self.code, sys.executable, **more)

    def observe(self, *requests):
        return self.cluster.observe([request.token for request in requests], self.began - 3600)

    def jobs(self, request):
        """The queue's word on each member, by index; accounting's where the queue has forgotten it."""
        deadline = time.monotonic() + 300
        while (snapshot := self.observe(request)).queue is None:  # a machine that stalls: it is asked again
            assert time.monotonic() < deadline, snapshot.problem
        jobs = {job.member: job for job in snapshot.history or ()}
        return jobs | {job.member: job for job in snapshot.queue}

    def wait(self, request, condition, seconds=300):
        """Until `condition` holds for every member; returns them."""
        deadline = time.monotonic() + seconds
        while True:
            jobs = self.jobs(request)
            if len(jobs) == len(request.run_directories) and all(condition(job) for job in jobs.values()):
                return [jobs[index] for index in sorted(jobs)]
            assert time.monotonic() < deadline, jobs
            self.pass_time()

    def ended(self, request):
        return self.wait(request, lambda job: job.is_ended)

    def running(self, request):
        return self.wait(request, lambda job: job.state == "RUNNING")

    def pass_time(self):
        time.sleep(0.1)

    @staticmethod
    def seen(directory):
        return seen(directory)

    def started(self, directory, runs=1):
        """Until the worker says so for the nth time: a job may run for a moment before its worker does."""
        deadline = time.monotonic() + 120
        while sum(line["event"] == "start" for line in self.seen(directory)) < runs:
            assert time.monotonic() < deadline
            self.pass_time()


class SimulatedWorld(World):
    real = False

    def __init__(self, root):
        self.clock = Clock(time.time())
        super().__init__(root, SimulatedCluster(self.clock, self.on_step, Manners(hold=5)))
        self.operator = self.cluster

    def on_step(self, job):
        program = json.loads((job.run_directory / "program.json").read_text())
        if job.restart_count == 0:
            program = program.get("first", program)
        if job.step == 1:
            self.tell(job, "start")
        if job.signals:
            return 75
        if job.step <= program.get("sleep", 0):
            return None
        if "signal" in program:
            self.cluster.kill(job.id, program["signal"])
        return program.get("exit", 0)

    @staticmethod
    def tell(job, event):
        with (job.run_directory / "seen.jsonl").open("a") as stream:
            stream.write(json.dumps({"event": event, "environment": {}, "signals": job.signals}) + "\n")

    def pass_time(self):
        self.cluster.advance(1)


class Operator:
    """Whoever runs a lab: an ordinary user may not suspend jobs. A worker requeues its own job in the same way."""

    def __init__(self, lab):
        self.lab = lab

    def suspend(self, job_id):
        self.lab.run("scontrol", "suspend", job_id)

    def resume(self, job_id):
        self.lab.run("scontrol", "resume", job_id)

    def requeue(self, job_id):
        self.lab.run("scontrol", "requeue", job_id)


def bring_up(config):
    try:
        require_packages(accounting=config.accounting)
    except UsageError as error:
        pytest.skip(str(error))
    lab = Lab(tempfile.mkdtemp(prefix="lvlab"))
    try:
        lab.up(config)
    except BaseException:
        lab.down(purge=True)
        raise
    return lab


@pytest.fixture(scope="session")
def labs():
    """Private clusters, brought up when first asked for."""
    up = {}

    def give(*, accounting):
        if accounting not in up:
            up[accounting] = bring_up(
                LabConfig(accounting=accounting, hold=6, grace=60, kill_wait=30, message_timeout=100)
            )
        return up[accounting]

    yield give
    for lab in up.values():
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)


def slurm_world(root, labs, monkeypatch, *, accounting):
    lab = labs(accounting=accounting)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "SRUN_"))]:
        monkeypatch.delenv(name)
    for name, value in lab.environment().items():
        monkeypatch.setenv(name, value)
    world = World(root, SlurmCluster(load_profile("lab"), root / "submissions", timeout=120, submit_timeout=120))
    world.accounting = accounting
    world.operator = Operator(lab)
    return world


@pytest.fixture(
    params=[
        "simulated",
        "local",
        pytest.param("slurm", marks=pytest.mark.slurm),
        pytest.param("slurm without accounting", marks=pytest.mark.slurm),
    ]
)
def world(request, tmp_path, monkeypatch):
    if request.param == "simulated":
        world = SimulatedWorld(tmp_path)
    elif request.param == "local":
        world = World(tmp_path, LocalCluster(tmp_path / "local", slots=3, kill_wait_seconds=10))
    else:
        labs = request.getfixturevalue("labs")
        accounting = request.param == "slurm"
        world = slurm_world(tmp_path, labs, monkeypatch, accounting=accounting)
    yield world
    for job in world.cluster.observe(world.tokens, world.began - 3600).queue or ():
        if not job.is_ended:
            with contextlib.suppress(Exception):
                world.cluster.cancel(job.id)


@pytest.fixture
def operated_world(world):
    if world.operator is None:
        pytest.skip("its jobs cannot be suspended or requeued")
    return world


@pytest.fixture
def real_world(world):
    if not world.real:
        pytest.skip("its jobs are no processes")
    return world
