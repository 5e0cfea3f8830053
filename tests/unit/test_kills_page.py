"""docs/programs-kills.md: a row for every program, each killed 20 times."""

from pathlib import Path

import pytest
from kills import GatheredKills, Row, page
from program_subjects import SUBJECTS

PAGE = Path(__file__).parents[2] / "docs" / "programs-kills.md"


def test_the_page_has_every_program_with_twenty_kills():
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    rows = [cells for cells in lines if len(cells) == 6 and cells[1].isdecimal()]
    assert [row[0] for row in rows] == sorted(SUBJECTS.keys() - {"counter"})
    assert {row[1] for row in rows} == {"20"}


def test_the_page_has_a_line_for_each_row():
    rows = [Row("b", 20, 7, 3, 19, "bitwise"), Row("a", 20, 0, 1, 18, "completed")]
    assert page(rows).splitlines()[-2:] == ["| a | 20 | 0 | 1 | 18 | completed |", "| b | 20 | 7 | 3 | 19 | bitwise |"]


@pytest.mark.parametrize(("outcome", "count"), [("passed", 1), ("failed", 0)])
def test_only_a_test_that_passed_adds_a_row(outcome, count, tmp_path):
    gathered = GatheredKills(tmp_path / "page.md")
    properties = [
        ("killed", '{"program": "a", "kills": 20, "inside_saves": 0, "runs": 1, "resumed": 18, "verdict": ""}')
    ]
    report = pytest.TestReport("test", ("file", 1, "test"), {}, outcome, None, "call", user_properties=properties)
    gathered.pytest_runtest_logreport(report)
    assert len(gathered.rows) == count
