"""Verdicts of Optuna's pruners on what cells report; and rungs, which have to fall on checkpoints and validations."""

import math

import pytest

from lvjobs.errors import UsageError
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Prune, Stage
from lvjobs.sweep.pruning import RungValue, best, check_rungs, dearest, new_reports, pruned, rungs, value_at
from lvjobs.sweep.selection import Outcome

ASHA = Prune(first=10, factor=3)
MEDIAN = Prune(kind="median", first=10)


def verdicts(values, rule=ASHA, steps=100, mode="min"):
    """`values` are run, step, value, in the order in which they came."""
    reports = [RungValue(*each) for each in values]
    found = pruned(reports, dict.fromkeys((each[0] for each in values), steps), rule, mode)
    return {run_id: report.step for run_id, report in found.items()}


@pytest.mark.parametrize(
    ("rule", "steps", "expected"),
    [
        (ASHA, 100, [10, 30, 90]),
        (ASHA, 90, [10, 30]),
        (ASHA, 10, []),
        (MEDIAN, 40, [10, 20, 30]),
        (Prune(first=7, factor=2), 30, [7, 14, 28]),
    ],
)
def test_rungs(rule, steps, expected):
    assert rungs(rule, steps) == expected


def test_of_nine_that_come_one_by_one_about_a_third_go_on():
    found = verdicts([(f"r{i}", 10, loss) for i, loss in enumerate([5, 4, 6, 3, 7, 8, 2, 9, 1])])
    assert set(found) == {"r2", "r4", "r5", "r7"}, "the best so far always goes on"
    assert set(found.values()) == {10}


def test_one_that_came_too_early_goes_on_once_worse_ones_have_come():
    values = [("a", 10, 1.0), ("b", 10, 2.0), *((f"w{i}", 10, 9.0 + i) for i in range(4))]
    assert "b" in verdicts(values[:5]), "second of five, and one in three goes on"
    assert "b" not in verdicts(values), "second of six"
    assert "b" not in verdicts([*values, ("a", 30, 1.0), ("b", 30, 0.5)]), "and is compared at the next rung"
    assert "a" not in verdicts([*values, ("a", 30, 1.0), ("b", 30, 0.5)]), "where the other was alone when it came"
    assert "b" in verdicts([*values, ("a", 30, 1.0), ("b", 30, 1.5)])


def test_what_is_no_number_is_taken_up_by_no_other():
    values = [("b", 10, math.nan), *((f"w{i}", 10, 9.0 + i) for i in range(9))]
    assert "b" in verdicts(values)


def test_it_is_the_median_that_looks_once():
    done = [("a", 10, 1.0), ("a", 100, 0.5), ("b", 10, 2.0)]
    worse = [each for i in range(5) for each in ((f"w{i}", 10, 9.0), (f"w{i}", 100, 9.0))]
    assert "b" in verdicts([*done, *worse], MEDIAN)


def test_a_run_that_is_not_stopped_yet_is_stopped_by_no_later_report_of_another():
    values = [(f"r{i}", 10, (i * 7) % 9) for i in range(9)] + [("r0", 30, 1.0), ("r4", 30, 2.0)]
    whole = verdicts(values)
    for length in range(1, len(values)):
        known = {each[0] for each in values[:length]}
        assert (whole.keys() & known) - {"r4"} <= verdicts(values[:length]).keys()


def test_what_is_pruned_is_compared_with_no_more():
    first = [("a", 10, 1.0), ("b", 10, 2.0)]
    assert verdicts([*first, ("b", 30, 0.0), ("a", 30, 1.0)]) == {"b": 10}


def test_more_may_be_better():
    assert verdicts([("a", 10, 1.0), ("b", 10, 2.0), ("c", 10, 0.5)], mode="max") == {"c": 10}


@pytest.mark.parametrize("rule", [ASHA, MEDIAN], ids=["ASHA", "median"])
def test_what_is_no_number_is_pruned(rule):
    assert "b" in verdicts([("a", 10, 1.0), ("a", 100, 1.0), ("b", 10, math.nan), ("c", 10, 0.1)], rule)
    assert "c" not in verdicts([("a", 10, 1.0), ("a", 100, math.nan), ("b", 10, math.nan), ("c", 10, 0.1)], rule)


def test_the_median_of_what_completed_runs_had():
    done = [("a", 10, 1.0), ("b", 10, 3.0), ("a", 100, 0.5), ("b", 100, 0.6)]
    assert verdicts([*done, ("c", 10, 1.9), ("d", 10, 2.1)], MEDIAN) == {"d": 10}
    assert verdicts([("c", 10, 1.9), ("d", 10, 99.0)], MEDIAN) == {}, "nothing to compare with yet"


def test_new_reports_come_rung_by_rung_and_once():
    curves = {"a": {10: 1.0, 20: 0.9, 30: 0.8, 100: 0.1}, "b": {10: 2.0, 30: 1.5}}
    steps = {"a": 100, "b": 100}
    first = new_reports(curves, steps, [RungValue("a", 10, 1.0)], ASHA)
    assert first == [
        RungValue("b", 10, 2.0),
        RungValue("a", 30, 0.8),
        RungValue("b", 30, 1.5),
        RungValue("a", 100, 0.1),
    ]
    assert new_reports(curves, steps, [RungValue("a", 10, 1.0), *first], ASHA) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"checkpoint_every": 4}, "checkpoint_every = 4"), ({"validate_every": 20}, "validate_every = 20")],
)
def test_rungs_that_fit_no_checkpoint_or_validation_are_refused(changes, word):
    stage = Stage(name="s", prune=ASHA)
    good = {"task": "m:f", "steps": 100, "checkpoint_every": 5, "validate_every": 10}
    check_rungs(stage, [RunConfig(**good)])
    with pytest.raises(UsageError, match=word):
        check_rungs(stage, [RunConfig(**good), RunConfig(**{**good, **changes})])


def test_only_what_trains_is_pruned():
    with pytest.raises(ValueError, match="evaluates, and prune"):
        Stage(name="s", zero_shot=["raw"], prune=ASHA)


def test_what_one_reached_before_it_was_taken_up_counts_at_its_own_step():
    """Else nothing at the rungs that it passed meanwhile would be compared with it."""
    reports = [RungValue("a", 20, 0.1), RungValue("x", 20, 0.2), RungValue("x", 60, 0.3)]
    reports += [RungValue(name, 20, 0.9) for name in "cdef"]
    reports += [RungValue("x", 180, 0.05), RungValue("y", 20, 0.15), RungValue("y", 60, 0.4)]
    found = pruned(reports, dict.fromkeys("axcdefy", 540), Prune(first=20, factor=3), "min")
    assert set(found) == set("cdefy"), "x was better than y at step 60"


CURVE = {0: 9.0, 20: 5.0, 30: 4.0, 40: 3.0, 50: 1.0, 60: 0.0}


@pytest.mark.parametrize(("rung", "value"), [(40, 4.0), (60, 2.0), (20, 5.0), (50, 8 / 3), (45, None)])
def test_at_a_rung_the_mean_from_half_of_the_way_on_is_compared(rung, value):
    assert value_at(rung, CURVE) == (value if value is None else pytest.approx(value))


def test_a_value_that_is_no_number_is_in_the_mean():
    assert math.isnan(value_at(40, CURVE | {30: math.nan}))
    assert value_at(40, CURVE | {50: math.nan}) == 4.0


def cell(candidate, value, seed=0):
    return Outcome(f"{candidate}-{seed}", "", candidate, "done", value)


def test_the_best_candidates_go_on_with_all_their_seeds():
    cells = [cell("a", 3.0, 0), cell("a", 5.0, 1), cell("b", 1.0, 0), cell("b", 6.0, 1), cell("c", 4.0, 0)]
    assert best(cells, 1, "min") == {"b-0", "b-1"}, "3.5, of 4, 3.5 and 4"
    assert best(cells, 2, "min") == {"a-0", "a-1", "b-0", "b-1"}, "of equal ones the first declared"
    assert best(cells, 1, "max") == {"a-0", "a-1"}
    broken = [*cells, cell("d", math.nan), cell("e", -1.0, 0), cell("e", None, 1)]
    assert best(broken, 9, "min") == {each.run_id for each in cells}


def test_the_dearest_runs_are_counted_as_those_that_go_on():
    rule = Prune(rule="halving", at=["1/4", "1/2"], keep=[2, 1])
    rates = [1, 5, 3]

    def price(place, stop_at):
        return rates[place] * (stop_at or 40) + (0 if stop_at else 7)

    assert dearest(rule, [40] * 3, price, seeds=1) == 9 * 10 + (5 + 3) * 10 + 5 * 20 + 7
    assert dearest(rule, [40] * 3, price, seeds=2) == 9 * 10 + 9 * 10 + (5 + 3) * 20 + 14
    assert dearest(Prune(rule="halving", at=["1/4"], keep=[9]), [40] * 3, price, seeds=1) == 9 * 40 + 21


def halved(keep, at=("2/9",)):
    rule = Prune(rule="halving", at=list(at), keep=keep)
    return Stage(name="s", grid={"lora_rank": [2, 4, 8]}, prune=rule)


def three(**more):
    return [
        RunConfig(
            task="a:b", steps=90, checkpoint_every=10, validate_every=10, seed=seed, params={"rank": rank}, **more
        )
        for rank in (2, 4, 8)
        for seed in (0, 1)
    ]


def test_halving_that_stops_no_run_is_refused():
    check_rungs(halved([2]), three())
    with pytest.raises(UsageError, match=r"stage s has 3 candidates, and prune.keep = \[3\]: no run would stop"):
        check_rungs(halved([3]), three())
    check_rungs(halved([3]), three()[:1])  # a candidate by itself has nothing to be compared with


def test_a_rung_without_a_checkpoint_has_its_neighbours_named():
    with pytest.raises(UsageError, match=r'choose prune.at = "2/9" \(step 20\) or "1/3" \(step 30\), or'):
        check_rungs(halved([2], ["1/4"]), three())
    with pytest.raises(UsageError, match=r'choose prune.at = "1/9" \(step 10\), or checkpoint_every = 4'):
        check_rungs(halved([2], ["1/20"]), three())
