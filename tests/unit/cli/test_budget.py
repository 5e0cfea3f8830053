"""`lvjobs budget`, `budget set`: the limit in study.toml, and on record."""

import json
import sqlite3

import pytest
from forked import Forked

TOML = """\
# what my supervisor said
profile = "local"

[budget]                       # of the department
limit = 1e15                   # for now
convention = "official"

[train]
steps = 10
"""


@pytest.fixture(scope="module")
def forked():
    """Processes with transformers in them: `budget` asks one how long the instruction of a later stage is."""
    with Forked("transformers", "lvjobs.forecasting.models", "lvjobs.forecasting.tokens") as forked:
        yield forked


@pytest.fixture
def lvjobs(tmp_path, monkeypatch, typed, forked):
    """Types a command in a study; returns its exit code, output and errors."""
    forked.answers(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    (tmp_path / "study.toml").write_text(TOML)
    return typed


def record(tmp_path):
    connection = sqlite3.connect(tmp_path / "runs.db")
    try:
        return [
            (text, json.loads(details))
            for text, details in connection.execute("SELECT text, details FROM events WHERE kind = 'budget'")
        ]
    finally:
        connection.close()


def test_a_limit_is_lowered_in_place_and_on_record(tmp_path, lvjobs):
    code, out, err = lvjobs("budget", "set", "2e14")
    assert code == 0, err
    assert "the limit is 2e+14 FLOPs; 2e+14 are free" in out
    assert (tmp_path / "study.toml").read_text() == TOML.replace("1e15", "2e14")
    assert json.loads(lvjobs("budget", "--json")[1])["limit"] == 2 * 10**14
    ((text, details),) = record(tmp_path)
    assert "lowered from 1e+15 to 2e+14 FLOPs" in text
    assert details == {"from": str(10**15), "to": str(2 * 10**14), "reason": "by a command, without a reason"}


def test_raising_it_takes_a_reason_which_is_kept(tmp_path, lvjobs):
    code, _, err = lvjobs("budget", "set", "1e17")
    assert code == 2
    assert err.count("\n") == 1
    assert "--because" in err
    assert (tmp_path / "study.toml").read_text() == TOML
    assert record(tmp_path) == []
    code, _, _ = lvjobs("budget", "set", "1e17", "--because", "a second grant")
    assert code == 0
    ((text, details),) = record(tmp_path)
    assert text.endswith("a second grant")
    assert details["reason"] == "a second grant"


def test_a_limit_that_was_edited_by_hand_binds_and_is_on_record(tmp_path, lvjobs):
    lvjobs("budget")
    (tmp_path / "study.toml").write_text(TOML.replace("1e15", "3e15"))
    assert json.loads(lvjobs("budget", "--json")[1])["limit"] == 3 * 10**15
    ((text, _),) = record(tmp_path)
    assert "raised from 1e+15 to 3e+15" in text
    assert "no reason given" in text
    lvjobs("budget")
    assert len(record(tmp_path)) == 1


@pytest.mark.parametrize(("limit", "word"), [("much", "much"), ("0", "greater than 0"), ("1.5", "1.5"), ("inf", "inf")])
def test_what_is_no_limit_changes_nothing(tmp_path, lvjobs, limit, word):
    code, out, err = lvjobs("budget", "set", limit)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert word in err
    assert (tmp_path / "study.toml").read_text() == TOML


def test_a_study_without_a_budget_table_gets_one(tmp_path, lvjobs):
    (tmp_path / "study.toml").write_text('profile = "local"\n')
    assert lvjobs("budget", "set", "5e16")[0] == 0
    assert json.loads(lvjobs("budget", "--json")[1])["limit"] == 5 * 10**16
    assert (tmp_path / "study.toml").read_text().startswith('profile = "local"\n')


def test_the_table_for_a_report_comes_in_both_languages(lvjobs):
    code, out, _ = lvjobs("budget", "--table")
    assert code == 0
    assert "| stage" in out
    assert r"\toprule" in out


def test_an_unknown_convention_is_named(tmp_path, lvjobs):
    (tmp_path / "study.toml").write_text(TOML.replace('"official"', '"oficial"'))
    code, _, err = lvjobs("budget")
    assert code == 2
    assert "budget.convention" in err
    assert "official" in err


def test_what_the_stages_to_come_can_still_have(tmp_path, lvjobs):
    stages = """
[[stage]]
name = "one"
steps = 500
[[stage]]
name = "many"
steps = 500
grid = { lora_rank = [2, 4, 8] }
[[stage]]
name = "scores"
evaluate = ["one", "many"]
"""
    (tmp_path / "study.toml").write_text(TOML.replace("steps = 10", "context_length = 64\nbatch_size = 1") + stages)
    one = json.loads(lvjobs("estimate", "one", "--json")[1])["needed"]
    evaluation = json.loads(lvjobs("estimate", "one", "--json")[1])["needed_for_evaluation"]
    assert 0 < evaluation < one
    lvjobs("budget", "set", str(one))
    rooms = json.loads(lvjobs("budget", "--json")[1])["still_fits"]
    assert rooms[0] == {"stage": "one", "runs": 1, "steps": 500, "fits": 500}
    assert rooms[1]["runs"] == 3
    assert rooms[1]["fits"] in (0, 250)
    assert "one: 500 steps would still fit" in lvjobs("budget")[1]
    lvjobs("budget", "set", str(one - 1))
    rooms = json.loads(lvjobs("budget", "--json")[1])["still_fits"]
    assert rooms[0]["fits"] == 250
    assert "one: 250 steps would still fit; 500 steps would not" in lvjobs("budget")[1]
    lvjobs("budget", "set", "1000")
    assert "one: no room for one checkpoint interval of its 500 steps" in lvjobs("budget")[1]


def test_a_model_whose_shape_is_unknown_does_not_hide_the_budget(tmp_path, lvjobs):
    (tmp_path / "study.toml").write_text(TOML + 'model = "gpt-17"\n')
    code, out, err = lvjobs("budget")
    assert code == 0
    assert "limit" in out
    assert "gpt-17" in err
