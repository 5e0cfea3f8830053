"""The whole loop: jobs that Slurm takes away and gives back, in place or not: preempted, timed out, off a dead node."""

import pytest
from control_scenes import Scene, begun, make_haste
from simulator.engine import Manners


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: Scene(tmp_path, **more)


# -- preempted, in place -------------------------------------------------------------------------------------------


def test_a_preempted_job_goes_on_under_its_id_and_its_hold_is_lifted_once(make):
    scene = begun(make())
    job = scene.job()
    scene.cluster.preempt(job.id)
    scene.cluster.advance(2)
    scene.make_pass()
    assert scene.state() == "interrupted"
    assert "BeginTime" in scene.run()["reason"]
    scene.go(30)
    assert scene.state() == "completed"
    assert scene.calls("lift_hold") == [job.id]
    assert scene.jobs() == [job]
    assert scene.spent() == {"useful": 12}
    assert scene.causes() == ["preempted", "completed"]


def test_a_job_that_is_preempted_too_often_for_slurm_is_replaced_by_another(make):
    """From the sixth requeue on (max_batch_requeue) Slurm holds a job for good."""
    scene = begun(make(steps=60, manners=Manners(max_requeues=2)))
    first = scene.job()
    for taken in (6, 6, 6):
        scene.reach(taken)
        scene.cluster.preempt(scene.job().id)
        scene.cluster.advance(2)
        scene.one_pass()
    scene.go(200)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 2
    assert first.state == "CANCELLED"
    assert scene.causes() == ["preempted", "preempted", "preempted", "completed"]
    assert scene.spent() == {"useful": 60}


def test_a_job_that_was_preempted_and_runs_again_before_a_pass_looks(make):
    scene = begun(make())
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(125)
    assert scene.job().state == "RUNNING"
    scene.make_pass()
    assert scene.state() == "running"
    assert scene.causes() == ["preempted", None]
    scene.go(15)
    assert len(scene.jobs()) == 1


def test_a_job_that_runs_again_and_has_not_claimed_yet_is_starting(make):
    scene = begun(make())
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(2)
    while scene.job().state != "RUNNING":
        scene.cluster.advance(1)
    scene.one_pass()
    assert (scene.state(), scene.run()["reason"], scene.run()["cause"]) == ("running", "starting", "preempted")
    scene.make_pass()


def test_a_worker_that_is_killed_at_the_end_of_its_grace_is_run_once_more_and_spends_nothing(make, fault):
    scene = make(steps=40, every=7)
    scene.worker.deaf.add("one")
    job = begun(scene).job()
    scene.cluster.preempt(job.id)
    scene.go(30)
    assert job.phantom
    scene.go(60)
    assert scene.state() == "completed"
    scene.cluster.advance(150)
    assert (job.state, job.restart_count) == ("COMPLETED", 2)
    scene.make_pass()
    executed = scene.worker.executed["one"]
    assert scene.spent() == {"useful": 40, "replayed": executed - 40}
    assert len(scene.jobs()) == 1
    fault("phantom", scene)


def test_a_site_that_cancels_what_it_preempts_and_a_worker_that_could_not_requeue(make, fault):
    scene = make(manners=Manners(preempt_mode="cancel"))
    scene.worker.requeues = False
    begun(scene)
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(2)
    scene.make_pass()
    assert len(scene.jobs()) == 2
    scene.go(30)
    assert scene.state() == "completed"
    assert scene.causes() == ["preempted", "completed"]
    fault("preempted_cancel", scene)


def test_a_time_limit_ends_it_twice(make):
    scene = make(steps=100)
    scene.enter("one", time_limit="1m")
    for _ in range(40):
        scene.cluster.advance(10)
        scene.make_pass()
    assert scene.state() == "completed"
    assert scene.causes()[:-1] == ["timeout"] * (len(scene.causes()) - 1)
    assert len(scene.causes()) >= 2
    assert scene.spent() == {"useful": 100}
    assert len(scene.jobs()) == 1


def test_a_time_limit_without_a_signal_in_time(make, fault):
    scene = make(steps=100)
    scene.worker.deaf.add("one")
    scene.enter("one", time_limit="1m")
    scene.go(150)
    assert scene.state() == "completed"
    assert scene.causes() == ["timeout", "completed"]
    assert len(scene.jobs()) == 2
    fault("time_limit", scene)


# -- nodes ---------------------------------------------------------------------------------------------------------


def test_an_orphans_steps_are_charged_as_replayed(make, fault):
    scene = begun(make(steps=60), taken=6)
    scene.cluster.fail_node(scene.job().id, orphan_steps=50)
    scene.make_pass()
    scene.reach(15)
    scene.make_pass()
    assert scene.causes()[0] == "node_fail"
    scene.go(120)
    assert scene.state() == "completed"
    executed = scene.worker.executed["one"]
    assert executed > 60
    assert scene.spent() == {"useful": 60, "replayed": executed - 60}
    assert len(scene.jobs()) == 1
    fault("node_fail", scene)


def test_a_launch_that_fails_is_tried_again_and_one_that_slurm_holds_is_released(make, fault):
    scene = make()
    scene.enter("one")
    scene.cluster.fail_launch(scene.job().id)
    scene.make_pass()
    assert scene.causes() == ["launch_failed"]
    scene.cluster.hold_launch(scene.job().id)
    scene.go(300)
    assert scene.calls("release") == [scene.job().id]
    assert scene.state() == "completed"
    assert scene.causes() == ["launch_failed", "launch_failed", "completed"]
    fault("launch_failed", scene, times=2)


def test_a_job_whose_user_environment_was_not_read_is_released(make):
    scene = make()
    scene.enter("one")
    scene.cluster.hold_launch(scene.job().id, "user env retrieval failed requeued held")
    scene.go(300)
    assert scene.calls("release") == [scene.job().id]
    assert scene.state() == "completed"
    assert scene.causes() == ["launch_failed", "completed"]


def test_a_held_job_of_a_completed_run_is_cancelled(make):
    scene = make(manners=Manners(max_requeues=0))
    scene.worker.deaf.add("one")
    job = begun(scene, taken=8).job()
    scene.cluster.preempt(job.id)
    scene.cluster.advance(8)
    assert "held" in job.reason
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.calls("cancel") == [job.id]
    assert job.state == "CANCELLED"
    assert [row["state"] for row in scene.rows("members")] == ["settled"]


def test_a_launch_that_fails_after_a_requeue_is_told_from_the_run_before(make):
    """Nobody made a pass between the preemption and the failed launch: two deaths, not one."""
    scene = begun(make())
    job = scene.job()
    scene.cluster.preempt(job.id)
    scene.cluster.advance(2)
    scene.cluster.fail_launch(job.id)
    scene.make_pass()
    assert scene.causes() == ["preempted", "launch_failed"]
    scene.go(30)
    assert scene.state() == "completed"
