"""The tables fit the terminal, and say in words what is wrong."""

import io

import pytest
from rich.console import Console

from lvjobs.report.budget import print_budget
from lvjobs.report.site import site_lines
from lvjobs.report.tables import print_status


def a_row(**changes):
    row = {
        "name": "stage1-r8-lr0.0001-c512-s0-3fa9",
        "state": "running",
        "cause": "preempted",
        "step": 323,
        "steps": 5000,
        "loss": 0.12345,
        "validation_loss": 0.5,
        "untrained_loss": None,
        "attempts": 2,
        "replayed_steps": 170,
        "job_id": "123456_7",
        "reason": "",
        "error": "",
    }
    return {**row, **changes}


def shown(function, value, width=100):
    stream = io.StringIO()
    function(value, Console(file=stream, width=width))
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_fits(width):
    text = shown(print_status, {"runs": [a_row(), a_row(state="interrupted", cause="launch_failed")]}, width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("323/5000", "0.123", "123456_7", "launch_failed", "interrupted"):
        assert word in text
    assert ("170" in text) == (width >= 100)


@pytest.mark.parametrize("width", [80, 160])
def test_a_numeric_heads_loss_is_marked_and_explained(width):
    losses = {"loss": None, "loss_numeric": 0.75, "validation_loss": None, "validation_loss_numeric": 0.25}
    text = shown(print_status, {"runs": [a_row(), a_row(**losses, untrained_loss_numeric=None)]}, width)
    for word in ("0.123 ", "0.500 ", "0.750n", "0.250n", "n: of a numeric head"):
        assert word in text
    assert "numeric head" not in shown(print_status, {"runs": [a_row()]}, width)


def test_a_held_run_says_why():
    text = shown(print_status, {"runs": [a_row(state="held", cause="code_error", reason="ValueError: no; mend it")]})
    assert "held" in text
    assert "code_error" in text
    assert text.splitlines()[-1].endswith("ValueError: no; mend it")


def test_a_finished_run_says_nothing_more():
    text = shown(print_status, {"runs": [a_row(state="completed", cause="completed", error="old")]})
    assert "old" not in text


def test_no_runs_says_what_to_type():
    assert "lvjobs submit train" in shown(print_status, {"runs": []})


def test_the_budget_adds_up_before_the_eyes():
    budget = {
        "convention": "official",
        "counts_inference": True,
        "limit": 10**17,
        "spent": 3 * 10**16,
        "reserved": 2 * 10**16,
        "free": 5 * 10**16,
        "useful": 2 * 10**16,
        "replayed": 10**16,
        "validation": 0,
        "generation": 0,
        "estimated": 0,
        "by_stage": {"stage1": 3 * 10**16},
        "by_run": {f"run{number}": number for number in range(15)},
        "by_convention": {"official": 3 * 10**16, "exact": 2 * 10**16, "report": None},
    }
    text = shown(print_budget, budget, 80)
    assert max(map(len, text.splitlines())) <= 80
    for words in ("3e+16", "30.00 %", "20.00 %", "50.00 %", "stage1", "unknown", "does not bind"):
        assert words in text
    assert "run14" in text
    assert "4 other runs" in text
    assert "run3 " not in text
    assert "estimated" not in text
    assert "not counted" not in text
    text = shown(print_budget, {**budget, "estimated": 10**14, "counts_inference": False, "free": -(10**16)})
    for words in ("of it estimated", "not counted", "1e+16 too much"):
        assert words in text


def test_a_site_is_told_in_words():
    site = {
        "preempt_mode": "cancel",
        "requeue_hold_seconds": 121.0,
        "accounting": False,
        "min_job_age_seconds": 300.0,
        "partitions": {"low": 2160.0, "long": None},
        "notes": ["a preempted job is cancelled"],
    }
    text = "\n".join(site_lines(site))
    for words in ("PreemptMode=CANCEL", "held for 121 s", "300 s only", "low 36 h, long no limit", "is cancelled"):
        assert words in text
    assert "does not preempt" in next(site_lines({**site, "preempt_mode": "off"}))
