"""A command that is killed at any instant whatever: the next ones bring each run to its end, by one job, spending once."""

import pytest
from control_crashes import die_everywhere
from control_scenes import Scene, make_haste

STEPS = 3


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir()
    return Scene(tmp_path / "study", steps=STEPS, every=1)


def recover(scene, names):
    """Passes, as the user's next commands make them (the first at once), until every run rests."""
    scene.one_pass()
    for _ in range(12):
        scene.cluster.advance(35)
        scene.one_pass()
        if all(scene.state(name) in ("completed", "cancelled", "held") for name in names) and not scene.is_busy():
            return


@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_a_submission_that_is_killed(scene, names):
    def submit(scene):
        with scene.session() as session:
            scene.enter_in(session, *names)
            session.make_pass()

    for instant, left in die_everywhere(scene, submit):
        if not left.rows("runs"):
            left.enter(*names)  # the user types it again
        recover(left, names)
        for name in names:
            assert left.state(name) == "completed", instant
            assert left.worker.executed[name] == STEPS, instant
            assert len(left.jobs(name)) == 1, instant
            assert left.spent(name) == {"useful": STEPS}, instant


def killed(scene):
    scene.cluster.kill(scene.job().id)


def preempted(scene):
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(2)


def failed_to_launch(scene):
    scene.cluster.hold_launch(scene.job().id)


@pytest.mark.parametrize(("death", "jobs"), [(killed, 2), (preempted, 1), (failed_to_launch, 1)])
def test_a_pass_that_is_killed(scene, death, jobs):
    scene.enter("one")
    scene.reach(1)
    scene.one_pass()
    death(scene)
    for instant, left in die_everywhere(scene, Scene.one_pass):
        recover(left, ["one"])
        assert left.state() == "completed", instant
        assert left.worker.executed["one"] == STEPS, instant
        assert len(left.jobs()) == jobs, instant
        assert left.causes().count("completed") == 1, instant
        assert len(left.causes()) == len(set(left.causes())), instant


def test_a_cancellation_that_is_killed(scene):
    scene.enter("one")
    scene.reach(1)
    scene.one_pass()
    for instant, left in die_everywhere(scene, lambda scene: scene.cancel("one")):
        if left.state() != "cancelled":
            left.cancel("one")  # the user types it again
        taken = left.worker.executed["one"]
        recover(left, ["one"])
        assert left.state() == "cancelled", instant
        assert left.worker.executed["one"] == taken, instant
        assert len(left.jobs()) == 1, instant
