"""The winner of a stage: runs that compare, runs that do not, and equal ones."""

import math

import pytest

from lvjobs.study.stages import Select
from lvjobs.sweep.selection import Outcome, rank, waits_for

LOWEST = Select()


def an_outcome(name, value=0.5, standing="done", candidate=None, flops=100):
    return Outcome(name, name, candidate or name, standing, value, flops)


def names(candidates):
    return [candidate.name for candidate in candidates]


def test_the_lowest_wins_and_the_next_is_told():
    ranking = rank([an_outcome("a", 0.3), an_outcome("b", 0.1), an_outcome("c", 0.2)], LOWEST)
    assert names(ranking.ranked) == ["b", "c", "a"]
    assert ranking.winner.name == "b"
    assert ranking.why == "lowest validation_loss at the end: 0.1; next c with 0.2"


def test_the_highest_wins_where_more_is_better():
    rule = Select(metric="accuracy", mode="max", at="best")
    ranking = rank([an_outcome("a", 0.3), an_outcome("b", 0.1)], rule)
    assert ranking.winner.name == "a"
    assert ranking.why.startswith("highest accuracy at its best: 0.3")


def test_of_many_that_are_left_out_for_one_reason_the_number_is_told():
    pruned = [an_outcome(f"p{number}", None, "pruned") for number in range(4)]
    ranking = rank([an_outcome("a", 0.3), an_outcome("b", 0.1), an_outcome("n", math.nan), *pruned], LOWEST)
    assert ranking.why.endswith("; left out: n (validation_loss is no number (nan)), 4 (pruned)")
    few = rank([an_outcome("a", 0.3), an_outcome("b", 0.1), *pruned[:3]], LOWEST)
    assert few.why.endswith("; left out: p0 (pruned), p1 (pruned), p2 (pruned)")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_can_not_win(value):
    ranking = rank([an_outcome("a", value), an_outcome("b", 0.9)], LOWEST)
    assert ranking.winner.name == "b"
    assert "a (validation_loss is no number" in ranking.why


def test_what_is_missing_can_not_win():
    ranking = rank([an_outcome("a", None), an_outcome("b", 0.9)], Select(at=500))
    assert ranking.winner.name == "b"
    assert "a (no validation_loss at step 500)" in ranking.why


def test_of_equal_ones_the_cheapest_wins_then_the_first():
    dear, cheap = an_outcome("dear", 0.1, flops=200), an_outcome("cheap", 0.1, flops=100)
    ranking = rank([dear, cheap], LOWEST)
    assert ranking.winner.name == "cheap"
    assert ranking.why == "lowest validation_loss at the end: 0.1, tied with dear; the cheapest wins"
    assert rank([dear, cheap], Select(ties="first")).winner.name == "dear"
    same = rank([an_outcome("x", 0.1), an_outcome("y", 0.1), an_outcome("z", 0.2)], LOWEST)
    assert same.winner.name == "x"
    assert same.why == "lowest validation_loss at the end: 0.1, tied with y; the first declared wins"


def test_nobody_wins_where_nothing_compares():
    ranking = rank([an_outcome("a", math.nan), an_outcome("b", standing="cancelled")], LOWEST)
    assert (ranking.winner, ranking.why) == (None, "")
    assert [each.why for each in ranking.others] == ["validation_loss is no number (nan)", "cancelled"]


def test_seeds_are_one_candidate_with_their_mean():
    cells = [an_outcome(f"a{n}", value, candidate="a") for n, value in enumerate((0.1, 0.3))]
    cells += [an_outcome(f"b{n}", value, candidate="b") for n, value in enumerate((0.19, 0.19))]
    ranking = rank(cells, LOWEST)
    assert names(ranking.ranked) == ["b0", "a0"]
    assert ranking.ranked[1].value == pytest.approx(0.2)
    assert ranking.ranked[1].error == pytest.approx(0.1)
    assert "mean of 2 runs" in ranking.why


def test_a_candidate_with_a_seed_missing_does_not_compare():
    cells = [an_outcome("a0", 0.1, candidate="a"), an_outcome("a1", None, "held", candidate="a"), an_outcome("b", 0.5)]
    ranking = rank(cells, LOWEST)
    assert ranking.winner.name == "b"
    assert "a0 (held of a1)" in ranking.why


def test_a_stage_waits_for_what_is_open_or_held():
    done, open_, held, cancelled = (an_outcome(word, standing=word) for word in ("done", "open", "held", "cancelled"))
    assert waits_for([done, open_, held, cancelled], "wait", None) == [open_, held]
    assert waits_for([done, open_, held], "skip", None) == [open_]
    assert waits_for([done, held, cancelled], "skip", 2) == [held], "no quorum yet"
    assert waits_for([held, cancelled], "skip", None) == [held], "at least one has to be done"


def test_an_only_candidate_needs_no_value_but_a_number_where_it_has_one():
    ranking = rank([an_outcome("a", None)], LOWEST)
    assert (ranking.winner.name, ranking.why) == ("a", "the stage's only candidate")
    assert rank([an_outcome("a", 0.3)], LOWEST).why == "the stage's only candidate"
    assert rank([an_outcome("a", math.nan)], LOWEST).winner is None
    assert rank([an_outcome("a", None, "cancelled")], LOWEST).winner is None
