"""Extra baselines in tables, comparisons and figures: of all evaluations of the same series, from files that are read once."""

import json

import numpy as np
import pytest
from report_helpers import HORIZON, SYSTEMS, Finished, a_material, data

from lvjobs.forecasting import results as results_module
from lvjobs.forecasting.results import load_series
from lvjobs.forecasting.splits import whole_split
from lvjobs.report.chosen import choose
from lvjobs.report.comparisons import compare_all
from lvjobs.report.evaluated import evaluated
from lvjobs.report.extras import read_kept, with_extras_shared
from lvjobs.report.figures.forecasts import scores
from lvjobs.report.figures.study import charts
from lvjobs.report.folds import with_folds_pooled
from lvjobs.report.horizon_table import horizon_tables
from lvjobs.report.origin_table import origin_tables
from lvjobs.report.study_tables import study_tables

pytestmark = pytest.mark.heavy

__all__ = ["data"]
MODEL = "chronos:amazon/chronos-bolt-small"
SPLIT = {"split": "k-fold", "folds": 2, "data_systems": 20}


@pytest.fixture
def finished(tmp_path, data):
    return Finished(tmp_path, data)


@pytest.fixture(autouse=True)
def few_baselines(monkeypatch):
    names = ("persistence", "mean", "ode")
    monkeypatch.setattr(results_module, "BASELINES", {name: results_module.BASELINES[name] for name in names})


def shared(finished):
    return with_extras_shared(evaluated(finished.layout, finished.runs))


def rows(table):
    return [row["name"] for row in table.values]


def file_of(finished, run):
    return finished.layout.run(run.name).final / "result/baselines.h5"


def test_every_table_and_figure_has_the_extra_rows_of_any_evaluation_of_the_series(finished):
    for run, extras in zip(
        [finished.trained("a"), finished.trained("b", lora_rank=8), None],
        ({}, {"auto-ets": ""}, {MODEL: "5ha"}),
        strict=True,
    ):
        finished.evaluated(run, extras=extras)
    done = shared(finished)
    for each in done:
        assert {*each.scores["baselines"]} == {"persistence", "mean", "ode", "auto-ets", MODEL}
    (table,) = study_tables(done)
    assert rows(table)[-6:] == ["persistence", "mean", "auto-ets", MODEL, "ode", "rounding alone"]
    (horizons,) = horizon_tables(done)
    assert rows(horizons)[-3:] == ["auto-ets", MODEL, "ode (knows the law)"]
    material = a_material(finished)
    compared = compare_all(choose(material), material)
    assert {row.other for row in compared.rows if row.kind == "baseline"} == {"persistence", "mean", "auto-ets", MODEL}
    drawn = {each.id: each for each in charts(material)}
    for stem in ("figure-5-forecast-typical", "figure-6-error-by-step", "figure-7-error-distribution"):
        assert {"auto-ets", MODEL} <= {key.name for key in drawn[stem].keys}, stem
        assert "Not shown" not in drawn[stem].caption
    assert "auto-ets" in scores(choose(material)).panels[0].label


def test_no_figure_makes_an_extra_baseline_again(finished, monkeypatch):
    finished.evaluated(extras={"auto-ets": ""})
    monkeypatch.setattr("lvjobs.forecasting.baselines.extras.forecast_extra", lambda *_: pytest.fail("made again"))
    (each,) = shared(finished)
    made, problems = read_kept(each)
    assert (made["auto-ets"].shape, problems) == ((len(SYSTEMS), HORIZON, 2), {})
    found = load_series(each.files.final, each.run, SYSTEMS[1], read_kept(each))
    assert np.allclose(found.baselines["auto-ets"] - found.truth[found.history :], 0.1)
    assert found.evidence["baseline_problems"] == {}


@pytest.mark.parametrize("damage", ["missing", "cut", "of other series"])
def test_a_damaged_file_costs_its_own_baselines_alone(finished, damage):
    one = finished.evaluated(finished.trained("a"), extras={"auto-ets": ""})
    finished.evaluated(extras={"auto-theta": ""})
    path = file_of(finished, one)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:900])
    else:
        other = finished.evaluated(extras={"auto-ets": ""}, systems=[16, 17, 18])
        path.write_bytes(file_of(finished, other).read_bytes())
    material = a_material(finished)
    each = material.evaluations[0]
    made, problems = read_kept(each)
    assert (made.keys(), problems.keys()) == ({"auto-theta"}, {"auto-ets"})
    assert str(path) in problems["auto-ets"]
    (table, *_) = study_tables(material.evaluations)
    assert {"auto-ets", "auto-theta"} <= {*rows(table)}, "scores are in a file of their own"
    drawn = {chart.id: chart for chart in charts(material)}["figure-6-error-by-step"]
    assert "auto-theta" in {key.name for key in drawn.keys}
    assert f"Not shown, auto-ets: {path}" in drawn.caption
    found = load_series(each.files.final, each.run, SYSTEMS[0], read_kept(each))
    assert found.evidence["baseline_problems"].keys() == {"auto-ets"}


def test_two_models_of_one_name_have_two_rows_and_one_model_has_one(finished):
    for rank, weights in ((4, "a" * 64), (8, "b" * 64), (2, "a" * 64)):
        finished.evaluated(finished.trained(f"r{rank}", lora_rank=rank), extras={MODEL: weights})
    for each in shared(finished):
        assert {name for name in each.scores["baselines"] if "chronos" in name} == {
            f"{MODEL} @ {'a' * 8}",
            f"{MODEL} @ {'b' * 8}",
        }
        assert read_kept(each)[0].keys() == {f"{MODEL} @ {'a' * 8}", f"{MODEL} @ {'b' * 8}"}


def test_a_problem_in_one_evaluation_gives_way_to_another_that_made_it(finished):
    one = finished.evaluated(finished.trained("a"), extras={"auto-ets": ""})
    finished.evaluated(extras={"auto-ets": ""})
    path = file_of(finished, one).with_name("scores.json")
    kept = json.loads(path.read_text())
    kept["baselines"]["auto-ets"] = {"problem": "it diverges", "made_by": {}}
    path.write_text(json.dumps(kept))
    assert all("problem" not in each.scores["baselines"]["auto-ets"] for each in shared(finished))


def add_folds(finished, by_fold, name="k"):
    for fold, extras in enumerate(by_fold):
        systems = list(whole_split(20, finished.training(**SPLIT, fold=fold)).test)
        finished.evaluated(finished.trained(f"{name}-f{fold}", **SPLIT, fold=fold), systems=systems, extras=extras)


def pooled(finished):
    (each,) = with_folds_pooled(shared(finished))
    return each


def test_folds_pool_an_extra_baseline_that_each_of_them_has(finished):
    add_folds(finished, [{"auto-ets": "", "auto-theta": ""}, {"auto-ets": ""}])
    each = pooled(finished)
    assert {*each.scores["baselines"]} == {"persistence", "mean", "ode", "auto-ets"}
    assert each.scores["baselines"]["auto-ets"]["overall"]["mae"] == pytest.approx(0.1)
    made, _ = read_kept(each)
    assert {name: len(values) for name, values in made.items()} == {"auto-ets": 20}
    assert "auto-ets" in rows(study_tables([each])[0])


def test_folds_with_other_weights_are_not_pooled_as_one_model(finished):
    add_folds(finished, [{MODEL: "a" * 64}, {MODEL: "b" * 64}])
    assert pooled(finished).scores["baselines"][MODEL] == {"problem": "it has other weights in other folds"}


def test_the_table_of_origins_has_a_row_that_every_origin_has_and_names_others(finished):
    run = finished.trained("a")
    for origin, extras in ((60, {"auto-ets": ""}), (40, {"auto-ets": "", "auto-theta": ""})):
        finished.evaluated(run, origin=origin, extras=extras)
    (table,) = origin_tables(shared(finished))
    assert "auto-ets" in rows(table)
    assert "auto-theta" not in rows(table)
    assert "auto-theta, from 60: not made." in table.notes


def test_scores_of_an_older_release_are_compared_with_kept_extras(finished):
    run = finished.evaluated(finished.trained("a"), extras={"auto-ets": ""})
    path = file_of(finished, run).with_name("scores.json")
    kept = json.loads(path.read_text())
    for scored in (kept["scores"], *(found for name, found in kept["baselines"].items() if name != "auto-ets")):
        del scored["by_system"]
    path.write_text(json.dumps(kept))
    material = a_material(finished)
    assert {"auto-ets", "mean"} <= {*material.baseline_errors(material.evaluations[0])}
