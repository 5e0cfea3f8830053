"""Cancelled runs, submitted again: a new token and reservation, from the newest checkpoint; the old token stays revoked."""

import pytest
from control_scenes import Scene, begun

from lvjobs.control.reconcile import run_commands


@pytest.fixture
def make(tmp_path):
    return lambda: Scene(tmp_path)


def retry(scene, *names):
    with scene.session() as session:
        return run_commands.resume_runs(session, names, {}, cancelled=True)


def tokens(scene):
    return [row["token"] for row in scene.rows("submissions")]


@pytest.mark.parametrize("ended", [False, True], ids=["its job still runs", "its job has ended"])
def test_a_cancelled_run_continues_from_its_checkpoint_with_a_new_submission(make, ended):
    scene = begun(make(), taken=6)
    (former,) = tokens(scene)
    scene.cancel("one")
    if ended:
        scene.go(30)
    assert scene.state() == "cancelled"
    assert retry(scene, "one")[0].startswith("one: resumed by the user")
    scene.go(300)
    assert scene.state() == "completed"
    assert len(tokens(scene)) == 2
    assert tokens(scene)[0] == former
    assert scene.spent()["useful"] == 12, "all steps, each once"


def test_a_run_that_never_started_is_planned_again(make):
    scene = make()
    scene.enter("one")
    scene.cancel("one")
    retry(scene, "one")
    scene.go(300)
    assert scene.state() == "completed"


def test_without_retry_a_cancelled_run_stays_so_and_the_way_out_is_named(make):
    scene = begun(make())
    scene.cancel("one")
    (line,) = scene.resume_runs("one")
    assert line == "one: is cancelled and cannot be resumed; to submit it again: lvjobs retry one"
    scene.go(60)
    assert scene.state() == "cancelled"


def test_a_completed_run_is_not_submitted_again(make):
    scene = begun(make())
    scene.go(300)
    assert scene.state() == "completed"
    assert retry(scene, "one") == ["one: is completed; it cannot be resumed"]
