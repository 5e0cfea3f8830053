"""The folds of a k-fold split, pooled: each system once, by the run that never saw it."""

import json

import numpy as np
import pytest
from report_helpers import Finished, a_material, data

from lvjobs.forecasting import results as results_module
from lvjobs.forecasting.pooling import joined, joined_baselines
from lvjobs.forecasting.results import baselines_of, load_result
from lvjobs.forecasting.splits import whole_split
from lvjobs.records.summary import StageStatus, read_row
from lvjobs.report.chosen import choose
from lvjobs.report.comparisons import compare_all
from lvjobs.report.evaluated import base_of, evaluated, groups
from lvjobs.report.folds import with_folds_pooled
from lvjobs.report.study_tables import study_tables
from lvjobs.study.params import TrainingConfig

pytestmark = pytest.mark.heavy

__all__ = ["data"]
SPLIT = {"split": "k-fold", "folds": 3, "data_systems": 20}


@pytest.fixture
def finished(tmp_path, data):
    return Finished(tmp_path, data)


def scored(finished, fold):
    return list(whole_split(20, finished.training(**SPLIT, fold=fold)).test)


@pytest.fixture(autouse=True)
def few_baselines(monkeypatch):
    names = ("persistence", "var-8", "analogue-training", "ode")
    monkeypatch.setattr(results_module, "BASELINES", {name: results_module.BASELINES[name] for name in names})


def add_folds(finished, name, folds=range(3), *, noise=0.1, seed=0, losses=(0.9, 0.9, 0.9), **settings):
    """Train and evaluate a run of each fold, with these losses at the end; return the evaluations."""
    made = []
    for fold in folds:
        curve = (1.0, losses[fold])
        run = finished.trained(f"{name}-f{fold}", seed=seed, losses=curve, **SPLIT, fold=fold, **settings)
        made.append(finished.evaluated(run, noise=noise, systems=scored(finished, fold)))
    return made


def add_base(finished, folds=range(3), **settings):
    return [
        finished.evaluated(noise=0.5, systems=scored(finished, fold), training={**SPLIT, "fold": fold}, **settings)
        for fold in folds
    ]


def pooled(finished):
    return with_folds_pooled(evaluated(finished.layout, finished.runs))


def material(finished, **changes):
    changes |= {
        "evaluations": pooled(finished),
        "load": lambda each: joined([load_result(part.files.final, part.run) for part in each.alone]),
        "baselines": lambda each: joined_baselines([baselines_of(part.run)[0] for part in each.alone]),
    }
    return a_material(finished, **changes)


def test_every_system_is_scored_once_and_counts_the_same(finished):
    made = add_folds(finished, "a")
    (each,) = pooled(finished)
    assert sorted(each.scores["systems"]) == list(range(20))
    assert each.subject == "a-f0 (3 folds)"
    results = [load_result(finished.layout.run(run.name).final, run.configuration) for run in made]
    errors = np.concatenate([result.errors for result in results])
    assert each.mae == pytest.approx(errors.mean())
    assert each.scores["scores"]["by_system"]["mae"] == pytest.approx(errors.mean(axis=(1, 2)).tolist())
    assert each.scores["scores"]["median_mae"] == pytest.approx(np.median(errors.mean(axis=(1, 2))))
    together = joined(results)
    assert list(together.systems) == each.scores["systems"]
    assert together.errors.mean() == pytest.approx(each.mae)


def test_a_baseline_learns_from_the_other_folds_alone(finished):
    made = add_folds(finished, "a")
    (each,) = pooled(finished)
    separate = [baselines_of(run.configuration)[0]["analogue-training"] for run in made]
    results = [load_result(finished.layout.run(run.name).final, run.configuration) for run in made]
    errors = np.concatenate([r.errors_of(values) for r, values in zip(results, separate, strict=True)])
    found = each.scores["baselines"]["analogue-training"]
    assert found["overall"]["mae"] == pytest.approx(errors.mean())
    assert len(found["by_system"]["mae"]) == 20


def test_a_baseline_that_failed_in_one_fold_is_not_pooled(finished):
    made = add_folds(finished, "a")
    path = finished.layout.run(made[1].name).final / "result/scores.json"
    kept = json.loads(path.read_text())
    kept["baselines"]["var-8"] = {"problem": "too short"}
    path.write_text(json.dumps(kept))
    (each,) = pooled(finished)
    assert each.scores["baselines"]["var-8"] == {"problem": "too short"}
    assert joined_baselines([{"a": np.ones(1), "b": np.ones(1)}, {"a": np.ones(2)}]).keys() == {"a"}


def test_seeds_and_settings_are_pooled_apart(finished):
    add_folds(finished, "a")
    add_folds(finished, "b", seed=1)
    add_folds(finished, "c", lora_rank=2)
    finished.evaluated(finished.trained("other"))
    assert [each.subject for each in pooled(finished)] == [
        *("a-f0 (3 folds)", "b-f0 (3 folds)", "c-f0 (3 folds)", "other")
    ]


def test_folds_that_are_not_done_make_no_model_that_compares_with_whole_ones(finished):
    add_folds(finished, "a")
    add_folds(finished, "b", folds=[0, 2], lora_rank=2)
    add_folds(finished, "c", folds=[1], lora_rank=8)
    found = pooled(finished)
    assert [each.subject for each in found] == ["a-f0 (3 folds)", "b-f0 (2 folds)", "c-f1"]
    assert len(groups(found)) == 3


def test_of_two_evaluations_of_a_fold_that_of_more_series_is_pooled(finished):
    (first, *_) = add_folds(finished, "a")
    run = next(run for run in finished.runs if run.name == "a-f0")
    some = finished.evaluated(run, systems=scored(finished, 0)[:2])
    found = pooled(finished)
    assert found[0].parts[0].files.root.name == first.name
    assert [each.files.root.name for each in found[1:]] == [some.name]


def test_the_base_model_of_all_folds_is_compared_with_the_runs_of_all_folds(finished):
    for seed in (0, 1):
        add_folds(finished, f"s{seed}", seed=seed, noise=0.1)
    add_folds(finished, "lucky", lora_rank=2, noise=0.01)
    add_base(finished)
    because = "lowest validation_loss at the end: 0.9"
    won = read_row(StageStatus, {"name": "stage1", "winner": "s1-f2", "because": because})
    whole = material(finished, stages=[won])
    choices = choose(whole)
    assert [each.subject for each in choices.chosen.runs] == ["s1-f0 (3 folds)", "s0-f0 (3 folds)"]
    assert choices.best_by_test.name == "lucky-f0 (3 folds)"
    row = compare_all(choices, whole).rows[0]
    assert (row.other, row.found.series, row.found.seeds) == ("zero-shot raw (3 folds)", 20, (2, 1))
    assert row.found.wins == 20
    (table,) = study_tables(whole.evaluations, choices.marked)
    assert {each["name"] for each in table.values} >= {"s1-f0 (3 folds)", "zero-shot raw (3 folds)", "var-8"}


def test_validation_losses_of_all_folds_choose_where_no_stage_does(finished):
    add_folds(finished, "a", losses=(0.5, 0.9, 0.9))
    add_folds(finished, "b", losses=(0.7, 0.7, 0.7), lora_rank=2)
    assert choose(material(finished)).chosen.name == "b-f0 (3 folds)"


def test_the_command_that_evaluates_the_base_model_has_the_split(finished):
    add_folds(finished, "a")
    (each,) = pooled(finished)
    words = base_of(each, TrainingConfig(data="d.h5"))
    assert [word for word in words if word.startswith(("split", "folds", "fold="))] == ["split=k-fold", "folds=3"]
