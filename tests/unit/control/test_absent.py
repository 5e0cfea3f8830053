"""Passes on a host that sees the study and not the cluster: a transfer node, a laptop."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from control_scenes import TABLES, Scene, begun, make_haste
from driver_scenes import Driven
from stage_scenes import FIRST, RULE, Sweep

from lvjobs.cluster.commands import absence
from lvjobs.cluster.protocol import SubmitDeferred
from lvjobs.cluster.sbatch import submit_script
from lvjobs.control.driver import driver
from lvjobs.control.stages.submit_runs import OverBudget
from lvjobs.errors import UsageError
from lvjobs.processes import submitted
from lvjobs.study.stages import Search, Stage

WHY = "Slurm is not reachable from laptop: sbatch and squeue are not on PATH"
SHOWN = f"{WHY}. Runs are shown as last seen; nothing was submitted. Run lvjobs on a login node of the cluster"


@pytest.fixture
def haste(monkeypatch):
    make_haste(monkeypatch)


@pytest.fixture
def scene(tmp_path, haste):
    return Scene(tmp_path, steps=40, backoff_seconds=0)


@pytest.fixture
def submitted_flag():
    """The event `submitted`, clear before and after."""
    submitted.clear()
    yield submitted
    submitted.clear()


def passes_elsewhere(scene):
    """Passes on a host that does not reach the cluster; what changed meanwhile, which is to be nothing."""
    scene.cluster.absent, before = WHY, scene.dump()
    for _ in range(2):
        with scene.session() as session:
            summary = session.make_pass()
        assert (summary["did"], summary["problems"]) == ([], [SHOWN])
        scene.clock.now += 10
    after = scene.dump()
    scene.cluster.absent = ""
    return {table: after[table] for table in TABLES if after[table] != before[table]}


def test_runs_that_are_due_stay_due_and_are_submitted_elsewhere(scene):
    begun(scene, "one")
    scene.cluster.submit_faults.append("deferred")
    scene.enter("two")
    scene.cluster.kill(scene.job("one").id)
    scene.cluster.submit_faults.append("deferred")
    scene.one_pass()
    assert (scene.state("one"), scene.state("two")) == ("interrupted", "planned")
    assert passes_elsewhere(scene) == {}
    scene.go(120)
    assert (scene.state("one"), scene.state("two")) == ("completed", "completed")
    assert (len(scene.jobs("one")), len(scene.jobs("two"))) == (2, 1)


def test_a_run_whose_worker_failed_is_resubmitted_elsewhere(scene):
    begun(scene, "one")
    scene.cluster.kill(scene.job("one").id)
    assert passes_elsewhere(scene) == {}
    scene.go(120)
    assert (scene.state("one"), len(scene.jobs("one"))) == ("completed", 2)


def test_a_run_that_is_completed_meanwhile_is_shown_as_completed(scene):
    begun(scene, "one")
    scene.cluster.advance(100)
    scene.cluster.absent = WHY
    scene.one_pass()
    assert scene.state("one") == "completed"


def test_a_held_run_is_not_resumed_from_there(scene):
    scene.worker.failing["one"] = 6
    scene.enter("one")
    scene.go(60)
    scene.worker.failing.clear()
    assert scene.state() == "held"
    before, scene.cluster.absent = scene.dump(), WHY
    assert scene.resume_runs("one") == ["one: stays held; it cannot be resumed from this host"]
    assert scene.dump() == before
    scene.cluster.absent = ""
    scene.resume_runs("one")
    scene.go(120)
    assert scene.state() == "completed"


def test_a_submission_from_there_is_refused_and_leaves_nothing(scene):
    scene.cluster.absent, before = WHY, scene.dump()
    with pytest.raises(UsageError, match=f"{WHY}; nothing was submitted: run lvjobs on a login node"):
        scene.enter("one")
    assert scene.dump() == before
    assert not scene.study.layout.checkpoints.exists() or not any(scene.study.layout.checkpoints.iterdir())
    scene.cluster.absent = ""
    scene.enter("one")
    scene.go(60)
    scene.cluster.absent = WHY
    assert scene.enter("one") is None, "what was submitted already is not submitted again"


def test_only_a_submission_that_reached_sbatch_counts_as_begun(scene, submitted_flag):
    scene.cluster.absent = WHY
    with pytest.raises(UsageError, match="nothing was submitted"):
        scene.enter("one")
    scene.cluster.absent = ""
    scene.bind(limit=1)
    with pytest.raises(OverBudget):
        scene.enter("two")
    assert not submitted_flag.is_set()
    scene.bind()
    scene.cluster.submit_faults.append("deferred")
    scene.enter("three")
    assert submitted_flag.is_set()


@pytest.mark.parametrize("kind", ["grid", "search"])
def test_a_stage_that_is_due_stays_due(tmp_path, haste, kind):
    first = FIRST
    if kind == "search":
        first = Stage(name="first", space={"lora_rank": [2, 4]}, search=Search(trials=2), select=RULE)
    scene = Sweep(tmp_path, first, Stage(name="table", evaluate=["first"]))
    scene.cluster.absent = WHY
    scene.ask()
    assert passes_elsewhere(scene) == {}
    assert scene.stands("first") == ["asked"]
    assert scene.rows("runs") == []
    scene.go(900)
    assert scene.stands("first", "table") == ["completed", "completed"]


@pytest.mark.parametrize("answers", [False, True], ids=["no squeue", "squeue answers"])
def test_no_driver_is_submitted_from_there_and_none_is_refused(tmp_path, haste, monkeypatch, answers):
    scene = Driven(tmp_path)
    scene.stop(stopped=True)
    begun(scene, "one")
    scene.cluster.absent = WHY
    with monkeypatch.context() as patch:
        if answers:
            patch.setattr(driver, "find_jobs", lambda _session: ())
        scene.stop(stopped=False)
        assert passes_elsewhere(scene) == {}
    assert scene.shown.requests == []
    scene.one_pass()
    assert len(scene.shown.live()) == 2, "the one that drives, and the one that is on standby"


# -- the real cluster's programs, which are not on PATH ---------------------------------------------------------------


@pytest.fixture
def without_slurm(tmp_path, monkeypatch):
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


def test_the_programs_that_are_missing_are_named(without_slurm):
    host = socket.gethostname()
    every = "sbatch, squeue, scancel, scontrol and srun are not on PATH"
    assert absence() == f"Slurm is not reachable from {host}: {every}"
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        (without_slurm / name).touch(0o755)
    assert absence() == f"Slurm is not reachable from {host}: srun is not on PATH"
    (without_slurm / "srun").touch(0o755)
    assert absence() == ""


def test_sbatch_that_is_missing_is_no_refusal(without_slurm, tmp_path):
    with pytest.raises(SubmitDeferred, match="not on PATH"):
        submit_script("#!/bin/sh\n", tmp_path / "folder", 5)
    assert not (tmp_path / "folder").exists()


def test_an_sbatch_that_finds_no_cluster_says_so_in_words(monkeypatch, tmp_path):
    raw = (
        "resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\nfatal: Could not establish a configuration source"
    )
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\necho '{raw}' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SubmitDeferred) as refused:
        submit_script("#!/bin/sh\n", tmp_path / "folder", 5)
    assert str(refused.value).startswith("no Slurm cluster is configured on this machine (")
    assert "res_nsearch" not in str(refused.value)


def test_lvjobs_submit_exits_with_2_and_leaves_no_run(without_slurm, tmp_path):
    root = tmp_path / "study"
    root.mkdir()
    shutil.copy(Path(__file__).parents[1] / "toy_task.py", root)
    (root / "study.toml").write_text('profile = "generic"\n[train]\ntask = "toy_task:priced"\nsteps = 4\n')

    def typed(*words):
        command = [sys.executable, "-m", "lvjobs", *words, "--study", str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, said = typed("submit", "run")
    assert code == 2, said
    assert said.count("Slurm is not reachable from") == 1
    assert "nothing was submitted" in said
    for place in ("checkpoints", "logs", ".lvjobs/code", ".lvjobs/submissions"):
        assert not (root / place).exists() or not any((root / place).iterdir()), place
    code, said = typed("status")
    assert code == 0, said
    assert "not reachable" not in said, "nothing of this study is on Slurm"
