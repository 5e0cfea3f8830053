"""Runs by enough of their names."""

import pytest

from lvjobs.errors import UsageError
from lvjobs.study.run_names import find_name

NAMES = ["base-r4-s0-14e5", "eval-base-r4-s0-14e5-99c2", "stage1-r4-s0-7fab", "stage1-r8-s0-3704"]


@pytest.mark.parametrize("typed", ["base-r4-s0-14e5", "14e5", "s0-14e5", "base", "base-r4"])
def test_the_beginning_or_the_end_of_a_name_will_do(typed):
    assert find_name(typed, NAMES) == "base-r4-s0-14e5"


def test_what_may_be_several_is_none():
    with pytest.raises(UsageError, match=r"matches 2 runs: stage1-r4-s0-7fab, stage1-r8-s0-3704"):
        find_name("stage1", NAMES)


@pytest.mark.parametrize("typed", ["e5", "r4", "stage", "base-r", ""])
def test_no_part_of_a_word_will(typed):
    with pytest.raises(UsageError, match="no run"):
        find_name(typed, NAMES)


def test_a_slip_is_understood_and_not_obeyed():
    with pytest.raises(UsageError, match="did you mean stage1-r8-s0-3704"):
        find_name("stage1-r8-s0-3705", NAMES)


def test_a_whole_name_is_meant_also_where_another_begins_with_it():
    assert find_name("one", ["one", "one-more"]) == "one"
