"""The table of GPU-hours, goodput and ETTR fits the terminal; advice is one line a stage."""

import io

import pytest
from control_builders import NOW, a_run, an_attempt, efficiency_of
from rich.console import Console

from lvjobs.report.terminal.budget_lines import print_efficiency
from lvjobs.study.words import Cause

pytestmark = pytest.mark.heavy

CONFIG = {"steps": 1000, "checkpoint_every": 250}


def an_execution(number=1, **changes):
    base = {
        "cause": Cause.KILLED,
        "started": NOW - 7200,
        "ended": NOW,
        "restart_count": number,
        "step": 300,
        "executed": 300,
        "train_seconds": 3000.0,
        "validation_seconds": 600.0,
        "checkpoint_step": 250,
        "checkpoints": 1,
        "checkpoint_seconds": 2.0,
        "allocated_seconds": 7200.0,
        "gpus": 4,
    }
    return an_attempt(number, **base | changes)


def a_study(*stages, **changes):
    runs = [
        a_run(id=stage, name=stage, stage=stage, created=NOW - 14400, config=CONFIG, profile="lab") for stage in stages
    ]
    return efficiency_of(runs, {run.id: [an_execution(**changes)] for run in runs}, NOW).to_dict()


def shown(value, width=80):
    stream = io.StringIO()
    print_efficiency(value, Console(file=stream, width=width))
    return stream.getvalue()


def row(text, name):
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [name])


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits(width):
    text = shown(a_study("a-stage-with-a-rather-long-name", "final"), width)
    assert max(map(len, text.splitlines())) <= width
    assert row(text, "final") == ["final", "2.00", "8.00", "4.00", "(50", "%)", "41.7", "%", "20.8", "%", "1"]
    assert row(text, "all") == ["all", "4.00", "16.00", "8.00", "(50", "%)", "41.7", "%", "20.8", "%", "2"]


def test_one_stage_is_the_study():
    assert "\nall" not in shown(a_study("train"))


def test_advice_is_one_line_a_stage():
    lines = shown(a_study("train", "final"), 200).splitlines()
    at = lines.index("checkpoint interval (advice):")
    assert len(lines[at + 1 :]) == 2
    assert lines[at + 1].startswith("  train: every 250 steps costs ")
    assert lines[at + 2].startswith("  final: every 250 steps costs ")
    study = a_study("train", "final")
    study["checkpoint_advice"][1]["profile"] = "elsewhere"
    assert shown(study, 200).splitlines()[at + 2].startswith("  final on elsewhere: ")


def test_what_is_estimated_is_said():
    assert "estimated" not in shown(a_study("train"))
    assert "1 of 1 attempts are estimated" in shown(a_study("train", allocated_seconds=None))


def test_a_study_without_gpus_has_hours():
    text = shown(a_study("train", gpus=0))
    assert row(text, "train") == ["train", "2.00", "0", "0", "41.7", "%", "20.8", "%", "1"]


def test_short_times_are_not_nothing():
    assert row(shown(a_study("train", allocated_seconds=9.0)), "train")[1] == "0.0025"


def test_names_are_no_markup():
    study = a_study("train")
    study["checkpoint_advice"][0]["words"] = "[bold]x"
    assert "[bold]x" in shown(study)


def test_ratios_that_are_not_known_are_left_out():
    study = a_study("train")
    study["by_stage"]["train"] |= {"goodput": None, "ettr": None}
    assert row(shown(study), "train")[-2:] == ["%)", "1"]


def test_before_anything_ran():
    assert shown(efficiency_of([a_run()], {}, NOW).to_dict()) == "No machine time used yet.\n"
