"""docs/faults.md: a row for every fault that there is, each provoked by a test, and nothing lost in any."""

import re
from pathlib import Path

import pytest
from faults import FAULTS, WORDS, Faults, Row, Tally, page, parse_row

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "faults.md"


def test_every_fault_is_provoked_by_a_test():
    sources = "".join(path.read_text() for path in TESTS.rglob("test_*.py") if path != Path(__file__))
    assert [key for key in WORDS if f'"{key}"' not in sources] == []
    assert set(re.findall(r'\bfault\(\s*"(\w+)"', sources)) <= set(WORDS)


def test_the_page_has_every_fault_and_nothing_lost():
    text = PAGE.read_text(encoding="utf-8")
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    told = [row[0].strip() for row in rows if len(row) == 9]
    assert [words for words in WORDS.values() if words not in told] == []
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [*(f"## {group}" for group in FAULTS), "## What could not be provoked here"]
    counted = [row[5:8] for row in rows if len(row) == 9 and row[0].strip() != "fault"]
    assert {cell.strip() for cells in counted for cell in cells} <= {"0", "·"}


class Subject:
    backend, root = "simulated", Path()

    def __init__(self, **tally):
        self.found = Tally(**tally)

    def tally(self):
        return self.found


@pytest.mark.parametrize("what", ["lost", "double", "unaccounted"])
def test_what_is_lost_fails_the_test(what):
    fault = Faults([])
    fault("hung", Subject(redone=3, lost=0, double=0, unaccounted=0), saw="hung")
    with pytest.raises(AssertionError, match=f"hung: {what}"):
        fault("hung", Subject(**{what: 1}), saw="hung")
    with pytest.raises(AssertionError, match="other weights"):
        fault("hung", Subject(), saw="hung", same_bits=False)
    with pytest.raises(AssertionError, match="no fault 'hang'"):
        fault("hang", None)


def test_a_page():
    properties = []
    fault = Faults(properties)
    fault("hung", Subject(redone=3, lost=0, double=0, unaccounted=0), saw="a | b", same_bits=True)
    fault("hung", Subject(redone=5, lost=0, double=0, unaccounted=0), saw="other", times=2)
    fault("torn_line", None, saw="nothing")
    rows = [parse_row(text) for _, text in properties]
    assert rows[2] == Row("torn_line", "files", 1, "nothing", None, Tally())
    lines = page(rows, "Slurm is 1.").splitlines()
    assert f"| {WORDS['hung']} | simulated | 3 | a \\| b | 5 | 0 | 0 | 0 | same |" in lines
    assert f"| {WORDS['torn_line']} | files | 1 | nothing | · | · | · | · | · |" in lines
