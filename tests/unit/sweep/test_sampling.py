"""The proposals of Optuna's samplers from a history: the same for ever, and other things when other things were learned."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvjobs.study.stages import Stage
from lvjobs.sweep.request import Request
from lvjobs.sweep.sampling import SearchRecord, Trial, TrialOutcome, propose, room, verdict
from lvjobs.sweep.selection import Outcome

STAGE = Stage(
    name="s",
    space={
        "learning_rate": {"low": 1e-5, "high": "1e-3", "log": True},
        "lora_rank": [2, 4, 8],
        "context_length": {"low": 64, "high": 512, "step": 64},
        "batch_size": {"low": 1, "high": 4},
        "lora_dropout": {"low": 0, "high": 0.3, "step": 0.1},
    },
    search={"trials": 24, "startup": 4},
)
SPACE, TPE = STAGE.space, STAGE.search
RANDOM = TPE.model_copy(update={"sampler": "random"})


def points(trials, count=1, search=TPE, mode="min"):
    return propose(SPACE, search, mode, trials, count)


def done(value):
    return TrialOutcome("done", value)


def searched(goal, number=24, mode="min"):
    """A search of a rate, whose every trial is known before the next is proposed."""
    trials = []
    for _ in range(number):
        (point,) = points(trials, mode=mode)
        trials.append(Trial(point, done(goal(point))))
    return [trial.point for trial in trials]


@pytest.mark.parametrize("search", [TPE, RANDOM], ids=["tpe", "random"])
def test_points_are_of_the_space_and_short_to_write(search):
    found = points([], 24, search)
    for point in found:
        assert list(point) == list(SPACE)
        assert 1e-5 <= point["learning_rate"] <= 1e-3
        assert len(f"{point['learning_rate']:g}") <= len("1.234e-05")
        assert float(f"{point['learning_rate']:g}") == point["learning_rate"]
        assert point["lora_rank"] in (2, 4, 8)
        assert point["context_length"] in range(64, 513, 64)
        assert {type(point[key]) for key in ("lora_rank", "context_length", "batch_size")} == {int}
        assert point["lora_dropout"] in (0.0, 0.1, 0.2, 0.3)
    assert len({point["learning_rate"] for point in found}) == 24
    assert min(point["learning_rate"] for point in found) < 3e-5, "each order of magnitude has its share"


def test_a_narrow_range_keeps_its_digits():
    stage = Stage(name="s", space={"weight_decay": {"low": 0.99991, "high": 0.99999}}, search={"trials": 9})
    found = {point["weight_decay"] for point in propose(stage.space, stage.search, "min", [], 9)}
    assert len(found) == 9
    assert all(0.99991 <= value <= 0.99999 for value in found)


def test_another_seed_is_another_search():
    again = TPE.model_copy(update={"seed": 1})
    assert points([], 3) == points([], 3)
    assert points([], 3) != points([], 3, again)


def test_what_is_learned_decides_what_tpe_proposes():
    low = searched(lambda point: abs(math.log10(point["learning_rate"]) + 5))
    high = searched(lambda point: abs(math.log10(point["learning_rate"]) + 3))
    assert low[:4] == high[:4], "nothing is known yet"

    def mean(found):
        return sum(math.log10(point["learning_rate"]) for point in found[14:]) / 10

    assert mean(low) < -4.3 < -3.7 < mean(high)
    upside_down = searched(lambda point: -abs(math.log10(point["learning_rate"]) + 5), mode="max")
    assert upside_down == low


def test_random_learns_nothing():
    known = [Trial(point, done(1.0)) for point in points([], 5, RANDOM)]
    unknown = [Trial(trial.point) for trial in known]
    assert points(known, 4, RANDOM) == points(unknown, 4, RANDOM) == points([], 9, RANDOM)[5:]


@pytest.mark.parametrize("bad", [TrialOutcome("diverged"), TrialOutcome("pruned", 9.0, 5)], ids=lambda each: each.kind)
def test_where_trials_diverge_or_are_pruned_less_is_tried(bad):
    def rates(verdict_):
        trials = []
        for _ in range(24):
            (point,) = points(trials)
            too_high = point["learning_rate"] > 1e-4
            trials.append(Trial(point, verdict_ if too_high else done(1.0)))
        return sum(trial.point["learning_rate"] > 1e-4 for trial in trials[8:])

    assert rates(bad) < rates(TrialOutcome("left_out")), "of what was left out nothing is learned"


def test_open_trials_keep_others_from_their_places():
    known = [Trial(point, done(number)) for number, point in enumerate(points([], 8))]
    found = points(known, 4)

    def after(verdict_):
        return points([*known, *(Trial(point, verdict_) for point in found)], 4)

    assert after(None) != after(TrialOutcome("left_out")), "nothing is known of either, but these are being tried"
    assert after(None) != after(done(-1.0))


outcomes = st.sampled_from(
    [done(0.5), done(1.5), TrialOutcome("pruned", 2.0, 4), TrialOutcome("diverged"), TrialOutcome("left_out")]
)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 3), st.tuples(st.integers(0, 30), outcomes)), min_size=4, max_size=12))
def test_a_history_gives_the_same_proposals_wherever_it_was_cut(story):
    """A number: so many are proposed at once. A pair: one of the open trials ends so."""
    history = SearchRecord("s")
    for event in story:
        if isinstance(event, int):
            history = history.proposed(points(history.trials, event))
        else:
            open_ = [number for number, trial in enumerate(history.trials) if trial.verdict is None]
            if open_:
                history = history.told({open_[event[0] % len(open_)]: event[1]})
    kept = json.dumps(history.entries)
    again = SearchRecord("s", entries=json.loads(kept))
    assert again.trials == history.trials
    for place, entry in enumerate(again.entries):
        if "point" in entry:
            before = SearchRecord("s", entries=again.entries[:place])
            assert points(before.trials) == [entry["point"]]


@pytest.mark.parametrize(
    ("search", "verdicts", "waits", "expected"),
    [
        (TPE, [], [], 4),
        (RANDOM, [], [], 24),
        (RANDOM.model_copy(update={"parallel": 3}), [], [], 3),
        (TPE, [None, done(1.0), None], [], 2),
        (TPE, [None] * 4, [], 0),
        (TPE, [None] * 4, [0, 2], 2),
        (TPE, [done(1.0)] * 22, [], 2),
        (TPE, [done(1.0)] * 24, [], 0),
        (TPE, [done(1.0)] * 30, [], 0),
    ],
)
def test_room(search, verdicts, waits, expected):
    assert room(search, [Trial({}, each) for each in verdicts], waits) == expected


def outcome(standing, value=None, name="r"):
    return Outcome(name, name, "c", standing, value)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([outcome("done", 1.0)], done(1.0)),
        ([outcome("done", 1.0), outcome("done", 2.0)], done(1.5)),
        ([outcome("done", 1.0), outcome("done", math.nan)], TrialOutcome("diverged")),
        ([outcome("done", -math.inf)], TrialOutcome("diverged")),
        ([outcome("done")], TrialOutcome("left_out")),
        ([outcome("done", 1.0), outcome("cancelled")], TrialOutcome("left_out")),
        ([outcome("pruned", name="p"), outcome("done", 1.0)], TrialOutcome("pruned", 0.7, 8)),
        ([outcome("pruned", name="p"), outcome("pruned", name="q")], TrialOutcome("pruned", 0.9, 4)),
        ([outcome("pruned", name="nan")], TrialOutcome("diverged")),
        ([outcome("pruned", name="unheard of")], TrialOutcome("left_out")),
    ],
)
def test_verdicts(cells, expected):
    assert verdict(cells, {"p": (8, 0.7), "q": (4, 0.9), "nan": (4, math.nan)}) == expected


@pytest.mark.parametrize(("trials", "startup", "expected"), [(24, None, 8), (60, None, 10), (1, None, 1), (24, 3, 3)])
def test_how_many_are_drawn_at_random_first(trials, startup, expected):
    assert TPE.model_copy(update={"trials": trials, "startup": startup}).first == expected


REQUEST = Request(train={"data": "/d.h5"})


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"search": {"trials": 99, "startup": 4, "parallel": 2}}, True),
        ({"on_hold": "skip", "prune": {"first": 250}}, True),
        ({"search": {"trials": 24, "startup": 4, "seed": 1}}, False),
        ({"search": {"trials": 24, "startup": 4, "sampler": "random"}}, False),
        ({"space": {"lora_rank": [2, 4]}}, False),
        ({"set": {"weight_decay": 0.1}}, False),
        ({"steps": 7}, False),
        ({"seeds": [1, 2]}, False),
        ({"select": {"metric": "training_loss"}}, False),
    ],
)
def test_which_searches_may_go_on_with_what_another_learned(changes, is_same):
    def identity(stage):
        return REQUEST.search_identity(stage, [stage])

    other = Stage.model_validate({**STAGE.model_dump(by_alias=True), **changes})
    assert (identity(other) == identity(STAGE)) == is_same


def test_what_is_typed_is_not_searched():
    typed = REQUEST.model_copy(update={"typed": {"lora_rank": 16}})
    assert list(typed.space(STAGE)) == [key for key in SPACE if key != "lora_rank"]
    assert typed.search_identity(STAGE, [STAGE]) != REQUEST.search_identity(STAGE, [STAGE])
    (config,) = typed.configs(STAGE, [STAGE], None, points([], 1))
    assert config.params["lora_rank"] == 16
