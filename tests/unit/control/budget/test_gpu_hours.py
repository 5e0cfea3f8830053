"""The limit of GPU-hours: what does not fit does not start, and what started stops in time.

A job here asks for 2 GPUs for 60 minutes: 2 GPU-hours are reserved for it until its pace is measured. A step takes a
second.
"""

import json
import math

import pytest
from gpu_hours_scenes import HOUR, RUN, SLOW, held, make_scene

from lvjobs.control.budget import limit
from lvjobs.control.stages.submit_runs import OverBudget
from lvjobs.control.submission import declare
from lvjobs.control.submission.submission_files import revoke
from lvjobs.ledger.transaction import Transaction


@pytest.fixture
def make(tmp_path, monkeypatch):
    return make_scene(tmp_path, monkeypatch)


# -- what may start -------------------------------------------------------------------------------------------------


def test_the_time_limit_of_each_job_is_reserved_until_the_limit_is_reached(make):
    scene = make(14)
    for number in range(7):
        assert scene.submit(f"run{number}").outcome == "submitted"
    assert scene.hours() == (0, 7 * RUN, 0)
    before = scene.dump()
    for number in range(7, 20):
        with pytest.raises(OverBudget, match=r"needs 2 GPU-hours .* 2 more than the 0 available .limit 14."):
            scene.submit(f"run{number}")
    assert scene.dump() == before


def test_a_sweep_that_does_not_fit_is_refused_as_a_whole(make):
    scene = make(5)
    with pytest.raises(OverBudget) as refused:
        scene.submit("one", "two", "three")
    assert scene.rows("runs") == []
    assert "lvjobs budget set --gpu-hours HOURS" in str(refused.value)
    assert "--fit" not in str(refused.value), "no number of steps is known that would fit"


def test_flops_are_refused_first_where_both_are_lacking(make):
    scene = make(1)
    scene.bind(limit=10, gpu_hours=1)
    with pytest.raises(OverBudget, match=r"needs .* FLOPs"):
        scene.submit("one")


def test_jobs_without_gpus_take_nothing_of_the_limit(make):
    scene = make(0.001)
    for name in ("one", "two", "three"):
        scene.submit(name, gpus=0)
    assert scene.hours() == (0, 0, 3)
    scene.go(60)
    assert [scene.state(name) for name in ("one", "two", "three")] == ["completed"] * 3


def test_a_task_that_declares_no_flops_is_limited_by_its_gpu_hours(make, monkeypatch):
    scene = make(2)
    monkeypatch.setattr(declare, "rates_of", lambda _config: {})
    scene.submit("one")
    assert scene.orders_for(scene.job().request.token) == (False, None), "its steps have no limit"
    with pytest.raises(OverBudget):
        scene.submit("two")
    scene.go(60)
    assert scene.state() == "completed"


# -- what is charged ------------------------------------------------------------------------------------------------


def test_a_finished_run_is_charged_what_accounting_says_and_gives_back_the_rest(make):
    scene = make(4)
    scene.submit("one")
    scene.go(60)
    assert scene.state() == "completed"
    spent, reserved, free = scene.hours()
    assert spent == math.ceil(held(scene)) == pytest.approx(2 * scene.steps, abs=4)
    assert (reserved, free) == (0, 4 * HOUR - spent)


def test_what_a_job_holds_is_spent_while_it_trains(make):
    scene = make(4, steps=100, every=10)
    scene.submit("one")
    scene.reach(30)
    spent, reserved, _ = scene.hours()
    assert spent == pytest.approx(held(scene), abs=2)
    assert spent + reserved == pytest.approx(RUN, abs=2)


def test_the_pace_of_similar_runs_is_reserved_once_it_was_measured(make):
    """The time limit is what one job may take at most; what runs of the same settings took is much less here."""
    scene = make(6)
    scene.params = {}
    scene.submit("one")
    scene.go(60)
    before = sum(scene.hours()[:2])
    scene.submit("two")
    mine = sum(scene.hours()[:2]) - before
    steps = scene.steps + scene.every  # with an interval of repeated steps
    assert 2 * steps <= mine < 2 * (steps + 30), "seconds of start-up as accounting shows them, and no hour"


def test_a_pack_reserves_its_job_once(make):
    scene = make(2.01)
    scene.submit("one", "two", "three", "four", pack=4)
    assert scene.hours()[1] == RUN
    scene.go(120)
    assert {scene.state(name) for name in ("one", "two", "three", "four")} == {"completed"}
    assert scene.hours()[0] == pytest.approx(held(scene), abs=4)


# -- estimates that were too low ------------------------------------------------------------------------------------


def test_a_run_whose_estimate_was_too_low_is_held_at_the_limit(make):
    """It asks for 1 minute of 2 GPUs and needs 400 s. Nobody looks while it trains."""
    scene = make(60 / 3600 * 2, **SLOW)
    scene.submit("one", time_limit="00:01:00")
    scene.cluster.advance(300)
    assert held(scene) <= 120 + 2
    scene.go(30)
    assert scene.state() == "held"
    assert "GPU-hours more than is available (limit 0.03333)" in scene.run()["reason"]
    assert "lvjobs budget set --gpu-hours HOURS" in scene.run()["reason"]
    assert scene.run()["held_for"] == "budget"
    spent, reserved, _ = scene.hours()
    assert reserved == 0
    assert spent <= 120 + 2
    assert scene.worker.executed["one"] >= 50, "it used what was reserved"

    scene.bind(limit=10**17, gpu_hours=1)
    scene.go(600)
    assert scene.state() == "completed", "it goes on by itself once the limit is raised"
    assert scene.spent()["useful"] == 400
    assert scene.spent().get("replayed", 0) <= 20


def test_a_reservation_is_renewed_while_the_run_trains_if_hours_are_free(make):
    scene = make(1, **SLOW)
    scene.submit("one", time_limit="00:05:00")
    scene.go(600)
    assert scene.state() == "completed"
    assert scene.causes().count("cancelled") == 0, "its worker never had to stop for it"
    assert any("its reservation was renewed" in row["text"] for row in scene.rows("events"))


def test_a_reservation_is_not_renewed_again_and_again(make):
    """Once when its pace is known, and once for the start-up of a second job, after the time limit of the first."""
    scene = make(1, **SLOW)
    scene.submit("one", time_limit="00:05:00")
    scene.go(600)
    assert sum("was renewed" in row["text"] for row in scene.rows("events")) <= 2


def test_without_renewal_a_run_that_used_up_its_hours_waits_for_the_user(make):
    scene = make(1, renew=False, **SLOW)
    scene.submit("one", time_limit="00:01:00")
    scene.cluster.advance(300)
    scene.go(60)
    assert scene.state() == "held"
    assert scene.run()["held_for"] == "replays"
    assert "GPU-hours used up its reservation" in scene.run()["reason"]
    scene.resume_runs("one", time_limit="00:10:00")
    scene.go(600)
    assert scene.state() == "completed"


def test_slurm_requeues_again_and_again_while_nobody_looks(make):
    """Each execution takes 30 steps and loses up to 20: the worker counts what all of them held."""
    scene = make(RUN / HOUR, **SLOW)
    scene.submit("one", time_limit="00:02:00")
    scene.bind(limit=10**17, gpu_hours=0.07)  # so that nothing can be renewed
    for _ in range(12):
        for _ in range(200):
            scene.cluster.advance(1)
            if scene.alive() and scene.job().state == "RUNNING" and scene.job().step > 30:
                break
        if not scene.alive():
            break
        scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(300)
    assert held(scene) <= 2 * 120 + 2 * 60
    scene.go(60)
    assert scene.state() in ("held", "completed")
    assert scene.hours()[0] == pytest.approx(held(scene), abs=4)


def test_a_worker_that_knows_no_gpu_hours_is_stopped_by_a_pass(make):
    scene = make(60 / 3600 * 2, **SLOW)
    scene.worker.ignores_time = True
    scene.submit("one", time_limit="00:01:00")
    scene.go(240, every=10)
    assert scene.state() == "held"
    assert held(scene) <= 120 + 2 * 60 + 2 * 30, "a minute of its GPUs and the time between passes"


# -- limits that change ---------------------------------------------------------------------------------------------


def test_a_lower_limit_takes_back_what_waits_and_lets_go_on_what_trains(make):
    scene = make(8, slots=1, steps=100, every=10)
    for name in ("one", "two", "three"):
        scene.submit(name)
    scene.reach(10)
    scene.bind(limit=10**17, gpu_hours=2.5)
    scene.make_pass()
    states = [scene.state(name) for name in ("one", "two", "three")]
    assert states[0] == "running"
    assert "held" in states[1:]
    assert scene.hours()[2] >= 0
    scene.bind(limit=10**17, gpu_hours=8)
    scene.go(600)
    assert [scene.state(name) for name in ("one", "two", "three")] == ["completed"] * 3


def test_a_study_that_gets_a_limit_later_reserves_for_what_trains_already(make):
    scene = make(None, steps=200, every=10)
    scene.submit("one")
    scene.reach(20)
    assert scene.hours()[:2] == (0, 0)
    scene.bind(limit=10**17, gpu_hours=10)
    scene.make_pass()
    spent, reserved, _ = scene.hours()
    assert spent > 0
    assert reserved > 0
    scene.go(300)
    assert scene.state() == "completed"
    assert scene.causes() == ["completed"]


def test_a_limit_that_is_too_low_for_what_trains_already_holds_it_at_a_checkpoint(make):
    scene = make(None, steps=400, every=10)
    scene.submit("one")
    scene.reach(20)
    scene.bind(limit=10**17, gpu_hours=0.02)
    scene.go(60)
    assert scene.state() == "held"
    assert scene.alive() == []


def test_the_limit_may_be_removed(make):
    scene = make(2, steps=200, every=10)
    scene.submit("one")
    scene.reach(20)
    scene.bind(limit=10**17)
    scene.go(300)
    assert scene.state() == "completed"
    with scene.session() as session:
        assert session.make_pass()["budget"]["gpu_hours"] is None


def test_changes_of_the_limit_are_recorded(make):
    scene = make(2)
    scene.submit("one")
    for hours in (3, 2.5, None, 4):
        scene.bind(limit=10**17, gpu_hours=hours)
        scene.make_pass()
    told = [row["text"] for row in scene.rows("events") if row["kind"] == "budget"]
    assert [text.partition(":")[0] for text in told] == [
        "the limit was raised from 2 to 3 GPU-hours",
        "the limit was lowered from 3 to 2.5 GPU-hours",
        "the limit of GPU-hours was removed",
        "the limit of GPU-hours was set to 4",
    ]
    with scene.session() as session:
        assert session.ledger.call(Transaction.setting, "gpu_hours") == "4.0"


def test_the_statement_adds_up(make):
    scene = make(10)
    scene.submit("one", "two")
    scene.go(60)
    scene.submit("three")
    with scene.session() as session:
        hours = session.make_pass()["budget"]["gpu_hours"]
    assert hours["limit"] == 10
    assert hours["spent"] + hours["reserved"] + hours["free"] == pytest.approx(10, abs=1e-5)
    assert hours["spent"] == pytest.approx(held(scene) / HOUR, abs=0.002)


# -- what workers are told ------------------------------------------------------------------------------------------


def test_a_lost_file_of_a_submission_is_written_again_with_its_hours(make):
    scene = make(60 / 3600 * 2, **SLOW)
    scene.submit("one", time_limit="00:01:00")
    path = scene.study.layout.submission(scene.job().request.token)
    path.unlink()
    scene.one_pass()
    assert '"allow_gpu_seconds": {"one": [120, 2.0, 0, 1]}' in path.read_text()
    scene.cluster.advance(300)
    assert held(scene) <= 122


def test_a_resubmitted_run_is_told_what_it_held_before_by_accounting(make):
    scene = make(3, **SLOW)
    scene.submit("one", time_limit="00:10:00")
    scene.reach(50)
    before = scene.job()
    revoke(scene.study, [])
    scene.cluster.kill(before.id)
    scene.go(90)
    text = scene.study.layout.submission(scene.job().request.token).read_text()
    line = next(line for line in text.splitlines() if "allow_gpu_seconds" in line)
    seconds, gpus, spent, since = limit_of(line)
    assert (gpus, since) == (2.0, 2)
    assert spent == pytest.approx(2 * 51, abs=4)
    assert seconds > spent


def limit_of(line):
    return json.loads(line)["allow_gpu_seconds"]["one"]


def test_a_raise_needs_a_reason(make):
    scene = make(2)
    with scene.session() as session:
        with pytest.raises(limit.UsageError, match="3 GPU-hours is more than the limit of 2"):
            limit.change_limits(scene.study, session.ledger, {"gpu_hours": 3.0}, {"gpu_hours": "3"}, "", 1.0)
        limit.change_limits(scene.study, session.ledger, {"gpu_hours": 3.0}, {"gpu_hours": "3"}, "more came", 1.0)
    assert "gpu_hours = 3" in scene.study.layout.config.read_text()
