"""The table for a report: rows that add up to the last FLOP before they are rounded, in Markdown and LaTeX."""

import re

import pytest
from control_builders import a_run

from lvjobs.control.budget.accounts import KINDS, Terms, keep_books, statement
from lvjobs.ledger.records import Charge
from lvjobs.records.summary import RunStatus, read_row
from lvjobs.report.study_tables import budget_table

pytestmark = pytest.mark.heavy

RATES = {"official": {"training": 6_772 * 10**9, "validation": 1_146 * 10**9, "generation": 1_129 * 10**9}}
RUNS = [a_run(id=name, name=name, stage=stage, rates=RATES) for name, stage in (("a", "s_1"), ("b", "s_1"), ("c", "t"))]
CHARGES = [
    Charge("a", 1, "useful", 500),
    Charge("a", 1, "replayed", 70),
    Charge("b", 2, "useful", 400),
    Charge("b", 2, "validation", 96),
    Charge("c", 3, "useful", 100),
    Charge("c", 3, "generation", 200),
]
ROWS = [
    read_row(RunStatus, {"stage": stage, "executed_steps": steps})
    for stage, steps in (("s_1", 570), ("s_1", 400), ("t", 1100))
]


def a_budget(**terms):
    return statement(keep_books(Terms(10**17, **terms), RUNS, CHARGES, {}))


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "---" not in line]


def test_spent_by_stage_and_kind_is_spent_by_stage_and_by_kind():
    budget = a_budget()
    split = budget["by_stage_and_kind"]
    assert {stage: sum(kinds.values()) for stage, kinds in split.items()} == budget["by_stage"]
    assert {kind: sum(kinds[kind] for kinds in split.values()) for kind in KINDS} == {k: budget[k] for k in KINDS}
    assert split["s_1"]["replayed"] == 70 * 6_772 * 10**9


def test_a_row_for_each_stage_and_their_sum():
    header, stage, other, total = cells(budget_table(a_budget(), ROWS).body("github"))
    assert header[:3] == ["stage", "runs", "steps executed"]
    assert header[3:] == ["useful", "repeated", "validation", "generation", "total", "of the limit"]
    assert stage == ["s_1", "2", "970", "6.095e15", "4.740e14", "1.100e14", "0", "6.679e15", "6.68 %"]
    assert other == ["t", "1", "1,100", "6.772e14", "0", "0", "2.258e14", "9.030e14", "0.90 %"]
    assert total == ["total", "3", "2,070", "6.772e15", "4.740e14", "1.100e14", "2.258e14", "7.582e15", "7.58 %"]


def test_the_sum_is_that_of_exact_figures():
    """Each stage's 1.0004e15 is shown as 1.000e15, their sum of 2.0008e15 as 2.001e15."""
    budget = {
        "convention": "official",
        "limit": 10**17,
        "counts_inference": True,
        "by_stage": {"s": 10_004 * 10**11, "t": 10_004 * 10**11},
        "by_stage_and_kind": {s: {**dict.fromkeys(KINDS, 0), "useful": 10_004 * 10**11} for s in "st"},
    }
    assert [row[7] for row in cells(budget_table(budget, []).body("github"))[1:]] == [
        "1.000e15",
        "1.000e15",
        "2.001e15",
    ]


def test_what_does_not_count_is_shown_and_not_in_the_total():
    budget = a_budget(counts_inference=False)
    header, stage, _, total = cells(budget_table(budget, ROWS).body("github"))
    assert header[7] == "useful + repeated"
    assert stage[5] == "1.100e14"
    assert total[7] == "7.246e15"
    assert float(total[7]) == float(f"{budget['spent']:.3e}")


def test_a_study_with_no_run_yet():
    assert cells(budget_table(statement(keep_books(Terms(10**17), [], [], {})), []).body("github"))[1] == [
        "total",
        *["0"] * 7,
        "0.00 %",
    ]


def test_latex_has_the_same_figures_and_escapes_what_it_must():
    text = budget_table(a_budget(), ROWS).body("latex_booktabs")
    for words in ("\\toprule", "\\bottomrule", "s\\_1", "6.68 \\%", "6.095e15", "2,070"):
        assert words in text
    rows = [
        re.split(r"\s*&\s*", line.strip().removesuffix("\\\\").strip()) for line in text.splitlines() if "&" in line
    ]
    assert [[cell.replace("\\", "") for cell in row] for row in rows] == cells(
        budget_table(a_budget(), ROWS).body("github")
    )
