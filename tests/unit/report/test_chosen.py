"""Which evaluated models a report shows: chosen without the scored series, and called so where it was by them."""

import pytest
from report_helpers import Finished, a_material, data

from lvjobs.records.summary import StageStatus, read_row
from lvjobs.report.chosen import choose

pytestmark = pytest.mark.heavy

__all__ = ["data"]


@pytest.fixture
def finished(tmp_path, data):
    return Finished(tmp_path, data)


def stage(name, winner=None, *, by_hand=False):
    because = "lowest validation_loss at the end: 0.9"
    return read_row(StageStatus, {"name": name, "winner": winner, "because": because, "by_hand": by_hand})


def add(finished, name, stage="stage1", *, noise=0.1, losses=(1.0, 0.9), **settings):
    return finished.evaluated(finished.trained(name, stage, losses=losses, **settings), noise=noise)


def names(models):
    return [model.label for model in models]


@pytest.fixture
def two_stages(finished):
    """The winner of neither stage has the lowest error on the scored series."""
    add(finished, "s1-good", noise=0.3, lora_rank=2)
    add(finished, "s1-lucky", noise=0.001, lora_rank=4)
    add(finished, "s2-good", "stage2", noise=0.2, context_length=128)
    add(finished, "s2-other", "stage2", noise=0.1, context_length=256)
    finished.evaluated(noise=0.5)
    return finished


def test_the_last_stages_winner_is_chosen_whatever_its_test_score(two_stages):
    found = choose(a_material(two_stages, stages=[stage("stage1", "s1-good"), stage("stage2", "s2-good")]))
    assert found.chosen.name == "s2-good"
    assert found.chosen.how == "the winner by lowest validation_loss at the end: 0.9 (stage stage2)"
    assert names(found.others) == ["s1-good"]
    assert names(found.drawn) == ["s2-good", "s1-good", "s1-lucky (best by test score)", "zero-shot raw"]
    assert found.marked == {"s2-good"}
    assert not found.notes


def test_a_winner_chosen_by_hand_is_called_so(two_stages):
    found = choose(a_material(two_stages, stages=[stage("stage1", "s1-lucky", by_hand=True)]))
    assert (found.chosen.name, found.chosen.how) == ("s1-lucky", "chosen by hand (stage stage1)")
    assert "s1-lucky (best by test score)" not in names(found.drawn)


def test_a_winner_that_was_not_evaluated_is_said_to_be_missing(two_stages):
    two_stages.trained("s2-best", "stage2", losses=(1.0, 0.1), context_length=64)
    found = choose(a_material(two_stages, stages=[stage("stage1", "s1-good"), stage("stage2", "s2-best")]))
    assert found.chosen.name == "s1-good"
    assert found.notes == ["The winner of stage stage2, s2-best, was not evaluated on these series."]


def test_without_a_winner_the_lowest_validation_loss_at_the_end_chooses(finished):
    add(finished, "lucky", noise=0.001, losses=(1.0, 0.1, 0.8), lora_rank=2)
    add(finished, "good", noise=0.3, losses=(1.0, 0.6, 0.7), lora_rank=4)
    found = choose(a_material(finished))
    assert (found.chosen.name, found.chosen.by_test) == ("good", False)
    assert found.chosen.how == "the lowest validation loss at the end of 2 evaluated models"
    assert found.best_by_test.name == "lucky"


def test_where_only_the_scored_series_can_choose_that_is_said(finished):
    add(finished, "one", noise=0.3, lora_rank=2)
    add(finished, "unknown", noise=0.1, lora_rank=4)
    losses = [each for each in a_material(finished).losses["stage1"] if each.run == "one"]
    found = choose(a_material(finished, losses={"stage1": losses}))
    assert (found.chosen.label, found.chosen.by_test) == ("unknown (best by test score)", True)
    assert found.chosen.how.endswith("because not every run has a validation loss")


def test_runs_that_differ_in_their_seed_are_one_model(finished):
    for seed, loss in ((0, 0.5), (1, 0.9)):
        add(finished, f"r2-s{seed}", losses=(1.0, loss), lora_rank=2, seed=seed)
        add(finished, f"r4-s{seed}", losses=(1.0, 0.6), lora_rank=4, seed=seed)
    found = choose(a_material(finished))
    assert [len(model.runs) for model in found.every] == [2, 2]
    # 0.6 twice, against a mean of 0.7, though one seed of the other has 0.5
    assert found.chosen.name == "r4-s0"
    won = choose(a_material(finished, stages=[stage("stage1", "r2-s1")])).chosen
    assert ([each.subject for each in won.runs], won.name) == (["r2-s1", "r2-s0"], "r2-s1")


def test_zero_shot_is_the_base_of_the_chosen_model(finished):
    finished.evaluated(noise=0.5)
    add(finished, "one", decimals=3)
    assert choose(a_material(finished)).zero_shot is None
    finished.evaluated(noise=0.5, decimals=3)
    assert choose(a_material(finished)).zero_shot.runs[0].config.training.decimals == 3


def test_without_a_tuned_model_nothing_is_chosen(finished):
    assert choose(a_material(finished)).drawn == []
    finished.evaluated()
    found = choose(a_material(finished))
    assert (found.chosen, names(found.drawn)) == (None, ["zero-shot raw"])
