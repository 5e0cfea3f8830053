"""GPU-hours, goodput, ETTR and the interval between checkpoints: worked examples, and what holds of any history."""

import json
import math
from dataclasses import replace

import pytest
from control_builders import NOW, a_run, an_attempt, efficiency_of
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.control.budget.efficiency import Share
from lvjobs.control.budget.intervals import advise, duration, lost_steps, measure, overhead, percent
from lvjobs.study.words import Cause, LeaveCause, RunState

HOUR = 3600.0
CONFIG = {"steps": 1000, "checkpoint_every": 250}


def a_lab_run(**changes):
    return a_run(**{"config": CONFIG, "created": NOW - 2 * HOUR, "resources": {"gpus": 2}} | changes)


def an_execution(number=1, steps=0, resumed=0, *, step_seconds=0.5, **changes):
    """An attempt that took so many steps from `resumed` on; it began an hour ago, in an execution of its own."""
    of_steps = {
        "resumed_from": resumed,
        "resumed_generation": number - 1 if resumed else 0,
        "step": resumed + steps,
        "executed": steps,
        "train_seconds": steps * step_seconds,
    }
    times = {"started": NOW - HOUR, "restart_count": number - 1}
    return an_attempt(number, **of_steps | times | changes)


def ended(number=1, steps=0, resumed=0, **changes):
    """The same, ended, with accounting's word on it: half an hour on two GPUs."""
    told = {"allocated_seconds": HOUR / 2, "gpus": 2, "ended": NOW - HOUR / 2, "cause": Cause.KILLED}
    return an_execution(number, steps, resumed, **told | changes)


def of(*attempts, run=None, **more):
    run = run or a_lab_run()
    return efficiency_of([run], {run.id: attempts}, NOW, **more)


# -- worked examples -------------------------------------------------------------------------------------------------


def test_a_killed_run_that_went_on():
    """420 steps of .5 s, 170 of them lost; then 750 steps; each in half an hour on two GPUs, two hours after creation."""
    attempts = [
        ended(1, 420, validation_seconds=30.0, checkpoint_seconds=5.0, checkpoints=1),
        ended(2, 750, 250, validation_seconds=90.0),
    ]
    share = of(*attempts).total
    assert (share.runs, share.attempts, share.estimated) == (1, 2, 0)
    assert share.allocated == HOUR
    assert share.allocated_gpu == 2 * HOUR
    assert share.used_gpu == 2 * (1170 * 0.5 + 120)
    assert share.useful == 1000 * 0.5
    assert share.goodput == 500 / HOUR
    assert share.ettr == 500 / (2 * HOUR)


def test_json_has_hours_and_adds_up():
    told = of(ended(1, 1000)).to_dict()
    assert told["by_stage"]["train"] == {key: told[key] for key in told["by_stage"]["train"]}
    assert {key: told[key] for key in ("allocated_gpu_hours", "allocated_hours", "used_gpu_hours", "useful_hours")} == {
        "allocated_gpu_hours": 1.0,
        "allocated_hours": 0.5,
        "used_gpu_hours": round(1000 / HOUR, 6),
        "useful_hours": round(500 / HOUR, 6),
    }
    assert (told["goodput"], told["ettr"], told["wall_hours"]) == (round(500 / 1800, 6), round(500 / 7200, 6), 2.0)
    json.dumps(told, allow_nan=False)


def test_a_useful_step_counts_with_the_mean_time_of_its_own_attempt():
    attempts = [ended(1, 300, step_seconds=1.0, cause=Cause.PREEMPTED), ended(2, 100, 200, step_seconds=0.1)]
    assert of(*attempts).total.useful == pytest.approx(200 * 1.0 + 100 * 0.1)


def test_before_anything_ran():
    share = of(run=a_lab_run(created=NOW)).total
    assert (share.runs, share.attempts, share.goodput, share.ettr) == (1, 0, None, None)
    assert of(run=a_lab_run()).total.ettr == 0.0
    assert efficiency_of([], {}, NOW).to_dict()["goodput"] is None


def test_stages_are_told_apart_and_add_up():
    runs = [a_lab_run(id=name, name=name, stage=stage) for name, stage in (("a", "one"), ("b", "two"), ("c", "two"))]
    attempts = {name: [ended(1, steps)] for name, steps in (("a", 100), ("b", 200), ("c", 300))}
    whole = efficiency_of(runs, attempts, NOW)
    assert {stage: (share.runs, share.useful) for stage, share in whole.by_stage.items()} == {
        "one": (1, 50.0),
        "two": (2, 250.0),
    }
    assert (whole.total.runs, whole.total.useful) == (3, 300.0)


# -- what accounting does not tell ------------------------------------------------------------------------------------


def test_an_attempt_that_runs_is_estimated():
    share = of(an_execution(1, 10)).total
    assert (share.attempts, share.estimated) == (1, 1)
    assert (share.allocated, share.allocated_gpu) == (HOUR, 2 * HOUR)


@pytest.mark.parametrize("gpus", [None, 2])
def test_an_attempt_that_ended_without_accounting_is_estimated(gpus):
    share = of(ended(1, 10, allocated_seconds=None, gpus=gpus)).total
    assert (share.estimated, share.allocated, share.allocated_gpu) == (1, HOUR / 2, HOUR)


def test_an_end_that_was_noticed_late_is_not_later_than_the_time_limit():
    run = a_lab_run(resources={"gpus": 1, "time_limit_minutes": 10})
    assert of(an_execution(), run=run).total.allocated == 600.0


def test_no_execution_is_shorter_than_what_it_did():
    """Two clocks may differ; and an orphan goes on after its end."""
    attempt = ended(1, 100, started=NOW, validation_seconds=3.0, checkpoint_seconds=2.0, allocated_seconds=None)
    assert of(attempt).total.allocated == 55.0
    assert of(an_execution(started=NOW + 5)).total.allocated == 0.0


@pytest.mark.parametrize(
    ("resources", "profile", "told", "expected", "estimated"),
    [
        ({"gpus": 4}, "lab", 2, 2, 0),  # accounting's word
        ({"gpus": 4}, "lab", 0, 4, 1),  # no such job starts without GPUs: nobody counts them here
        ({"gpus": 4}, "lab", None, 4, 1),
        ({"gpus": 4, "nodes": 2}, "lab", None, 8, 1),
        ({"gpus": 4, "nodes": 2}, "lab", 8, 8, 0),
        ({}, "lab", 3, 3, 0),
        ({}, "lab", None, 5, 1),  # the profile's default
        ({}, "lab", 0, 5, 1),
        ({"gpus": 0}, "lab", 0, 0, 0),
        ({}, "other", 0, 0, 0),
        ({"gpus": 4}, "local", 0, 0, 0),  # which has none to give
        ({"gpus": 4}, "local", None, 0, 1),
    ],
)
def test_gpus(resources, profile, told, expected, estimated):
    run = a_lab_run(resources=resources, profile=profile)
    share = of(ended(1, 10, gpus=told), run=run, profile_gpus={"lab": 5}).total
    assert (share.allocated_gpu, share.used_gpu) == (expected * HOUR / 2, expected * 5.0)
    assert share.estimated == estimated


def test_an_execution_that_never_began_held_nothing_and_that_is_known():
    share = of(ended(1, generation=None, allocated_seconds=0.0, gpus=None)).total
    assert (share.attempts, share.estimated, share.allocated, share.goodput) == (1, 0, 0.0, None)


def test_an_execution_that_claimed_nothing_held_something():
    share = of(ended(1, generation=None), ended(2, 1000)).total
    assert (share.attempts, share.allocated, share.useful) == (2, HOUR, 500.0)


@pytest.mark.parametrize("second", [{"generation": None}, {}])
def test_a_launch_that_failed_and_what_came_of_it_are_one_execution(second):
    failed = ended(1, generation=None, cause=Cause.LAUNCH_FAILED)
    share = of(failed, ended(2, 10, restart_count=0, allocated_seconds=60.0, **second)).total
    assert (share.attempts, share.allocated) == (1, 60.0)


def test_the_same_count_under_another_token_is_another_execution():
    assert of(ended(1), ended(2, restart_count=0, token="b" * 12)).total.attempts == 2


# -- wall-clock time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.HELD, RunState.RUNNING])
def test_an_open_run_ages(state):
    assert of(ended(1, 10), run=a_lab_run(state=state)).total.wall == 2 * HOUR


def test_a_run_that_is_over_does_not_age():
    over = a_lab_run(state=RunState.COMPLETED)
    assert of(ended(1, 10), ended(2, 10, ended=NOW - 600), run=over).total.wall == 1.5 * HOUR
    assert of(ended(1, 10, allocated_seconds=None), run=over).total.wall == 1.5 * HOUR


def test_an_end_that_a_pass_noticed_late_was_when_accounting_says():
    over = a_lab_run(state=RunState.COMPLETED)
    assert of(ended(1, 10, ended=NOW), run=over).total.wall == 1.5 * HOUR


def test_a_claim_comes_a_while_after_the_allocation_began():
    over = a_lab_run(state=RunState.COMPLETED)
    assert of(ended(1, 10, allocated_seconds=HOUR / 2 + 30), run=over).total.wall == 1.5 * HOUR


def test_a_run_that_was_cancelled_before_it_began_has_no_age():
    assert of(run=a_lab_run(state=RunState.CANCELLED)).total.wall == 0.0


def test_clocks_that_disagree_give_no_negative_age():
    assert of(run=a_lab_run(created=NOW + 5)).total.wall == 0.0
    assert of(ended(1), run=a_lab_run(created=NOW + 5, state=RunState.COMPLETED)).total.wall == 0.0


def test_an_attempt_on_its_way_out_of_a_cancelled_run_is_still_there():
    assert of(an_execution(1), run=a_lab_run(state=RunState.CANCELLED)).total.wall == 2 * HOUR


# -- what holds of any history ----------------------------------------------------------------------------------------


@st.composite
def histories(draw):
    """A run as it could have been: attempts one after the other, none of which did more than there was time for.

    Each in a job that as many runs shared as trained there side by side.
    """
    created, clock, reached = NOW, NOW, 0
    at_once = draw(st.integers(1, 3))
    attempts = []
    for number in range(1, draw(st.integers(0, 6)) + 1):
        clock += draw(st.floats(0, 1e5))
        claims = draw(st.booleans())
        steps = draw(st.integers(0, 1000 - reached)) if claims else 0
        train, other, idle = steps * draw(st.floats(1e-3, 100)), draw(st.floats(0, 1e4)), draw(st.floats(0, 1e4))
        held = train + 3 * other + idle
        resumed = reached
        reached = draw(st.integers(resumed, resumed + steps))
        attempts.append(
            ended(
                number,
                steps,
                resumed,
                train_seconds=train,
                validation_seconds=other,
                checkpoint_seconds=other,
                checkpoints=draw(st.integers(0, 5)),
                checkpoint_step=reached,
                started=clock,
                ended=clock + held,
                generation=number if claims else None,
                allocated_seconds=draw(st.sampled_from([held / at_once, None])),
                sharing=at_once,
                gpus=draw(st.sampled_from([0, 2, None])),
                cause=draw(st.sampled_from([Cause.KILLED, Cause.PREEMPTED, Cause.NODE_FAIL])),
                leave_cause=draw(st.sampled_from([LeaveCause.NONE, LeaveCause.PREEMPTED])),
            )
        )
        clock += held
    state = draw(st.sampled_from([RunState.INTERRUPTED, RunState.COMPLETED, RunState.HELD]))
    resources = {"gpus": 2, "pack": at_once, "side_by_side": at_once}
    return a_lab_run(created=created, state=state, resources=resources), attempts, clock + draw(st.floats(0, 1e5))


def within_one(ratio):
    return ratio is None or 0.0 <= ratio <= 1.0 + 1e-9


def test_three_side_by_side_for_an_hour_on_three_gpus():
    run = a_lab_run(resources={"gpus": 3, "pack": 3, "side_by_side": 3})
    one = ended(steps=1000, step_seconds=3.6, checkpoint_step=1000, allocated_seconds=HOUR / 3, gpus=3, sharing=3)
    share = of(one, run=run).total
    assert (share.allocated, share.useful, share.goodput) == (HOUR, HOUR, 1)
    assert share.allocated_gpu == share.used_gpu == HOUR, "one of three, for an hour"
    untold = of(replace(one, allocated_seconds=None, started=NOW - HOUR, ended=NOW), run=run).total
    assert (untold.allocated, untold.allocated_gpu) == (HOUR, HOUR)


def test_one_after_another_in_a_job_each_has_the_hours_that_it_took():
    run = a_lab_run(resources={"gpus": 3, "pack": 3})
    one = ended(steps=1000, step_seconds=3.6, checkpoint_step=1000, allocated_seconds=HOUR, gpus=3, sharing=3)
    share = of(one, run=run).total
    assert (share.allocated, share.useful, share.allocated_gpu, share.used_gpu) == (HOUR, HOUR, 3 * HOUR, 3 * HOUR)


@given(histories())
def test_ratios_are_ratios(history):
    run, attempts, now = history
    share = efficiency_of([run], {run.id: attempts}, now).total
    assert within_one(share.goodput)
    assert within_one(share.ettr)
    assert 0.0 <= share.useful <= share.allocated + 1e-6 <= share.wall + 2e-6
    assert 0 <= share.used_gpu <= share.allocated_gpu + 1e-6
    assert 0 <= share.estimated <= share.attempts == len(attempts)


@given(st.lists(histories(), max_size=4), st.lists(st.sampled_from(["one", "two"]), min_size=4, max_size=4))
def test_the_study_is_the_sum_of_its_stages_and_json_takes_it(several, stages):
    runs, attempts = [], {}
    for index, ((run, its, _), stage) in enumerate(zip(several, stages, strict=False)):
        runs.append(a_lab_run(id=str(index), name=str(index), stage=stage, created=run.created, state=run.state))
        attempts[str(index)] = its
    now = max((now for _, _, now in several), default=NOW)
    whole = efficiency_of(runs, attempts, now)
    alone = [efficiency_of([run], attempts, now).total for run in runs]
    for name in vars(Share()):
        expected = pytest.approx(sum(getattr(share, name) for share in alone))
        assert getattr(whole.total, name) == expected
        assert sum(getattr(share, name) for share in whole.by_stage.values()) == expected
    json.dumps(whole.to_dict(), allow_nan=False)


# -- the interval between checkpoints ---------------------------------------------------------------------------------


def dead(number=1, steps=300, **changes):
    """It died with 50 steps in no checkpoint, after one of 2 s."""
    base = {"checkpoint_step": steps - 50, "checkpoints": 1, "checkpoint_seconds": 2.0}
    return ended(number, steps, **base | changes)


def advice(*attempts, run=None):
    run = run or a_lab_run()
    [item] = advise(measure([run], {run.id: attempts}))
    return item


def test_the_young_daly_interval():
    """Two deaths in 304 s of execution: M 152 s, delta 2 s: tau is sqrt(608) = 24.66 s, or 49 steps of .5 s."""
    item = advice(dead(1), dead(2))
    assert (item.stage, item.profile, item.checkpoint_every, item.deaths) == ("train", "lab", 250, 2)
    assert (item.checkpoint, item.step, item.between_deaths) == (2.0, 0.5, 152.0)
    assert item.interval == pytest.approx(24.658, abs=1e-3)
    assert item.steps == 49
    assert item.cost == pytest.approx(2 / 125 + 125 / 304)
    assert item.least_cost == pytest.approx(2 / 24.5 + 24.5 / 304)
    assert item.words == (
        "every 250 steps costs 42.7 % of the time, every 49 would cost 16.2 % "
        "(by 2 failures that lost steps, one per 3 min of execution)"
    )
    told = item.to_dict()
    assert (told["checkpoint_seconds"], told["between_deaths_seconds"], told["steps"]) == (2.0, 152.0, 49)
    assert set(told) >= {"step_seconds", "interval_seconds", "cost", "least_cost", "words", "checkpoint_every"}


def test_validations_are_time_in_which_nothing_died():
    assert advice(dead(validation_seconds=100.0)).between_deaths == 150 + 100 + 2


def test_an_interval_is_no_longer_than_a_run_and_no_shorter_than_a_step():
    long = advice(ended(1, 900, checkpoint_step=250, checkpoints=1, checkpoint_seconds=900.0, step_seconds=1e-3))
    assert long.steps == 1000
    short = advice(dead(step_seconds=1e4, checkpoint_seconds=1e-3))
    assert short.steps == 1


def test_the_interval_in_force_is_no_longer_than_the_run():
    assert advice(dead(), run=a_lab_run(config={"steps": 400, "checkpoint_every": 1000})).checkpoint_every == 400


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"cause": Cause.NODE_FAIL}, True),
        ({"cause": Cause.PREEMPTED, "signal": "SIGTERM"}, True),  # warned too late: it wrote no last word
        ({"cause": Cause.HUNG}, True),
        ({"cause": None, "ended": None}, False),  # it runs
        ({"cause": Cause.PREEMPTED, "leave_cause": LeaveCause.PREEMPTED}, False),
        ({"cause": Cause.CODE_ERROR, "error": "ValueError: x"}, False),
        ({"cause": Cause.COMPLETED, "finished": True}, False),
        ({"cause": Cause.COMPLETED}, False),
        ({"cause": Cause.CANCELLED}, False),
        ({"generation": None, "cause": Cause.LAUNCH_FAILED}, False),
        ({"checkpoint_step": 300}, False),  # nothing was lost
        ({"checkpoint_step": 300, "cause": Cause.NODE_FAIL}, True),  # what was lost never reached the journal
    ],
)
def test_deaths_that_count(changes, counts):
    assert lost_steps(a_lab_run(), dead(**changes)) == counts
    item = advice(dead(1, leave_cause=LeaveCause.PREEMPTED), dead(2, **changes))
    assert item.deaths == counts
    assert (item.steps is not None) == counts


def test_without_a_death_there_is_nothing_to_base_advice_on():
    item = advice(ended(1, 300, checkpoints=1, checkpoint_seconds=2.0, leave_cause=LeaveCause.PREEMPTED))
    assert (item.steps, item.cost, item.between_deaths, item.checkpoint) == (None, None, None, 2.0)
    assert "no failure has cost a step in 3 min" in item.words
    assert "no advice yet" in item.words


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"checkpoints": 0, "checkpoint_seconds": 0.0, "checkpoint_step": 0}, "no checkpoint"),
        ({"checkpoint_seconds": 0.0}, "no checkpoint"),
        ({"executed": 0, "train_seconds": 0.0}, "no step"),
        ({"train_seconds": 0.0}, "no step"),
    ],
)
def test_what_was_not_measured_is_not_made_up(changes, missing):
    item = advice(dead(**changes))
    assert f"{missing} has been measured" in item.words
    assert (item.steps, item.cost) == (None, None)


def test_nothing_is_said_of_what_was_never_attempted():
    run = a_lab_run()
    assert advise(measure([run], {})) == []


def test_deaths_are_the_clusters_and_costs_are_the_stages():
    runs = [
        a_lab_run(id="a", stage="one"),
        a_lab_run(id="b", stage="two", config={"steps": 1000, "checkpoint_every": 100}),
        a_lab_run(id="c", stage="two", profile="elsewhere"),
    ]
    attempts = {
        "a": [dead(1)],
        "b": [ended(1, 100, step_seconds=3.0, checkpoints=2, checkpoint_seconds=8.0, leave_cause=LeaveCause.PREEMPTED)],
        "c": [ended(1, 100, checkpoints=1, checkpoint_seconds=9.0, leave_cause=LeaveCause.PREEMPTED)],
    }
    one, two, elsewhere = advise(measure(runs, attempts))
    assert (one.stage, one.checkpoint_every, one.step, one.checkpoint) == ("one", 250, 0.5, 2.0)
    assert (two.stage, two.checkpoint_every, two.step, two.checkpoint) == ("two", 100, 3.0, 4.0)
    assert one.between_deaths == two.between_deaths == 152 + 308
    assert (one.deaths, two.deaths, elsewhere.deaths) == (1, 1, 0)
    assert (elsewhere.profile, elsewhere.interval) == ("elsewhere", None)


def test_runs_of_one_step_have_no_choice():
    run = a_lab_run(config={**CONFIG, "steps": 1})
    assert advise(measure([run], {run.id: [dead(1, 1, checkpoint_step=0)]})) == []


def test_runs_of_one_kind_share_their_advice():
    runs = [a_lab_run(id=name) for name in "ab"]
    [item] = advise(measure(runs, {"a": [dead(1)], "b": [dead(1)]}))
    assert (item.deaths, item.between_deaths) == (2, 152.0)


def test_an_interval_that_is_as_good_is_not_called_better():
    same = advice(dead(1), dead(2), run=a_lab_run(config={"steps": 1000, "checkpoint_every": 49}))
    assert "no other interval costs less" in same.words
    near = advice(dead(1), dead(2), run=a_lab_run(config={"steps": 1000, "checkpoint_every": 50}))
    assert near.steps == 49
    assert "every 49 would cost no less" in near.words
    assert "one failure that lost steps" in advice(dead()).words


@given(
    every=st.integers(1, 2000),
    steps=st.integers(1, 1000),
    seconds=st.floats(1e-3, 1e3),
    delta=st.floats(1e-3, 1e4),
    deaths=st.integers(1, 5),
)
def test_no_whole_number_of_steps_is_expected_to_cost_less(every, steps, seconds, delta, deaths):
    run = a_lab_run(config={"steps": 1000, "checkpoint_every": every})
    attempts = [
        ended(number, steps, step_seconds=seconds, checkpoints=1, checkpoint_seconds=delta, cause=Cause.LOST)
        for number in range(1, deaths + 1)
    ]
    item = advice(*attempts, run=run)
    if steps == 1000:  # it ended with its last step: nothing was lost
        assert item.steps is None or item.deaths
        return
    assert 1 <= item.steps <= 1000
    for other in {1, item.steps - 1, item.steps + 1, item.checkpoint_every, 1000} & set(range(1, 1001)):
        cost = overhead(other * item.step, item.checkpoint, item.between_deaths)
        assert item.least_cost <= cost * (1 + 1e-9)
    assert item.interval == pytest.approx(math.sqrt(2 * item.checkpoint * item.between_deaths))
    assert percent(item.cost) in item.words


def test_words_for_shares_and_times():
    assert [percent(share) for share in (0.0064, 0.0999, 0.123, 1.5)] == ["0.64 %", "9.99 %", "12.3 %", "150.0 %"]
    assert [duration(seconds) for seconds in (0, 45, 60, 720, 3600, 19000)] == [
        "0 s",
        "45 s",
        "1 min",
        "12 min",
        "1.0 h",
        "5.3 h",
    ]
