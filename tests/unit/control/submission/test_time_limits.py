"""Time limits from measured step times."""

from dataclasses import replace

import pytest
from control_builders import NOW, a_job, a_member, a_run, a_view, an_attempt
from control_scenes import Scene, make_haste
from simulator.engine import Manners

from lvjobs.control.budget.pace import Pace, Stopwatch, samples_of
from lvjobs.control.reconcile.actions import Extend, SetRun
from lvjobs.control.reconcile.decide import decide
from lvjobs.control.submission import time_limits
from lvjobs.control.submission.send import same_job
from lvjobs.control.submission.time_limits import Bounds, TimeLimit, after_a_timeout, shared, time_limit
from lvjobs.study.tables import Policy
from lvjobs.study.words import Cause, LeaveCause, RunState

BOUNDS = Bounds(most=720, lead=180)
CONFIG = {"steps": 1000, "checkpoint_every": 250, "validate_every": 250}
PACE = Pace(step=2.0, window=0.5, checkpoint=3.0, source="measured", start_up=60.0)


def automatic(**resources):
    return a_run(config=CONFIG, resources={"time_limit": "auto", **resources})


def test_what_is_left_times_a_margin_and_the_start():
    limit = time_limit(automatic(), 0, PACE, BOUNDS)
    assert limit.minutes == -(-(60 + 1.5 * (1000 * 2 + 4 * 3)) // 60) == 52
    assert limit.words == "34 min left x 1.5, 1 min to start; measured"
    assert time_limit(automatic(), 500, PACE, BOUNDS).minutes == -(-(60 + 1.5 * (500 * 2 + 2 * 3)) // 60) == 27


def test_a_run_that_stops_at_a_rung_asks_for_the_way_to_it():
    limit = time_limit(replace(automatic(), stop_at=500), 0, PACE, BOUNDS)
    assert limit.minutes == -(-(60 + 1.5 * (500 * 2 + 2 * 3)) // 60) == 27


def test_never_under_what_one_checkpoint_interval_and_leaving_need():
    limit = time_limit(automatic(), 990, PACE, BOUNDS)
    assert limit.minutes == -(-(60 + 1.5 * (250 * 2 + 3) + 180) // 60) == 17
    assert "one checkpoint interval" in limit.words


def test_never_over_what_there_is():
    limit = time_limit(automatic(), 0, PACE, Bounds(most=30))
    assert limit.minutes == 30
    assert limit.words.endswith("but no more than 30 min")


def test_where_nothing_was_measured_it_is_the_longest_there_is():
    assert time_limit(automatic(), 0, None, BOUNDS).minutes == 720
    assert time_limit(automatic(), 0, None, Bounds()).minutes is None


def test_what_is_scaled_from_another_gets_a_larger_margin():
    scaled = replace(PACE, source="scaled", of="one", start_up=None)
    limit = time_limit(automatic(), 0, scaled, BOUNDS)
    assert limit.minutes == -(-(300 + 3 * 2012) // 60)
    assert limit.words == "34 min left x 3, 5 min to start; scaled from one"


def test_what_was_too_short_is_doubled_until_there_is_no_more():
    run = replace(automatic(time_limit_minutes=52, time_limit_most=720), cause=Cause.TIMEOUT)
    assert time_limit(run, 0, PACE, BOUNDS).minutes == 104
    assert time_limit(replace(run, cause=Cause.KILLED), 0, PACE, BOUNDS).minutes == 52
    minutes = 1
    for _ in range(12):
        minutes = time_limit(automatic_after(minutes), 990, PACE, BOUNDS).minutes
    assert minutes == 720
    assert [after_a_timeout(automatic_after(last)) for last in (1, 100, 400, 720)] == [2, 200, 720, None]
    assert after_a_timeout(a_run(resources={"time_limit_minutes": 5})) is None, "it was asked for"


def automatic_after(minutes):
    return replace(automatic(time_limit_minutes=minutes, time_limit_most=720), cause=Cause.TIMEOUT)


def test_members_of_an_array_share_the_longest():
    two = [automatic(), replace(automatic(), id="r2")]
    assert shared(two, {"r1": TimeLimit(5, "a"), "r2": TimeLimit(9, "b")}, BOUNDS).words == "b"
    assert shared(two, {"r1": TimeLimit(5, "a"), "r2": TimeLimit(None, "b")}, BOUNDS).minutes is None


@pytest.mark.parametrize(("side_by_side", "minutes"), [(1, 16), (2, 9), (3, 9)])
def test_runs_that_share_a_job_ask_for_what_they_take_together(side_by_side, minutes):
    packed = {"pack": 3, "side_by_side": side_by_side}
    three = [replace(automatic(**packed), id=name) for name in "abc"]
    limits = {"a": TimeLimit(5, "a"), "b": TimeLimit(9, "b"), "c": TimeLimit(2, "c")}
    assert shared(three, limits, BOUNDS).minutes == minutes
    assert shared(three, limits, BOUNDS).words == f"3 runs share the job, {side_by_side} at a time; the longest: b"
    assert shared(three, limits, Bounds(most=8)).minutes == 8
    assert shared(three[:1], limits, BOUNDS).minutes == 5


def test_the_limit_of_a_job_that_was_shared_says_nothing_about_one_run():
    late = {"time_limit_minutes": 500}
    alone = replace(automatic(**late), cause=Cause.TIMEOUT)
    assert time_limit(alone, 0, PACE, Bounds()).minutes == 1000
    shared_before = replace(automatic(**late, pack=9), cause=Cause.TIMEOUT)
    assert time_limit(shared_before, 0, PACE, Bounds()).minutes == 52


def test_start_up_is_not_read_off_a_job_that_was_shared():
    run = a_run(config=CONFIG)
    took = an_attempt(executed=10, train_seconds=20.0, allocated_seconds=90.0)
    assert Stopwatch(samples_of([run], [took])).pace(run).start_up == 70.0
    assert Stopwatch(samples_of([run], [replace(took, sharing=3)])).pace(run).start_up is None


def test_start_up_is_the_longest_seen():
    run = a_run()
    attempts = [
        an_attempt(1, executed=10, train_seconds=20.0, allocated_seconds=50.0),
        an_attempt(2, executed=10, train_seconds=20.0, checkpoint_seconds=5.0, allocated_seconds=95.0),
        an_attempt(3, executed=10, train_seconds=20.0),
    ]
    assert Stopwatch(samples_of([run], attempts)).pace(run).start_up == 70.0
    assert Stopwatch(samples_of([run], attempts[2:])).pace(run).start_up is None


# -- a job that was ended by its limit, and put itself back in the queue ---------------------------------------------


def requeued(run):
    job = a_job("PENDING", reason="BeginTime", restart_count=1)
    attempt = an_attempt(leave_cause=LeaveCause.TIMEOUT, leave_action="requeue", checkpoint_step=250)
    actions = decide(a_view(run, [attempt], a_member(job)), Policy(), NOW)
    return [action for action in actions if isinstance(action, (Extend, SetRun))]


def test_it_is_given_twice_as_much_while_it_waits():
    run = automatic(time_limit_minutes=52, time_limit_most=720)
    extend, judged = requeued(run)[:2]
    assert extend == Extend("17", "r1", "slurm", 104)
    assert judged.resources == {"time_limit_minutes": 104}
    assert (judged.state, judged.cause) == (RunState.INTERRUPTED, Cause.TIMEOUT)
    assert "with 104 min" in judged.note


def test_a_limit_that_was_asked_for_stays():
    assert not any(isinstance(action, Extend) for action in requeued(a_run(resources={"time_limit_minutes": 52})))


# -- a study on a simulated cluster ----------------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    monkeypatch.setattr(
        time_limits, "defaults_of", lambda _profile: {"time_limit_minutes": 60, "signal_lead_seconds": 30}
    )
    return lambda **more: Scene(tmp_path, **more)


def asked(scene, name="one"):
    return scene.job(name).request.resources


def test_the_first_of_its_kind_asks_for_the_profiles_limit_and_the_next_for_less(make):
    scene = make(steps=120, every=40)
    scene.enter("one", time_limit="auto")
    assert asked(scene)["time_limit_minutes"] == 60
    assert "time_limit" not in asked(scene), "the profile knows no such variable"
    scene.go(150)
    assert scene.state() == "completed"
    with scene.session() as session, session.ledger.transaction() as transaction:
        attempt = transaction.attempts()[0]
        transaction.save_attempts([replace(attempt, train_seconds=120.0, allocated_seconds=150.0)])
    sent = scene.enter("two", "three", time_limit="auto")
    assert len(sent.runs) == 2
    # scaled: of a task of one's own nobody knows which of its parameters matter
    assert asked(scene, "two")["time_limit_minutes"] == -(-(30 + 3 * 120) // 60) == 7
    assert scene.run("two")["resources"] == ('{"time_limit": "auto", "time_limit_minutes": 7, "time_limit_most": 60}')


def test_no_more_than_the_site_allows(make):
    scene = make(manners=Manners(max_minutes=45))
    scene.enter("one", time_limit="auto")
    assert asked(scene)["time_limit_minutes"] == 45


def test_runs_with_other_limits_before_are_one_array_again():
    one, two = automatic(time_limit_minutes=7, time_limit_most=60), automatic(time_limit_minutes=9, time_limit_most=60)
    assert same_job(one) == same_job(two) == same_job(automatic())
    assert same_job(a_run(resources={"time_limit_minutes": 7})) != same_job(a_run(resources={"time_limit_minutes": 9}))


def test_it_never_loops(make):
    """A limit under what one interval takes: each job that it ends makes the next twice as long."""
    scene = make(steps=400, every=200, no_progress_deaths=10)
    scene.enter("one", time_limit="auto")
    scene.job().request = replace(scene.job().request, resources={"time_limit_minutes": 1})
    with scene.session() as session, session.ledger.transaction() as transaction:
        run = transaction.runs()[0]
        transaction.update_run(run.id, resources={**run.resources, "time_limit_minutes": 1})
    scene.go(1600, every=20)
    assert scene.state() == "completed"
    assert set(scene.causes()[:-1]) == {"timeout"}
    assert len(scene.causes()) <= 4
