"""Errors by forecast origin: each figure from the scores, and no other table, figure or choice changes by them."""

import pytest
from report_helpers import HISTORY, SYSTEMS, Finished, a_material, data

from lvjobs.report.chosen import choose
from lvjobs.report.evaluated import evaluated, largest_group
from lvjobs.report.horizon_table import horizon_tables
from lvjobs.report.origin_table import origin_tables
from lvjobs.report.study_tables import study_tables

pytestmark = pytest.mark.heavy

__all__ = ["data"]

FEW, MANY = 40, 70


@pytest.fixture
def finished(tmp_path, data):
    return Finished(tmp_path, data)


def done(finished):
    return evaluated(finished.layout, finished.runs, HISTORY)


def shown(finished):
    """Return the study's other tables, beside its table of origins."""
    material = a_material(finished, evaluations=done(finished))
    choices = choose(material)
    tables = [*study_tables(done(finished), choices.marked), *horizon_tables(done(finished), choices.marked)]
    names = [[each.subject for each in model.runs] for model in (choices.chosen, *choices.others)]
    return tables, names, [each.subject for each in choices.bases], choices.notes


def test_each_figure_is_that_of_the_scores(finished):
    runs = [finished.trained("a"), finished.trained("b", lora_rank=8)]
    for number, run in enumerate([*runs, None], 1):
        for origin in (MANY, HISTORY, FEW):
            finished.evaluated(run, noise=0.1 * number + origin / 1000, origin=origin)
    found = {(each.subject, each.scores["history"]): each for each in done(finished)}
    (table,) = origin_tables(done(finished), ["b"])
    assert table.headers == ["", "from 40", "from 60", "from 70", "mean"]
    assert [row["name"] for row in table.values[:3]] == ["a", "b", "zero-shot raw"]
    assert (table.marked, table.rule) == ({1}, 3)
    for row in table.values[:3]:
        own = [found[row["name"], origin].scores["scores"]["overall"]["mae"] for origin in (FEW, HISTORY, MANY)]
        assert [row["mae_40"], row["mae_60"], row["mae_70"]] == own
        assert row["mae_mean"] == pytest.approx(sum(own) / 3)
    by_name = {row["name"]: row for row in table.values}
    assert by_name["mean"]["mae_40"] == found["a", FEW].scores["baselines"]["mean"]["overall"]["mae"]
    assert len({by_name["persistence"][key] for key in ("mae_40", "mae_60", "mae_70")}) == 3
    assert table.values[-1]["name"] == "ode (knows the law)"
    assert "the 5 steps after each origin forecast" in table.circumstances
    assert "Own origin of the runs (history_steps): 60." in table.notes


def test_tables_without_intervals_are_printed_whole(finished):
    for origin in (HISTORY, FEW):
        finished.evaluated(origin=origin)
    for table in (*origin_tables(done(finished)), *horizon_tables(done(finished))):
        assert table.narrow().render("simple") == table.render("simple")


def test_a_model_without_one_of_the_origins_is_counted_and_left_out(finished):
    whole, lacking = finished.trained("whole"), finished.trained("lacking", lora_rank=8)
    finished.evaluated(lacking)
    for origin in (HISTORY, FEW):
        finished.evaluated(whole, origin=origin)
    (table,) = origin_tables(done(finished))
    assert [row["name"] for row in table.values[: table.rule]] == ["whole"]
    assert "Left out, because they lack one of these origins: 1 model." in table.notes


def test_what_differs_in_more_than_the_origin_is_in_no_table(finished):
    run = finished.trained("a")
    finished.evaluated(run)
    finished.evaluated(run, origin=FEW, systems=SYSTEMS[:2])
    finished.evaluated(run, origin=MANY, samples=3)
    finished.evaluated(run, origin=FEW, split="asked")
    assert origin_tables(done(finished)) == []


def test_a_baseline_that_cannot_be_made_from_an_origin_is_named(finished):
    run = finished.trained("a")
    for origin in (HISTORY, 9):
        finished.evaluated(run, origin=origin)
    (table,) = origin_tables(done(finished))
    assert "var-12-log" not in {row["name"] for row in table.values}
    assert any(note.startswith("var-12-log, from 9: VAR of order 12 needs") for note in table.notes)


@pytest.mark.parametrize("first", [True, False], ids=["declared first", "declared last"])
def test_other_origins_change_no_other_table_and_no_choice(tmp_path, data, first):
    """Even if they were declared first, and are more models on more series."""
    plain = Finished(tmp_path / "plain", data)
    moved = Finished(tmp_path / "moved", data)

    def elsewhere(runs):
        for run in (*runs, None):
            for origin in (FEW, MANY):
                moved.evaluated(run, origin=origin, noise=0.001)
            moved.evaluated(run, origin=FEW, noise=0.001, systems=[16, 17, 18, 19])

    for study in (plain, moved):
        runs = [study.trained(f"r{rank}", lora_rank=rank) for rank in (2, 4, 8)]
        if study is moved and first:
            elsewhere(runs)
        for run in (runs[1], None):
            study.evaluated(run, noise=0.3)
        if study is moved and not first:
            elsewhere(runs)
    assert shown(moved) == shown(plain)
    assert {each.scores["history"] for each in largest_group(done(moved))} == {HISTORY}


def test_a_base_model_alone_is_shown_from_the_origin_of_train(finished):
    for origin in (FEW, HISTORY, MANY):
        finished.evaluated(origin=origin)
    assert {each.scores["history"] for each in largest_group(done(finished))} == {HISTORY}
    assert len(study_tables(done(finished))) == 1


def test_without_any_forecast_from_the_own_origin_the_others_are_shown(finished):
    run = finished.trained("a")
    for origin in (FEW, MANY):
        finished.evaluated(run, origin=origin)
    assert [table.circumstances.split(",")[1] for table in study_tables(done(finished))] == [
        " 40 steps of history",
        " 70 steps of history",
    ]


def test_runs_that_were_trained_with_another_history_stay_apart_from_those_asked_for_it(finished):
    """Both forecast from 40 steps, and are two models."""
    short, long = finished.trained("short", history_steps=FEW), finished.trained("long")
    for run in (short, long):
        finished.evaluated(run, origin=FEW)
    finished.evaluated(long)
    tables = study_tables(done(finished))
    (both,) = [table for table in tables if "40 steps of history" in table.circumstances]
    assert {row["name"]: row["history_steps"] for row in both.values if row["kind"] == "final"} == {
        "short": FEW,
        "long": HISTORY,
    }
    assert len(tables) == 2
