"""The estimate before anything is submitted: FLOPs part by part, what the ledger already provides for, time and disk."""

from dataclasses import replace

import pytest
from control_builders import an_attempt

from lvjobs.control.budget.accounts import Account, Terms, keep_books
from lvjobs.control.budget.pace import Pace, Stopwatch, makespan, samples_of
from lvjobs.control.planning.estimate import Cell, ClusterCapacity, StageCells, estimate, sketch
from lvjobs.control.planning.foresee import foresee, unfolded
from lvjobs.control.planning.ledger_view import LedgerView
from lvjobs.control.planning.plans import FlopNeed
from lvjobs.forecasting.evaluations import EvaluationRequest, evaluation
from lvjobs.forecasting.origins import evaluation_at
from lvjobs.forecasting.tasks import adapter_parameters
from lvjobs.ledger.records import WorkCounts
from lvjobs.study.config import TrainSettings, load_study
from lvjobs.study.params import TrainingConfig
from lvjobs.study.stages import Prune
from lvjobs.study.tables import Resources
from lvjobs.study.words import HeldFor, RunState
from lvjobs.sweep.request import Request
from lvjobs.tasks.registry import rates_of

RATES = {
    "official": {"training": 1000, "validation": 100, "generation": 10},
    "published-formula": {"training": 300, "validation": 30, "generation": 3},
}
TERMS = Terms(limit=10**9)
QWEN = "Qwen/Qwen2.5-0.5B-Instruct"


def a_config(**settings):
    """1,000 steps; a checkpoint and a validation of 8 windows every 250, and one before the first step."""
    base = {"steps": 1000, "validation_limit": 8, "data": "/data.h5"}
    return TrainSettings(**{**base, **settings}).run_config()


def a_cell(rates=RATES, series=20, account=None, checkpoint=0, state=RunState.PLANNED, **settings):
    run = replace(sketch(a_config(**settings), rates, "s", "lab"), id="r1", name="one", state=state)
    return Cell(run, series, account, checkpoint)


def with_account(cell, units, reserved):
    return replace(cell, account=Account(cell.run, units, reserved=reserved))


def foreseen(*stages, terms=TERMS, stopwatch=None, place=None):
    return estimate(stages, keep_books(terms, [], [], {}), stopwatch or Stopwatch({}), place or ClusterCapacity())


# -- FLOPs ------------------------------------------------------------------------------------------------------------


def test_each_part_of_a_run_is_counted():
    cell = a_cell()
    parts = {part: cell.flops("official", part) for part in ("training", "validation", "evaluation", "replay")}
    assert parts == {
        "training": 1000 * 1000,
        "validation": 5 * 8 * 100,
        "evaluation": 20 * 10,
        "replay": 250 * 1000 + 2 * 8 * 100,  # before the first step it validates once more
    }
    assert a_cell(validation_systems=3).flops("official", "validation") == 5 * 3 * 100
    for no_fewer in (0, 8, 100):
        assert a_cell(validation_systems=no_fewer).flops("official", "validation") == 5 * 8 * 100
    assert cell.flops("published-formula", "training") == 300_000


def test_a_new_run_needs_all_of_it():
    assert a_cell().need(TERMS) == FlopNeed(1_000_000 + 4000 + 200, 250_000 + 1600)
    assert a_cell().need(Terms(10**9, convention="published-formula")) == FlopNeed(300_000 + 1200 + 60, 75_000 + 480)


def test_inference_that_does_not_count_is_not_needed():
    assert a_cell().need(Terms(10**9, counts_inference=False)) == FlopNeed(1_000_000, 250_000)


def test_what_is_reserved_is_not_needed_again():
    cell = with_account(a_cell(state=RunState.RUNNING), {"useful": 400}, WorkCounts(1250, 56))
    assert cell.need(TERMS) == FlopNeed(200, 0)


def test_a_run_that_waits_with_nothing_set_aside_needs_what_lies_ahead():
    cell = with_account(a_cell(state=RunState.HELD, checkpoint=500), {"useful": 500, "replayed": 90}, None)
    assert cell.need(TERMS) == FlopNeed(500_000 + 2 * 8 * 100 + 200, 250_000 + 800)


def test_of_a_finished_run_only_the_forecasts_that_were_not_made_are_needed():
    done = a_cell(state=RunState.COMPLETED)
    assert with_account(done, {"useful": 1000}, None).need(TERMS) == FlopNeed(200, 0)
    assert with_account(done, {"useful": 1000, "generation": 15}, None).need(TERMS) == FlopNeed(50, 0)
    assert with_account(done, {"useful": 1000, "generation": 25}, None).need(TERMS) == FlopNeed(0, 0)
    assert with_account(a_cell(state=RunState.CANCELLED), {}, None).need(TERMS) == FlopNeed(0, 0)


def test_a_stage_sums_its_runs_by_each_convention():
    rows = foreseen(StageCells("s", [a_cell(), a_cell(steps=500)]), StageCells("t", [a_cell(series=0)]))
    row = rows["stages"][0]
    assert (row["runs"], row["existing"], row["steps"], row["windows"], row["series"]) == (2, 0, 1500, 64, 40)
    assert row["training"] == {"published-formula": 450_000, "official": 1_500_000}
    assert rows["total"]["training"] == {"published-formula": 750_000, "official": 2_500_000}
    assert rows["total"]["steps"] == 2500
    assert rows["conventions"] == ["published-formula", "official"]
    # the last stage holds what it needs, the first has given back its intervals
    assert rows["needed"] == (1_504_000 + 400 + 2400) + 1_004_000 + 251_600
    assert rows["needed_for_evaluation"] == 400


def test_of_a_halved_stage_all_runs_are_counted_to_the_rung_and_the_dearest_beyond():
    cells = [a_cell(), a_cell(steps=2000), a_cell(seed=1), a_cell(seed=2)]
    rule = Prune(rule="halving", at=["1/4"], keep=[2])
    row = foreseen(StageCells("s", cells, rule))["stages"][0]
    assert row["steps"] == 250 + 500 + 250 + 250 + (1500 + 750)
    assert row["training"]["official"] == 1000 * row["steps"]
    assert row["windows"] == 8 * (2 + 3 + 2 + 2 + (6 + 3))
    assert row["series"] == 2 * 20, "what stops at the rung is not evaluated"
    assert foreseen(StageCells("s", cells, rule, seeds=2))["stages"][0]["steps"] == row["steps"] + 2 * 750
    need = StageCells("s", cells, rule).demand(TERMS).need
    assert need == FlopNeed(1000 * row["steps"] + 100 * row["windows"] + 10 * row["series"], 4 * 251_600)


def test_a_halved_stage_that_has_begun_needs_what_is_not_reserved():
    rule = Prune(rule="halving", at=["1/4"], keep=[1])
    begun = [
        with_account(replace(a_cell(), run=replace(a_cell().run, stop_at=250)), {}, WorkCounts(500, 32)) for _ in "ab"
    ]
    assert StageCells("s", begun, rule).demand(TERMS).need == FlopNeed(750_000 + 3 * 800 + 200, 0)
    pruned = replace(begun[0], run=replace(begun[0].run, stop_at=0, held_for=HeldFor.PRUNED))
    assert StageCells("s", [pruned, pruned], rule).demand(TERMS).need.total <= 400


def test_a_halved_stage_takes_as_long_as_its_phases():
    cells = [a_cell(), a_cell(seed=1), a_cell(seed=2)]
    rule = Prune(rule="halving", at=["1/4"], keep=[1])
    paces = [Pace(1.0, 0.0, 0.0, "given")] * 3
    assert StageCells("s", cells, rule).phases(paces) == [[250.0] * 3, [750.0]]
    assert StageCells("s", cells).phases(paces) == [[1000.0] * 3]


def test_a_convention_that_a_run_does_not_know_is_left_out():
    rows = foreseen(StageCells("s", [a_cell(), a_cell(rates={"official": RATES["official"]})]))
    assert rows["conventions"] == ["official"]
    assert "published-formula" not in rows["total"]["training"]


def test_a_stage_in_the_ledger_cannot_be_cut():
    assert StageCells("s", [a_cell(), a_cell(seed=1)]).demand(TERMS).is_new
    begun = with_account(a_cell(), {}, None)
    demand = StageCells("s", [a_cell(steps=3000, checkpoint_every=100, validate_every=100), begun]).demand(TERMS)
    assert not demand.is_new
    assert (demand.runs, demand.steps, demand.interval) == (2, 3000, 500)


def test_a_cut_stage_costs_what_shorter_runs_would():
    demand = StageCells("s", [a_cell(), a_cell(steps=250)]).demand(TERMS)
    assert demand.price(500) == a_cell(steps=500).need(TERMS) + a_cell(steps=250).need(TERMS)
    assert demand.need == demand.price(1000)


def test_what_another_stage_trains_already_is_told_and_not_needed_again():
    same, other = a_cell(), a_cell(seed=1)
    again = replace(same, same_as="s")
    rows = foreseen(StageCells("s", [same, other]), StageCells("t", [again]), StageCells("u", [again]))
    saves = 1_004_200
    assert rows["reuse"] == [
        {"stage": "t", "same_as": "s", "runs": 1, "saves": saves},
        {"stage": "u", "same_as": "s", "runs": 1, "saves": saves},
    ]
    assert rows["needed"] == 2 * saves + 2 * 251_600
    assert rows["needed_for_evaluation"] == 2 * 200
    assert rows["total"]["training"]["official"] == 4 * 1_000_000, "what the stages are made of, whoever trains it"
    assert again.cut(500).need(TERMS) == same.cut(500).need(TERMS), "with fewer steps it is another run"


# -- disk -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"model": QWEN, "lora_rank": 2}, 135_168),
        ({"model": QWEN, "lora_rank": 4}, 270_336),
        ({"model": QWEN, "lora_rank": 8}, 540_672),
        ({"model": "tiny", "lora_rank": 8}, 24_576),
        ({"model": "tiny", "lora_rank": 32}, 98_304),
        ({"model": "tiny", "lora_rank": 8, "lora_targets": "all-linear"}, 104_448),
    ],
)
def test_an_adapter_has_as_many_weights_as_was_observed(settings, parameters):
    assert adapter_parameters(TrainingConfig(**a_cell(**settings).run.config["params"])) == parameters


def test_a_checkpoint_holds_weights_and_two_moments():
    assert a_cell(model=QWEN, lora_rank=4).checkpoint_bytes == 270_336 * 4 * 3


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({}, 3), ({"keep_best": False}, 2), ({"keep_last": 1}, 2), ({"keep_last": 9}, 4), ({"steps": 100}, 1)],
)
def test_the_last_checkpoints_stay_and_the_best(settings, kept):
    cell = a_cell(**settings)
    assert cell.kept_bytes == kept * cell.checkpoint_bytes


def test_a_stage_keeps_what_its_runs_keep():
    row = foreseen(StageCells("s", [a_cell(lora_rank=2), a_cell(lora_rank=8)]))["stages"][0]
    assert row["checkpoint_bytes"] == a_cell(lora_rank=8).checkpoint_bytes
    assert row["kept_bytes"] == 3 * (a_cell(lora_rank=2).checkpoint_bytes + a_cell(lora_rank=8).checkpoint_bytes)


# -- time -------------------------------------------------------------------------------------------------------------


def a_measured(name="one", profile="lab", rates=RATES, **settings):
    return replace(sketch(a_config(**settings), rates, "s", profile), id=name, name=name)


def took(run, **changes):
    """100 steps of 2 s, 10 windows of 0.5 s, 2 checkpoints of 3 s."""
    base = {
        "run_id": run.id,
        "executed": 100,
        "train_seconds": 200.0,
        "validation_windows": 10,
        "validation_seconds": 5.0,
        "checkpoints": 2,
        "checkpoint_seconds": 6.0,
    }
    return an_attempt(**{**base, **changes})


def faster(rates, factor):
    return {name: {kind: int(value * factor) for kind, value in kinds.items()} for name, kinds in rates.items()}


def test_a_run_of_the_same_settings_is_measured():
    run = a_measured()
    again = a_measured("two", seed=1, learning_rate=1e-3, steps=77)
    pace = Stopwatch(samples_of([run, again], [took(run), took(again, executed=300, train_seconds=1000.0)])).pace(
        a_cell().run
    )
    assert pace == Pace(1200 / 400, 0.5, 3.0, "measured")


def test_a_whole_run_takes_its_steps_validations_and_checkpoints():
    assert Pace(2.0, 0.5, 3.0, "measured").of_run(a_config().model_dump()) == 1000 * 2 + 40 * 0.5 + 4 * 3
    assert Pace(2.0, 0.0, 3.0, "measured").of_run(a_config(steps=251).model_dump()) == 251 * 2 + 2 * 3


@pytest.mark.parametrize(
    "settings",
    [
        {"context_length": 768},
        {"lora_rank": 8},
        {"batch_size": 8},
        {"lora_targets": "all-linear"},
        {"precision": "bf16"},
        {"threads": 2},
    ],
    ids=str,
)
def test_other_settings_are_scaled_by_their_flops(settings):
    run = a_measured()
    wanted = a_cell(rates=faster(RATES, 3), **settings).run
    assert Stopwatch(samples_of([run], [took(run)])).pace(wanted) == Pace(6.0, 1.5, 3.0, "scaled", "one")


def test_it_is_scaled_from_the_nearest_run_of_the_same_model():
    far, near = a_measured("far"), a_measured("near", rates=faster(RATES, 9), context_length=768)
    other = a_measured("other", rates=faster(RATES, 10), model=QWEN)
    runs = [far, near, other]
    stopwatch = Stopwatch(samples_of(runs, [took(run) for run in runs]))
    wanted = a_cell(rates=faster(RATES, 10), context_length=900).run
    assert stopwatch.pace(wanted).of == "near"
    assert stopwatch.pace(a_cell(rates=faster(RATES, 2), context_length=900).run).of == "far"
    assert stopwatch.pace(a_cell(rates=faster(RATES, 10), context_length=900, model=QWEN).run).of == "other"


def test_another_cluster_tells_nothing():
    run = a_measured(profile="local")
    assert Stopwatch(samples_of([run], [took(run)])).pace(a_cell().run) is None


def test_a_journal_without_seconds_tells_nothing():
    run = a_measured()
    assert Stopwatch(samples_of([run], [took(run, train_seconds=0.0)])).pace(a_cell().run) is None
    assert Stopwatch(samples_of([run], [took(run, executed=0)])).pace(a_cell().run) is None


def test_windows_that_were_not_timed_are_scaled_from_steps():
    run = a_measured()
    stopwatch = Stopwatch(samples_of([run], [took(run, validation_windows=0, validation_seconds=0.0, checkpoints=0)]))
    assert stopwatch.pace(a_cell().run).window == pytest.approx(2.0 * 100 / 1000)


def test_a_speed_that_is_given_comes_after_what_was_measured():
    run = a_measured()
    stopwatch = Stopwatch(samples_of([run], [took(run)]), flops_per_second=500.0)
    assert stopwatch.pace(a_cell(lora_rank=8).run) == Pace(2.0, 0.2, 0.0, "given")
    assert stopwatch.pace(a_cell().run).source == "measured"


@pytest.mark.parametrize(("at_once", "seconds"), [(None, 5), (1, 12), (2, 7), (3, 6), (9, 5), (10**18, 5)])
def test_a_stage_takes_as_long_as_its_places_are_taken(at_once, seconds):
    """5, 1, 1, 5: on two places the last begins after the second and third."""
    assert makespan([5, 1, 1, 5], at_once) == seconds


def test_the_times_of_a_stage():
    run = a_measured()
    stopwatch = Stopwatch(samples_of([run], [took(run)]))
    cells = [a_cell(), a_cell(seed=1), a_cell(seed=2)]
    row = foreseen(StageCells("s", cells), stopwatch=stopwatch, place=ClusterCapacity(gpus=2, at_once=2))["stages"][0]
    one = 1000 * 2 + 40 * 0.5 + 4 * 3
    assert (row["time_source"], row["time_from"], row["step_seconds"]) == ("measured", None, 2.0)
    assert (row["run_seconds"], row["stage_seconds"], row["gpu_seconds"]) == (one, 2 * one, 6 * one)


@pytest.mark.parametrize(
    ("place", "jobs"),
    [
        (ClusterCapacity(), [5, 1, 1, 5]),
        (ClusterCapacity(pack=3), [7, 5]),
        (ClusterCapacity(pack=3, side_by_side=2), [5, 5]),
        (ClusterCapacity(pack=9, side_by_side=9), [5]),
    ],
)
def test_runs_that_share_a_job_take_it_together(place, jobs):
    assert place.jobs([5, 1, 1, 5]) == jobs


def test_one_guess_makes_the_stage_a_guess_and_one_unknown_an_unknown():
    run = a_measured()
    stages = [StageCells("s", [a_cell(), a_cell(lora_rank=8)]), StageCells("t", [a_cell()])]
    rows = foreseen(*stages, stopwatch=Stopwatch(samples_of([run], [took(run)])))
    assert [row["time_source"] for row in rows["stages"]] == ["scaled", "measured"]
    assert rows["stages"][0]["time_from"] == "one"
    assert rows["total"]["stage_seconds"] == sum(row["stage_seconds"] for row in rows["stages"])
    unknown = StageCells("u", [a_cell(), replace(a_cell(), run=replace(a_cell().run, profile="elsewhere"))])
    rows = foreseen(*stages, unknown, stopwatch=Stopwatch(samples_of([run], [took(run)])))
    assert rows["stages"][2]["run_seconds"] is None
    assert rows["total"]["stage_seconds"] is None


@pytest.mark.parametrize(("state", "left"), [(RunState.QUEUED, 50), (RunState.CANCELLED, 200)])
def test_an_evaluation_that_exists_is_not_foreseen_again(tmp_path, state, left):
    study = load_study(tmp_path)
    config = study.config.train.run_config()
    trained = replace(sketch(config, rates_of(config), "s"), id="trained", name="trained")
    asked = evaluation(TrainingConfig.model_validate(config.params), EvaluationRequest(), range(150))
    forecasts = sketch(asked, rates_of(asked), "evaluate")
    forecasts = replace(forecasts, id="scored", name="scored", after="trained", state=state)
    told = foresee(study, {"s": [config]}, LedgerView([trained, forecasts]), Resources(), "local")
    assert told["stages"][0]["series"] == left


def test_every_origin_of_an_evaluation_is_foreseen_at_its_own_price(tmp_path):
    """One evaluation from another origin exists already, in part."""
    stages = '[[stage]]\nname = "s"\n[[stage]]\nname = "scores"\nevaluate = ["s"]\nzero_shot = ["raw"]\n'
    for origins in ("[40, 80, 60]", "[]"):
        (tmp_path / "study.toml").write_text(f"[evaluation]\nseries = 20\norigins = {origins}\n" + stages)
        study = load_study(tmp_path)
        config = Request().configs(study.config.stage_named("s"), study.config.stage)[0]
        asked = evaluation(TrainingConfig.model_validate(config.params), EvaluationRequest(), range(20), "/adapter")
        prices = {at: rates_of(evaluation_at(asked, at))["official"]["generation"] for at in (80, 60, 40)}
        chosen = [80, 60, 40] if origins != "[]" else [80]
        trained = replace(sketch(config, rates_of(config), "s"), id="trained", name="trained")
        there = evaluation_at(asked.model_copy(update={"params": {**asked.params, "systems": [7, 8, 9]}}), 60)
        scored = replace(sketch(there, rates_of(there), "evaluate"), id="scored", name="scored", after="trained")
        left = {80: 20, 60: 17, 40: 20}
        for seen, series in ((LedgerView(), dict.fromkeys(left, 20)), (LedgerView([trained, scored]), left)):
            configs = unfolded(study, Request(), seen)
            told = foresee(study, configs, seen, Resources(), "local")
            by_name = {stage["name"]: stage for stage in told["stages"]}
            flops = sum(prices[at] * series[at] for at in chosen)
            assert by_name["s"]["series"] == sum(series[at] for at in chosen)
            assert by_name["s"]["evaluation"]["official"] == told["needed_for_evaluation"] == flops
            zero_shot = evaluation(TrainingConfig.model_validate(config.params), EvaluationRequest(), range(20))
            each = [rates_of(evaluation_at(zero_shot, at))["official"]["generation"] for at in chosen]
            assert by_name["scores"]["runs"] == len(chosen)
            assert by_name["scores"]["evaluation"]["official"] == 20 * sum(each)


def test_a_single_run_is_foreseen_as_evaluated_from_its_own_origin_alone(tmp_path):
    (tmp_path / "study.toml").write_text("[evaluation]\nseries = 20\norigins = [40]\n")
    study = load_study(tmp_path)
    told = foresee(study, {"train": [study.config.train.run_config()]}, LedgerView(), Resources(), "local")
    assert told["stages"][0]["series"] == 20
