"""One curve of a metric, whatever died on the way."""

import json
import math

import pytest

from lvjobs.records.curves import curves, value_at
from lvjobs.study.stages import Select
from lvjobs.sweep.selection import Outcome, rank


def journal(*lines):
    return b"".join(json.dumps({"time": 0.0, **line}).encode() + b"\n" for line in lines)


def test_what_was_lost_and_done_again_is_there_once():
    first = journal(
        {"kind": "start", "resumed_from": None},
        {"kind": "validation", "step": 4, "loss": 0.9},
        {"kind": "validation", "step": 8, "loss": 0.1},
    )
    second = journal(
        {"kind": "start", "resumed_from": "000001-00000004"}, {"kind": "validation", "step": 8, "loss": 0.7}
    )
    found = curves([first, second])
    assert found.of("validation_loss") == {4: 0.9, 8: 0.7}
    assert found.resumed == [4]


def test_names_of_metrics():
    found = curves(
        [
            journal(
                {"kind": "step", "step": 1, "loss": 3.0, "tokens": 7},
                {"kind": "validation", "step": 1, "loss_numeric": 2.0, "accuracy": 0.5, "label": "x"},
            )
        ]
    )
    assert found.of("training_loss") == {1: 3.0}
    assert found.of("validation_loss") == {1: 2.0}, "the numeric head's, where that is what was trained"
    assert found.of("accuracy") == {1: 0.5}
    assert found.of("tokens") == {1: 7.0}
    assert found.of("label") == found.of("nothing") == {}


@pytest.mark.parametrize(("metric", "winner"), [("validation_loss", "one"), ("validation_mae", "other")])
def test_a_stage_by_its_forecasts_may_have_another_winner_than_by_loss(metric, winner):
    found = {
        "one": journal({"kind": "validation", "step": 9, "loss": 0.1, "mae": 0.5}),
        "other": journal({"kind": "validation", "step": 9, "loss": 0.2, "mae": 0.3}),
    }
    rule = Select(metric=metric)
    values = {name: value_at(curves([each]).of(rule.metric), rule.at, rule.mode) for name, each in found.items()}
    ranking = rank([Outcome(name, name, name, "done", value) for name, value in values.items()], rule)
    assert ranking.winner.name == winner
    assert ranking.why.startswith(f"lowest {metric} at the end")


@pytest.mark.parametrize(
    ("at", "mode", "value"), [("last", "min", 5.0), ("best", "min", 1.0), ("best", "max", 5.0), (2, "min", 1.0)]
)
def test_where_a_rule_looks(at, mode, value):
    assert value_at({1: 3.0, 2: 1.0, 3: 5.0}, at, mode) == value


def test_where_there_is_nothing():
    assert value_at({}, "last", "min") is value_at({}, "best", "min") is value_at({1: 1.0}, 2, "min") is None
    assert value_at({1: math.nan, 2: 4.0}, "best", "min") == 4.0
    assert math.isnan(value_at({1: math.nan}, "best", "min"))
    assert math.isnan(value_at({1: 1.0, 2: math.nan}, "last", "min"))
