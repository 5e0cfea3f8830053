"""Scenarios of remedies for runs: the trouble, what the message says to type, and the end of the trouble."""

import pytest
from control_scenes import begun
from remedy_scenes import typed_scene

from lvjobs import remedies


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return typed_scene(tmp_path, monkeypatch)


@pytest.mark.remedy("RESUME_RUN", "LOGS")
def test_a_run_that_was_killed_too_often(scene, typed, take):
    begun(scene)
    for _ in range(2000):
        if scene.state() == "held":
            break
        for job in scene.alive():
            if job.state == "RUNNING" and job.step > 0:
                scene.cluster.kill(job.id)
        scene.cluster.advance(1)
        scene.one_pass()
    assert scene.state() == "held"
    _, shown, _ = typed("why", "one")
    take(remedies.LOGS, shown, run="one")
    code, _, _ = take(remedies.RESUME_RUN, shown, run="one")
    assert code == 0
    scene.go(600, every=20)
    assert scene.state() == "completed"
