"""A curve in a handful of means: small whatever it is of, and the same however it came."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.records.sketch import MOST, Sketch

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


def points(values, first=1):
    return list(enumerate(values, first))


@given(VALUES)
def test_it_is_small_and_has_the_mean_of_all(values):
    sketch = Sketch().with_points(points(values))
    assert len(sketch.values) <= MOST
    counts = [count for _, count in sketch.means.values()]
    assert sum(counts) == len(values)
    total = sum(mean * count for mean, count in sketch.means.values())
    assert total == pytest.approx(sum(values), abs=1e-3)


@given(VALUES, st.integers(0, 200))
def test_it_is_the_same_in_one_reading_or_in_two(values, cut):
    whole, parts = Sketch().with_points(points(values)), Sketch()
    parts = parts.with_points(points(values)[:cut]).with_points(points(values)[cut:])
    assert parts == whole


@given(VALUES, st.integers(1, 150))
def test_what_was_lost_is_there_once(values, kept):
    """An attempt that died, and the one that did its lost steps again."""
    kept = min(kept, len(values))
    first, second = Sketch().with_points(points(values)), Sketch().with_points(points(values[kept:], kept + 1))
    joined = first.until(kept).joined(second)
    assert len(joined.values) <= MOST
    beyond = sum(count for _, count in joined.means.values()) - len(values)
    assert 0 <= beyond < max(first.width, 2)  # of the stretch in which the checkpoint lies


@given(VALUES)
def test_joined_with_nothing_it_stays_what_it_is(values):
    sketch = Sketch().with_points(points(values))
    assert Sketch().joined(sketch) == sketch.joined(Sketch()) == sketch


def test_a_line_falls():
    values = Sketch().with_points((step, 1000.0 - step) for step in range(1, 1001)).values
    assert values == sorted(values, reverse=True)
    assert len(values) > MOST // 2


def test_a_value_that_is_no_number_is_passed_over():
    assert Sketch().with_points([(1, 2.0), (2, math.nan), (3, math.inf)]).values == [2.0]


def test_it_goes_into_json_and_back():
    sketch = Sketch().with_points(points([0.5, 0.25, 1.0] * 30))
    assert Sketch.from_json(sketch.to_json()) == sketch
    assert Sketch.from_json({}) == Sketch()
