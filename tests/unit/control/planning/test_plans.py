"""Plans that fit: the cause is named rightly, every plan is within what is free, and none is smaller than it must be."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lvjobs.control.planning.plans import Demand, FlopNeed, judge, peak

EVERY = 250


def a_demand(name="a", steps=1000, runs=1, rate=1, *, is_new=True, every=EVERY):
    """Runs whose step costs `rate`, and that may have to do one interval again."""
    return Demand(name, runs, steps, every, lambda n: FlopNeed(runs * rate * n, runs * rate * every), is_new)


BASE, SWEEP, FINAL = a_demand("base", 5000), a_demand("sweep", 500, runs=9), a_demand("final", 10_000, rate=2)
STUDY = [BASE, SWEEP, FINAL]
"""5,000 + 4,500 + 20,000 of work; intervals of 250, 2,250 and 500."""


def steps(plan):
    return {part["name"]: part["steps"] for part in plan["stages"]}


def whole(verdict):
    """The plan that keeps every stage."""
    return next((plan for plan in verdict["plans"] if not plan["left_out"]), None)


def reduced(verdict):
    """The plan that leaves a stage out."""
    return next((plan for plan in verdict["plans"] if plan["left_out"]), None)


def test_a_stage_that_continues_another_is_not_cut_to_steps_that_are_trained_already():
    parent, child = a_demand("first", 500), a_demand("more", 2000)
    child = replace(child, start=500, price=lambda steps: FlopNeed(max(0, steps - 500), EVERY))
    assert steps(whole(judge([parent, child], 500 + 250 + 250))) == {"first": 500, "more": 750}
    assert whole(judge([parent, child], 500 + 249 + 250)) is None


def test_intervals_are_given_back_when_a_stage_is_done():
    assert peak([FlopNeed(100, 50), FlopNeed(10, 1)]) == 150
    assert peak([FlopNeed(100, 50), FlopNeed(60, 1)]) == 161
    assert peak([]) == 0
    assert peak(demand.need for demand in STUDY) == 5000 + 4500 + 20_000 + 500


def test_what_fits_needs_no_plan():
    assert judge(STUDY, 30_000) == {
        "needed": 30_000,
        "fits": True,
        "spare": 0,
        "cause": None,
        "plans": [],
    }


def test_the_cause_is_the_stage_without_which_the_rest_fits():
    verdict = judge(STUDY, 15_000)
    assert verdict["cause"]["stage"] == "final"
    assert verdict["cause"]["remedies"] == ["final"]
    assert verdict["cause"]["rest_needs"] == 5000 + 4500 + 2250
    assert verdict["cause"]["needs"] == 20_500


def test_one_plan_with_every_stage_and_one_without_the_first_single_run():
    verdict = judge(STUDY, 15_000)
    assert steps(whole(verdict)) == {"base": 5000, "sweep": 500, "final": 2500}
    assert (whole(verdict)["needed"], whole(verdict)["spare"]) == (9500 + 5000 + 500, 0)
    assert steps(reduced(verdict)) == {"sweep": 500, "final": 5000}
    assert (reduced(verdict)["left_out"], reduced(verdict)["needed"]) == (["base"], 4500 + 10_000 + 500)


def test_one_flop_less_and_the_plan_is_an_interval_shorter():
    verdict = judge(STUDY, 14_999)
    assert steps(whole(verdict))["final"] == 2250
    assert whole(verdict)["spare"] == 499
    assert steps(reduced(verdict))["final"] == 4750


def test_the_sums_are_told_stage_by_stage():
    plan = judge(STUDY, 15_000)["plans"][0]
    assert plan["stages"][2] == {
        "name": "final",
        "runs": 1,
        "steps": 2500,
        "asked_steps": 10_000,
        "work": 5000,
        "replay": 500,
    }
    assert plan["work"] == sum(part["work"] for part in plan["stages"]) == 14_500


def test_the_first_single_run_that_is_not_the_cause_is_left_out():
    other = a_demand("other", 600)
    assert judge([SWEEP, FINAL, other, BASE], 15_000)["cause"]["single"] == "other"
    alone = judge([SWEEP, FINAL], 15_000)
    assert reduced(alone) is None
    assert alone["cause"]["single"] == ""
    assert steps(whole(alone))["final"] == 5000


def test_without_the_single_run_nothing_may_have_to_be_cut():
    verdict = judge([BASE, SWEEP, a_demand("final", 2000)], 10_000)
    assert steps(reduced(verdict)) == {"sweep": 500, "final": 2000}


def test_any_one_of_several_may_be_too_much():
    stages = [a_demand("a", 1000), a_demand("b", 2000), a_demand("c", 1500)]
    verdict = judge(stages, 4000)
    assert verdict["cause"]["remedies"] == ["a", "b", "c"]
    assert verdict["cause"]["stage"] == "b"


def test_the_largest_is_not_the_cause_where_the_rest_does_not_fit_without_it():
    """An interval is large while it is set aside, and then it is free again."""
    work, interval, last = (
        replace(a_demand(name), price=lambda _n, need=need: need)
        for name, need in (("work", FlopNeed(50, 0)), ("interval", FlopNeed(10, 45)), ("last", FlopNeed(20, 0)))
    )
    verdict = judge([work, interval, last], 60)
    assert verdict["needed"] == 105
    assert verdict["cause"]["remedies"] == ["work"]
    assert verdict["cause"]["stage"] == "work"


def test_no_one_stage_is_the_cause():
    stages = [a_demand("a", 1000, runs=2), a_demand("b", 2000, runs=2), a_demand("c", 1500, runs=2)]
    verdict = judge(stages, 3000)
    assert verdict["cause"]["remedies"] == []
    assert verdict["cause"]["stage"] == "b"
    assert (whole(verdict), reduced(verdict)) == (None, None)


def test_where_one_interval_does_not_fit_there_is_no_plan():
    least = 9500 + 500 + 500
    assert whole(judge([BASE, SWEEP, FINAL], 11_750)) is not None  # the sweep needs all of it while it runs
    assert whole(judge([BASE, SWEEP, FINAL], 11_749)) is None
    stages = [BASE, a_demand("sweep", 500, runs=9, rate=1, every=1), FINAL]
    assert steps(whole(judge(stages, least)))["final"] == 250
    assert whole(judge(stages, least - 1)) is None
    assert judge([FINAL, SWEEP], -1)["plans"] == []


def test_stages_that_have_begun_are_neither_cut_nor_left_out():
    begun = [a_demand("base", 5000, is_new=False), SWEEP, a_demand("final", 10_000, rate=2, is_new=False)]
    verdict = judge(begun, 28_000)
    assert verdict["cause"]["stage"] == "sweep"
    assert reduced(verdict) is None
    assert judge([a_demand(is_new=False), a_demand("b", is_new=False)], 1)["cause"] is None
    kept = judge([a_demand("base", 5000, is_new=False), a_demand("x", 300), FINAL], 15_000)
    assert kept["cause"]["single"] == "x"


def test_a_stage_alone_has_no_plan():
    assert judge([FINAL], 1000) == {
        "needed": 20_500,
        "fits": False,
        "spare": -19_500,
        "cause": None,
        "plans": [],
    }


@given(
    demands=st.lists(
        st.builds(
            a_demand,
            steps=st.integers(1, 3000),
            runs=st.integers(1, 4),
            rate=st.integers(1, 5),
            is_new=st.booleans(),
            every=st.sampled_from([100, 250]),
        ),
        min_size=1,
        max_size=5,
    ),
    share=st.floats(0, 1.2),
)
def test_whatever_is_planned_fits_and_nothing_larger_does(demands, share):
    free = int(share * peak(demand.need for demand in demands))
    demands = [replace(demand, name=str(number)) for number, demand in enumerate(demands)]
    verdict = judge(demands, free)
    assert (verdict["needed"] <= free) == verdict["fits"]
    for plan in verdict["plans"]:
        assert verdict["needed"] > free
        needs = {part["name"]: FlopNeed(part["work"], part["replay"]) for part in plan["stages"]}
        assert peak(needs.values()) == plan["needed"] == free - plan["spare"] <= free
        cut = [part for part in plan["stages"] if part["steps"] < part["asked_steps"]]
        assert len(cut) <= 1
        for part in cut:
            cause = demands[int(part["name"])]
            assert verdict["cause"]["stage"] == cause.name
            assert part["steps"] % cause.interval == 0
            more = {**needs, cause.name: cause.price(part["steps"] + cause.interval)}
            assert part["steps"] + cause.interval >= part["asked_steps"] or peak(more.values()) > free
