"""The runs that a stage will have: evaluations of the untrained model score the systems of the stages evaluated."""

import pytest

from lvjobs.control.stages.expand import zero_shot
from lvjobs.forecasting.splits import make_split
from lvjobs.study.stages import Stage
from lvjobs.sweep.request import Request
from lvjobs.tasks.registry import task_of

SYSTEMS = 20
LAST = list(range(16, 20))
PLAIN = Stage(name="plain")
FOLDS = Stage(name="folds", set={"split": "k-fold", "folds": 3}, grid={"fold": [0, 1, 2]})
LATER = Stage(name="later", origin="folds", set={"lora_rank": 2})


def request(**train):
    return Request(train={"data": "d.h5", **train}, data_systems={"d.h5": SYSTEMS}, systems=LAST)


def untrained(stage, stages, asked):
    return [(name, config.params["systems"]) for name, config in zero_shot(stage, stages, asked)]


def folds_of(count):
    return [list(make_split(SYSTEMS, "k-fold", folds=count, fold=fold).test[: len(LAST)]) for fold in range(count)]


def test_the_base_model_forecasts_the_series_of_the_default_split():
    scores = Stage(name="scores", evaluate=["plain"], zero_shot=["raw"])
    assert untrained(scores, [PLAIN, scores], request()) == [("zero-shot-raw-tiny", LAST)]


@pytest.mark.parametrize("evaluated", ["folds", "later"])
def test_it_forecasts_every_fold_of_the_stages_that_are_evaluated(evaluated):
    scores = Stage(name="scores", evaluate=[evaluated], zero_shot=["raw"])
    found = untrained(scores, [FOLDS, LATER, scores], request())
    assert found == [(f"zero-shot-raw-tiny-f{fold}", systems) for fold, systems in enumerate(folds_of(3))]


def test_stages_of_two_splits_have_it_on_both():
    scores = Stage(name="scores", evaluate=["plain", "folds", "later"], zero_shot=["raw"])
    found = untrained(scores, [PLAIN, FOLDS, LATER, scores], request())
    assert [name for name, _ in found] == ["zero-shot-raw-tiny", *(f"zero-shot-raw-tiny-f{fold}" for fold in range(3))]


def test_a_stage_that_evaluates_nothing_has_the_split_of_train():
    scores = Stage(name="scores", zero_shot=["raw", "instruct"])
    found = untrained(scores, [scores], request(split="k-fold", folds=2))
    assert [name for name, _ in found] == [
        f"zero-shot-{prompt}-tiny-f{fold}" for prompt in ("raw", "instruct") for fold in (0, 1)
    ]
    assert [systems for _, systems in found] == folds_of(2) * 2


def test_a_plan_without_the_data_counts_the_series_of_each_fold():
    scores = Stage(name="scores", evaluate=["folds"], zero_shot=["raw"])
    found = zero_shot(scores, [FOLDS, scores], Request(train={"data": "d.h5"}), series=7)
    assert [len(config.params["systems"]) for _, config in found] == [7, 7, 7]


@pytest.mark.parametrize(("asked", "expected"), [(200, [6, 7, 7]), (3, [3, 3, 3])])
def test_a_plan_counts_no_more_series_than_a_fold_has(asked, expected):
    configs = request().configs(FOLDS, [FOLDS])
    assert [task_of(config).scored(config.params, asked) for config in configs] == expected


def test_a_request_is_read_by_a_release_that_knows_no_splits():
    assert "data_systems" not in Request(train={"data": "d.h5"}).model_dump(mode="json")
    assert Request.model_validate_json(request().model_dump_json()) == request()
