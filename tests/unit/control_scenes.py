"""A whole study in a temporary directory on a simulated cluster, and what must be true of it after every pass."""

import json
import os
import sqlite3
import tempfile
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import faults
from control_worker import Worker
from simulator.cluster import SimulatedCluster
from simulator.engine import Clock, Manners
from sqlalchemy import event

from lvjobs.control.loop import open_session
from lvjobs.control.reconcile import run_commands
from lvjobs.control.stages import submit_runs
from lvjobs.control.submission import declare
from lvjobs.control.submission.declare import RunRequest
from lvjobs.control.submission.submission_files import orders_for
from lvjobs.ledger import database
from lvjobs.study.config import StudyConfig, StudyContext
from lvjobs.study.parent import start_of
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Budget, Driver, Policy, Resources
from lvjobs.study.words import RunState
from lvjobs.tasks.code_copies import CodeCopy

STEPS = 12
EVERY = 4
TABLES = ("runs", "attempts", "submissions", "members", "events", "charges", "reservations", "stages", "cells")
RATES = {"official": {"training": 100, "validation": 0, "generation": 0}}
"""What a step of these runs costs: a limit of 1e17 is no limit."""
ENDED = ("completed", "cancelled")
WITHOUT_A_JOB = ("planned", "held", "paused", *ENDED)


@cache
def _empty_ledger():
    """The bytes of a new runs.db: migrating anew for each test would be most of a test."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "runs.db")
        database.open_ledger(path, 0).close()
        return path.read_bytes()


def make_haste(monkeypatch):
    """No waiting for the disk (no test here pulls the plug), and no copy of the package in each study."""
    for module in (submit_runs, run_commands):
        monkeypatch.setattr(module, "snapshot_code", lambda *_: CodeCopy("c0de"))
    monkeypatch.setattr(declare, "rates_of", lambda _config: RATES)
    monkeypatch.setattr(declare, "learn", lambda _configs: None)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    engine_for = database._engine

    def engine_in_haste(path):
        engine = engine_for(path)
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        return engine

    monkeypatch.setattr(database, "_engine", engine_in_haste)


class Scene:
    """A study, its cluster and the cluster's worker. Sessions are as short as a command's."""

    def __init__(self, root, *, manners=None, steps=STEPS, every=EVERY, budget=None, **policy):
        self.study = StudyContext(
            root=root, config=StudyConfig(profile="lab", driver=Driver(job=False), policy=Policy(**policy), stage=[])
        )
        self.bind(**budget or {})
        self.steps, self.every = steps, every
        self.clock = Clock()
        self.worker = Worker()
        self.cluster = SimulatedCluster(self.clock, self.worker, manners or Manners())
        self.worker.cluster = self.cluster
        self.shown = self.cluster  # what sessions are given
        self.cluster.submit = _Cashier(self, self.cluster.submit)
        self.study.layout.database.write_bytes(_empty_ledger())

    def bind(self, **budget):
        """[budget] as it is from now on."""
        config = self.study.config.model_copy(update={"budget": Budget(**budget)})
        self.study = replace(self.study, config=config)

    # -- what a user does -------------------------------------------------------------------------------------------

    def session(self):
        return open_session(self.study, wait=5, factory=lambda _study, _profile: self.shown, clock=self.clock)

    def wanted(self, *names, **resources):
        configs = [
            RunConfig(task="toy_task:train", steps=self.steps, checkpoint_every=self.every, params={"name": name})
            for name in names
        ]
        return RunRequest(configs, names, "train", "lab", Resources(**resources))

    def enter(self, *names, **resources):
        with self.session() as session:
            return self.enter_in(session, *names, **resources)

    def enter_in(self, session, *names, **resources):
        return submit_runs.enter(session, self.wanted(*names, **resources)).sent

    def cancel(self, *names):
        """As `lvjobs cancel` does: and then a pass."""
        with self.session() as session:
            return run_commands.cancel(session, names) + session.make_pass()["did"]

    def resume_runs(self, *names, **resources):
        with self.session() as session:
            return run_commands.resume_runs(session, names, resources)

    def one_pass(self):
        with self.session() as session:
            summary = session.make_pass()
        check(self)
        return summary["did"]

    def make_pass(self):
        """A pass, and more at the same instant, which change nothing.

        The second may do what only a second can: learn why a job waits that the first submitted, see off one that it
        cancelled, and what that one held. Else runs and attempts stay as they are, and the third finds nothing to do.
        """
        told = self.one_pass()
        first = self.dump()
        if told:
            again = self.one_pass()
            second = self.dump()
            assert _standing(second) == _standing(first), again
            first = second
        assert self.one_pass() == []
        assert self.dump() == first
        return told

    def go(self, seconds, every=15):
        """Time passes, and passes are made."""
        for _ in range(0, seconds, every):
            self.cluster.advance(every)
            self.one_pass()
        self.make_pass()

    def reach(self, taken, name="one"):
        """Time passes, with a pass every few seconds, until the run's job has taken so many steps in this execution."""
        for second in range(1000):
            job = self.job(name)
            if job.state == "RUNNING" and job.step > taken:
                return job
            self.cluster.advance(1)
            if second % 5 == 0:
                self.one_pass()
        raise AssertionError(f"{name} takes no {taken} steps: {self.job(name)}")

    # -- what is seen -----------------------------------------------------------------------------------------------

    def dump(self, tables=TABLES):
        with closing(sqlite3.connect(self.study.layout.database)) as connection:
            connection.row_factory = sqlite3.Row
            return {
                table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")]
                for table in tables
            }

    def rows(self, table):
        return self.dump([table])[table]

    def run(self, name="one"):
        return next(row for row in self.rows("runs") if row["name"] == name)

    def state(self, name="one"):
        return self.run(name)["state"]

    def causes(self, name="one"):
        run_id = self.run(name)["id"]
        return [row["cause"] for row in self.rows("attempts") if row["run_id"] == run_id]

    def spent(self, name="one"):
        """Steps by kind."""
        return spent_in(self.dump(["charges"]), self.run(name))

    backend = "simulated"

    @property
    def root(self):
        return self.study.root

    def tally(self):
        """Return the cost of a fault, for the table of faults."""
        check(self)
        return faults.tally(self.root, [(job.id.partition("_")[0], job.request.token) for job in self.cluster.jobs])

    def money(self):
        """FLOPs spent, reserved and free."""
        with self.session() as session, session.ledger.transaction() as transaction:
            books = session.books(transaction)
        return books.spent, books.reserved, books.free

    def files(self, name="one"):
        return self.study.layout.run(name)

    def job(self, name="one"):
        """The newest job made for the run."""
        return self.jobs(name)[-1]

    def jobs(self, name="one"):
        root = self.files(name).root
        return [job for job in self.cluster.jobs if job.run_directory == root or name in shared_by(job)]

    def alive(self, name="one"):
        return [job for job in self.jobs(name) if job.end is None]

    def calls(self, verb):
        """The ids of the jobs that the cluster was told to cancel, release, ..."""
        return [job_id for called, job_id in self.cluster.calls if called == verb]

    def is_busy(self):
        return any(job.end is None for job in self.cluster.jobs)

    def is_revoked(self, job, name="one"):
        return self.orders_for(job.request.token, name)[0]

    def orders_for(self, token, name="one"):
        """Return whether a submission is revoked for a run, and the run's allowance in it, as a worker sees it."""
        return orders_for(self.study.layout, name, token)


class _Cashier:
    """Looks into the books at every sbatch: nothing starts unless spent + reserved, with this, is within the limit."""

    def __init__(self, scene, submit):
        self.scene, self.submit = scene, submit

    def __call__(self, request):
        executed = Counter()
        for row in self.scene.rows("charges"):
            executed[row["run_id"]] += row["units"]
        reserved = {row["run_id"]: row["training"] for row in self.scene.rows("reservations")}
        rows = self.scene.rows("runs")
        runs = {row["name"]: row["id"] for row in rows}
        reserved = {row["id"]: reserved[row["id"]] for row in rows if row["id"] in reserved and row["rates"] != "{}"}
        ahead = sum(max(0, steps - executed[run_id]) for run_id, steps in reserved.items())
        rate, limit = RATES["official"]["training"], self.scene.study.config.budget.limit
        assert (executed.total() + ahead) * rate <= limit, "a job starts that the budget does not allow"
        for directory in request.run_directories:
            _, allowed = self.scene.orders_for(request.token, directory.name)
            assert allowed == reserved.get(runs[directory.name]), "a worker may spend other than what was reserved"
        return self.submit(request)


def shared_by(job):
    """The names of the runs that share the job."""
    return job.request.environment.get("LVJOBS_PACK", "").split()


def begun(scene, *names, taken=6):
    """The scene with runs that were submitted and have trained for a while."""
    names = names or ("one",)
    scene.enter(*names)
    scene.make_pass()
    for name in names:
        scene.reach(taken, name)
    scene.make_pass()
    return scene


def _standing(dump):
    runs = [{**row, "reason": ""} for row in dump["runs"]]
    return runs, [{**row, "allocated_seconds": None, "gpus": None} for row in dump["attempts"]]


def spent_in(dump, run):
    """The run's steps by kind."""
    spent = Counter()
    for row in dump["charges"]:
        spent[row["kind"]] += row["units"] * (row["run_id"] == run["id"])
        spent["estimated"] += row["estimated"] * (row["run_id"] == run["id"])
    return dict(+spent)


# -- what must always hold -----------------------------------------------------------------------------------------


def check(scene):
    """The invariants of DESIGN that a pass must leave behind, however things stand."""
    data = scene.dump()
    members = defaultdict(list)
    for member in data["members"]:
        members[member["run_id"]].append(member)
    tokens = {row["token"]: row for row in data["submissions"]}
    assert {member["token"] for member in data["members"]} == set(tokens), "a submission without members, or none"
    for run in data["runs"]:
        mine = members[run["id"]]
        live = [member for member in mine if member["state"] == "live"]
        _check_state(run, live, tokens)
        for member in mine:
            if member["state"] == "revoked":
                assert scene.orders_for(member["token"], run["name"])[0], "revoked in the ledger, but no worker is told"
        unrevoked = [job for job in scene.alive(run["name"]) if not scene.is_revoked(job, run["name"])]
        assert len(unrevoked) <= 1, f"{run['name']} may be trained by {[job.id for job in unrevoked]} at once"
        if unrevoked and run["state"] not in ENDED:
            assert [member["token"] for member in live] == [unrevoked[0].request.token], "a job that nobody follows"
        _check_charges(scene, run, data)
    assert not scene.worker.overlaps


def _check_state(run, live, tokens):
    state = run["state"]
    assert state in {word.value for word in RunState}
    assert len(live) <= 1
    if state in WITHOUT_A_JOB and state != "completed":  # whose job is followed to its end
        assert not live, f"{run['name']} is {state} and has a live submission"
    if state in ("submitting", "queued", "running"):
        assert live, f"{run['name']} is {state} without a submission"
        known = tokens[live[0]["token"]]["job_id"] is not None
        assert known == (state != "submitting")


def _check_charges(scene, run, data):
    """Charges are what was executed; what was executed is what the journals, and the workers, say."""
    attempts = [row for row in data["attempts"] if row["run_id"] == run["id"]]
    spent = spent_in(data, run)
    told = sum(row["executed"] for row in attempts)
    assert spent.get("useful", 0) + spent.get("replayed", 0) - spent.get("estimated", 0) == told
    if run["state"] not in ENDED:
        assert told == scene.worker.executed[run["name"]]
    if run["state"] == "completed":
        ended = scene.worker.ending.get(run["name"])
        config = json.loads(run["config"])
        assert spent["useful"] == (ended or config["steps"]) - start_of(config)
        assert scene.files(run["name"]).done.exists()


KILLED_BY_SLURM = """\
slurmstepd-n1: error: Exceeded job memory limit
slurmstepd-n1: error: StepId=2.0 exceeded memory limit (328794112 > 104857600), being killed
slurmstepd-n1: error: *** STEP 2.0 ON n1 CANCELLED AT 2026-11-25T22:26:16 ***
srun: error: n1: task 0: Killed
"""


def killed(scene, log):
    job = scene.job()
    path = scene.study.layout.log_directory("one") / f"{job.id}.out"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x" * 100_000 + "\n" + log)
    scene.cluster.kill(job.id)
    scene.make_pass()
