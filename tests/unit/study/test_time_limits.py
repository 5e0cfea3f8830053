"""A time limit is read as Slurm reads it."""

import pytest

from lvjobs.study.tables import parse_time_limit


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("30:30", 31),
        ("12:00:00", 720),
        ("0:0:1", 1),
        ("1-12", 2160),
        ("1-02:03", 1563),
        ("1-02:03:04", 1564),
        ("0-0:1", 1),
        ("36h", 2160),
        ("90m", 90),
        (" 2 d ", 2880),
    ],
)
def test_a_time_limit_is_in_minutes_begun(text, minutes):
    assert parse_time_limit(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "0m", "0h", "0-0", "00:00:00", "1:2:3:4", "-1", "soon"])
def test_what_is_no_time_limit_is_refused(text):
    with pytest.raises(ValueError, match="write 12:00:00"):
        parse_time_limit(text)
