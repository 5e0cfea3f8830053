"""`lvjobs doctor --job`: the job is seen through and leaves nothing, whatever becomes of it; and what its report means."""

import json
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from doctor_helpers import asked_of, levels, told
from simulator.cluster import SimulatedCluster
from simulator.engine import Clock, Manners

from lvjobs.doctor import errand as errands
from lvjobs.doctor.errand import Errand, run_errand
from lvjobs.doctor.node import check_errand
from lvjobs.files import write_json
from lvjobs.records.node import ORDER, REPORT, SCRIPT, NodeReport, Torch
from lvjobs.worker.environment import read_environment
from lvjobs.worker.node_probe import probe_node

TORCH = Torch("2.9.0", "12.8", ("NVIDIA A100",), "", 4.0)
SEEN = NodeReport(
    "node7",
    "n7",
    1.0,
    "/venv/bin/python",
    "/code",
    {"python": "3.11.9", "lvjobs": "0.1"},
    {"/s": ""},
    "/tmp",
    scratch_bytes=1 << 40,
    gpus=("GPU 0: NVIDIA A100",),
    torch=TORCH,
)


class Site:
    """A cluster for whose jobs a second passes whenever it is asked how they stand."""

    def __init__(self, asked, on_step, **manners):
        self.asked, self.said, self.directories, self.orders = asked, [], [], []
        self.cluster = SimulatedCluster(Clock(), self._step, Manners(**manners))
        self.on_step = on_step
        self.stop_at = ""
        observe = self.cluster.observe

        def observed(*arguments):
            self.cluster.advance(1)
            return observe(*arguments)

        self.cluster.observe = observed

    def _step(self, job):
        self.orders.append(json.loads((job.run_directory / ORDER).read_text()))
        assert (job.run_directory / SCRIPT).exists()
        assert job.request.environment == {"LVJOBS_LOOK": "1"}
        return self.on_step(job)

    def make(self, asked, directory):
        self.directories.append(directory)
        return self.cluster

    def tell(self, words):
        self.said.append(words)
        if self.stop_at and self.stop_at in words:
            raise KeyboardInterrupt

    def run(self, timeout=5.0):
        return run_errand(self.asked, self.tell, timeout=timeout, every=0.01, make=self.make)

    def is_clean(self):
        """No job is in the queue, and nothing lies about."""
        assert [job.id for job in self.cluster.jobs if job.end is None] == []
        assert [path for path in self.directories if path.exists()] == []
        return not self.asked.study.layout.internal.exists()


@pytest.fixture
def asked(tmp_path):
    return asked_of(tmp_path / "study", gpus=1)


@pytest.fixture(autouse=True)
def _haste(monkeypatch):
    """Time passes only by sleeping, so that a machine that stalls takes none of it away."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep, time=time.time, time_ns=time.time_ns)
    monkeypatch.setattr(errands, "time", clock)
    for name in ("_LEAVING_SECONDS", "_LATE_SECONDS", "_ENDING_SECONDS"):
        monkeypatch.setattr(errands, name, 0.3)


def reports(job):
    write_json(job.run_directory / REPORT, asdict(SEEN))
    return 0


def test_a_job_that_reports(asked):
    site = Site(asked, reports)
    errand = site.run()
    assert errand.report == NodeReport.from_json(json.dumps(asdict(SEEN)))
    assert site.orders[0]["paths"][str(asked.study.root)] == "rw"
    assert str(asked.study.root / "data.h5") in site.orders[0]["paths"]
    found = [*check_errand(errand, asked)]
    assert set(levels(found).values()) == {"fine"}
    assert "job 1 ran after" in told(found)[0]
    assert site.is_clean()


def test_it_asks_for_one_minute_and_else_for_what_runs_do(asked):
    site = Site(asked_of(asked.study.root, gpus=2, qos="a,b", time_limit="auto", pack=3), reports)
    site.run()
    (job,) = site.cluster.jobs
    assert job.request.resources == {"time_limit_minutes": 1, "gpus": 2, "qos": "a", "partition": "low"}


def test_a_job_that_does_not_begin_in_time_is_cancelled_and_says_why_it_waited(asked):
    site = Site(asked, reports, slots=0)
    errand = site.run(timeout=0.2)
    (found,) = check_errand(errand, asked)
    assert (found.level, "did not begin in time" in found.what) == ("note", True)
    assert (errand.report, errand.waited) == (None, None)
    assert site.is_clean()


def test_a_job_that_dies_without_a_report(asked):
    def dies(job):
        (job.request.log_directory / "1.out").write_text("srun: error: /venv/bin/python: No such file or directory\n")
        return 1

    site = Site(asked, dies)
    (found,) = check_errand(site.run(), asked)
    assert (found.level, "FAILED" in found.what, "No such file or directory" in found.what) == ("error", True, True)
    assert site.is_clean()


def test_a_job_that_is_stuck_is_cancelled(asked):
    site = Site(asked, lambda _job: None)
    (found,) = check_errand(site.run(timeout=0.3), asked)
    assert (found.level, "wrote no report" in found.what) == ("error", True)
    assert site.is_clean()


def test_torch_that_takes_too_long_keeps_the_rest_of_the_report(asked):
    def slow(job):
        write_json(job.run_directory / REPORT, asdict(replace(SEEN, torch=None)))

    site = Site(asked, slow)
    found = [*check_errand(site.run(timeout=0.3), asked)]
    assert levels(found)["node: GPUs"] == "note"
    assert levels(found)["node: files"] == "fine"
    assert site.is_clean()


def test_ctrl_c_cancels_the_job(asked):
    for moment in ("submitted", "runs"):
        site = Site(asked, lambda _job: None)
        site.stop_at = moment
        errand = site.run()
        assert errand.interrupted
        (found,) = check_errand(errand, asked)
        assert (found.level, "was interrupted" in found.what) == ("note", True)
        assert site.is_clean()


def test_a_job_that_sbatch_refuses(asked):
    site = Site(asked, reports)
    site.cluster.submit_faults.append("refused")
    (found,) = check_errand(site.run(), asked)
    assert (found.level, "Invalid account" in found.what) == ("error", True)
    assert site.is_clean()


@pytest.mark.parametrize("fault", ["lost", "vanished"])
def test_a_job_whose_sbatch_was_not_answered_is_looked_for_and_cancelled(asked, fault):
    site = Site(asked, lambda _job: None)
    site.cluster.submit_faults.append(fault)
    (found,) = check_errand(site.run(), asked)
    assert (found.level, "sbatch did not answer" in found.what) == ("error", True)
    assert site.is_clean()


def test_a_controller_that_falls_silent_is_told_as_what_may_be_left(asked):
    site = Site(asked, lambda _job: None)

    def fall_silent(words):
        site.cluster.silent = True

    errand = run_errand(asked, fall_silent, timeout=0.2, every=0.01, make=site.make)
    assert "doctor." in errand.left
    assert told(check_errand(errand, asked), "error")[0].startswith(f"{errand.left} | ")


def seen(asked, **changes):
    return [*check_errand(Errand("7", replace(SEEN, **changes)), asked)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"torch": replace(TORCH, cuda=None, devices=())}, "a build of torch with CUDA"),
        (
            {"torch": replace(TORCH, devices=()), "gpus": (), "gpu_problem": "there is no nvidia-smi"},
            "name a partition",
        ),
        ({"torch": replace(TORCH, devices=(), problem="driver too old")}, "driver too old"),
        ({"torch": replace(TORCH, devices=())}, "CUDA_VISIBLE_DEVICES"),
        ({"torch": Torch(problem="torch cannot be imported: no libcudnn")}, "install torch again"),
    ],
)
def test_gpus_that_are_not_seen(tmp_path, changes, words):
    found = seen(asked_of(tmp_path / "study", "generic", gpus=1), **changes)
    assert levels(found)["node: GPUs"] == "error"
    assert any(words in line for line in told(found, "error"))


def test_gpus_that_nobody_asked_for_and_pretended_ones(tmp_path):
    blind = {"torch": replace(TORCH, devices=(), cuda=None), "gpus": ()}
    found = seen(asked_of(tmp_path / "study", "generic", gpus=0), **blind)
    assert levels(found)["node: GPUs"] == "fine"
    assert any("jobs request none" in line for line in told(found))
    assert levels(seen(asked_of(tmp_path / "study", "lab", gpus=1), **blind))["node: GPUs"] == "note"


def test_what_a_node_lacks(asked):
    found = seen(asked, paths={"/s": "no such file or directory"}, scratch_problem="cannot be written: read-only")
    assert [each.subject for each in found if each.level == "error"] == ["node: files", "node: scratch"]
    found = seen(asked, knows_itself="scontrol does not tell", submits="Access/permission denied")
    assert [each.level for each in found if each.subject == "node: Slurm"] == ["error", "note"]
    assert any("a job may not submit jobs: Access/permission denied" in line for line in told(found, "note"))


def test_the_worker_looks_about_and_trains_nothing(tmp_path, monkeypatch):
    """In this process, on this machine: what it writes is what the doctor reads."""
    monkeypatch.setattr("lvjobs.worker.node_probe.signals.deafen", lambda: None)
    write_json(tmp_path / ORDER, {"paths": {str(tmp_path): "rw", str(tmp_path / "gone"): "r"}})
    environment = read_environment({"LVJOBS_LOOK": "1", "LVJOBS_BACKEND": "local"})
    assert environment.is_probe
    assert probe_node(tmp_path, environment) == 0
    report = NodeReport.from_json((tmp_path / REPORT).read_text())
    assert report.paths == {str(tmp_path): "", str(tmp_path / "gone"): "no such file or directory"}
    assert report.torch is not None
    assert (report.torch.problem, report.submits, report.knows_itself) == ("", "", "")
    assert report.scratch_bytes > 0
    assert not read_environment({}).is_probe


def test_what_is_no_report():
    for text in ("", "{", "[]", '{"host": "x"}', '{"host": "x", "torch": null, "other": 1}'):
        with pytest.raises(ValueError):
            NodeReport.from_json(text)
