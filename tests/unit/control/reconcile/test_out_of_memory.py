"""Out of memory, where only the job's log tells: its state says FAILED, as that of any job that was killed."""

import pytest
from control_scenes import KILLED_BY_SLURM, Scene, begun, killed, make_haste

from lvjobs.cluster.out_of_memory import shows_out_of_memory

# of Slurm 24.11 with OverMemoryKill, and of one with cgroups
KILLED_BY_THE_KERNEL = """\
slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed.
srun: error: n1: task 0: Out Of Memory
"""
KILLED = """\
lvjobs worker: a training exceeded memory limit, somebody printed
slurmstepd-n1: error: *** STEP 2.0 ON n1 CANCELLED AT 2026-11-25T22:26:16 DUE TO TIME LIMIT ***
srun: error: n1: task 0: Killed
"""


@pytest.mark.parametrize(("log", "told"), [(KILLED_BY_SLURM, True), (KILLED_BY_THE_KERNEL, True), (KILLED, False)])
def test_what_a_log_tells(log, told):
    assert shows_out_of_memory(log.encode()) is told


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return Scene(tmp_path, backoff_seconds=1)


def test_a_job_whose_log_tells_of_it_asks_for_more_memory(scene):
    scene.enter("one", memory_mb=100)
    scene.reach(2)
    killed(scene, KILLED_BY_SLURM)
    assert scene.causes() == ["out_of_memory"]
    assert scene.job().request.resources["memory_mb"] == 150
    scene.reach(2)
    killed(scene, KILLED)
    assert scene.causes() == ["out_of_memory", "killed"]
    assert scene.job().request.resources["memory_mb"] == 150


def test_what_a_log_tells_of_a_job_that_did_not_fail_is_not_asked(scene):
    begun(scene)
    path = scene.study.layout.log_directory("one") / f"{scene.job().id}.out"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(KILLED_BY_SLURM)
    scene.cluster.cancel(scene.job().id)
    scene.make_pass()
    assert scene.causes() == ["cancelled"]
