"""Stages that follow one another with nobody there: on a simulated cluster, with the worker of few words."""

import math
from dataclasses import replace

import pytest
from control_scenes import EVERY, make_haste
from simulator.engine import Manners
from stage_scenes import FIRST, LAST, OTHER, REQUEST, SECOND, TABLE, Sweep

from lvjobs.control.stages import pruning, submit_runs
from lvjobs.control.stages.requests import asked_for, choose, go_on_without_held, retry_held, stop
from lvjobs.control.stages.submit_runs import enter
from lvjobs.control.submission.declare import RunRequest, default_name
from lvjobs.errors import UsageError
from lvjobs.ledger.records import WorkCounts
from lvjobs.study.stages import Prune, Stage
from lvjobs.study.tables import Resources


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    make_haste(monkeypatch)

    def make(*stages, **more):
        return Sweep(tmp_path, *stages, **more)

    return make


RANK4 = "first-r4-lr1e-05-c512-s0"
WINS = {RANK4: 0.1, "second-r4-lr1e-05-c32-s0": 0.05}


def test_everything_from_one_command(sweep):
    scene = sweep(FIRST, SECOND, LAST, TABLE, OTHER)
    scene.losses |= WINS
    scene.ask()
    assert scene.stands("first", "second", "last", "table", "other") == [
        "running",
        "asked",
        "asked",
        "running",
        "running",
    ]
    assert scene.stage("second")["reason"] == "depends on first"
    scene.go(600)
    assert set(scene.stands("first", "second", "last", "table", "other")) == {"completed"}
    assert scene.winner("first").startswith(RANK4)
    assert scene.winner("second").startswith("second-r4-lr1e-05-c32")
    assert scene.winner("last").startswith("last-r4-lr1e-05-c32")
    assert len(scene.cells("table")) == 3 + 1
    assert {row["state"] for row in scene.rows("runs")} == {"completed"}
    assert len(scene.jobs_made()) == len(set(scene.jobs_made())) == 3 + 1 + 1 + 1 + 4, "each is submitted once"


def test_a_cell_that_is_a_run_already_is_not_trained_again(sweep):
    scene = sweep(FIRST, SECOND)
    scene.losses |= WINS
    scene.ask()
    scene.go(300)
    (rank4,) = [name for name in scene.cells("first") if name.startswith(RANK4)]
    assert rank4 in scene.cells("second"), "512 tokens, with the winner's rank: stage one trained it"
    assert len(scene.cells("second")) == 2
    assert scene.jobs_made().count(rank4) == 1


def test_one_array_a_stage(sweep):
    scene = sweep(FIRST, SECOND)
    scene.ask()
    assert len(scene.cluster.jobs) == 3
    assert len({job.request.token for job in scene.cluster.jobs}) == 1


@pytest.mark.parametrize(
    ("losses", "winner"),
    [
        ({"first-r2-lr1e-05-c512-s0": math.nan, RANK4: 0.2, "first-r8-lr1e-05-c512-s0": 0.3}, RANK4),
        ({"first-r2-lr1e-05-c512-s0": 0.1, RANK4: 0.1, "first-r8-lr1e-05-c512-s0": 0.3}, "first-r2-"),
    ],
    ids=["NaN in one", "two tied"],
)
def test_a_winner_all_the_same(sweep, losses, winner):
    scene = sweep(FIRST, SECOND)
    scene.losses |= losses
    scene.ask("first")
    scene.go(300)
    assert scene.winner("first").startswith(winner)


def test_a_value_that_is_missing(sweep):
    scene = sweep(FIRST, SECOND)
    scene.worker.silent = True
    scene.ask()
    scene.go(300)
    assert scene.stands("first", "second") == ["held", "asked"]
    assert "no training_loss" in scene.stage("first")["reason"]
    assert "--winner RUN" in scene.stage("first")["reason"]
    told = scene.do(choose, "first", scene.cells("first")[2], "it looks best in the plots")
    assert any("chosen by hand: it looks best" in line for line in told)
    assert scene.stands("first", "second") == ["completed", "running"]
    assert all("-r8-" in name for name in scene.cells("second"))


def test_a_preempted_cell_is_no_failed_trial(sweep):
    scene = sweep(FIRST, SECOND)
    scene.losses |= WINS
    scene.ask()
    rank4 = scene.reach(5, scene.cells("first")[1])
    scene.cluster.preempt(rank4.id)
    scene.go(900)
    assert scene.winner("first").startswith(RANK4)
    assert "preempted" in scene.causes(scene.winner("first"))
    assert scene.stands("first", "second") == ["completed", "completed"]


def held(sweep, **more):
    """A scene whose first stage has one run that its code broke."""
    scene = sweep(FIRST.model_copy(update=more), SECOND)
    scene.losses |= WINS
    scene.ask()
    broken = scene.cells("first")[0]
    scene.worker.failing[broken] = 3
    scene.go(300)
    assert scene.state(broken) == "held"
    return scene, broken


def test_a_held_cell_blocks_its_stage_and_says_so(sweep):
    scene, broken = held(sweep)
    assert scene.stands("first", "second") == ["running", "asked"]
    reason = scene.stage("first")["reason"]
    assert f"waits for {broken}, held" in reason
    assert "--without-held" in reason
    scene.worker.failing.clear()
    assert any("resumed" in line for line in scene.do(retry_held, "first"))
    scene.go(300)
    assert scene.stands("first", "second") == ["completed", "completed"]


def test_a_stage_goes_on_without_its_held_cell_where_it_may(sweep):
    scene, broken = held(sweep, on_hold="skip", quorum=2)
    assert scene.stands("first", "second") == ["completed", "completed"]
    assert f"{broken} (held)" in scene.stage("first")["because"]


def test_a_stage_of_evaluations_goes_on_without_the_one_of_a_held_run_where_it_may(sweep):
    first = FIRST.model_copy(update={"on_hold": "skip", "quorum": 2})
    scene = sweep(first, Stage(name="table", evaluate=["first"], on_hold="skip"))
    scene.ask()
    broken = scene.cells("first")[0]
    scene.worker.failing[broken] = 3
    scene.go(600)
    assert scene.state(broken) == "held"
    assert scene.stands("first", "table") == ["completed", "completed"]
    assert [scene.state(name) for name in scene.cells("table")].count("completed") == 2
    scene.worker.failing.clear()
    scene.resume_runs(broken)
    scene.go(600)
    assert {scene.state(name) for name in scene.cells("table")} == {"completed"}


def test_not_before_there_is_a_quorum(sweep):
    scene, _ = held(sweep, on_hold="skip", quorum=3)
    assert scene.stands("first", "second") == ["running", "asked"]


def test_the_user_may_say_so_later(sweep):
    scene, _ = held(sweep)
    scene.do(go_on_without_held, "first", None)
    scene.go(300)
    assert scene.stands("first", "second") == ["completed", "completed"]


def test_a_cancelled_cell_is_not_waited_for(sweep):
    scene = sweep(FIRST, SECOND)
    scene.ask("first")
    scene.cancel(scene.cells("first")[0])
    scene.go(300)
    assert scene.stage("first")["state"] == "completed"
    assert "cancelled" in scene.stage("first")["because"]


def test_a_stage_that_does_not_fit_begins_not_at_all_and_goes_on_when_it_fits(sweep):
    price = 100 * (12 + EVERY)
    scene = sweep(FIRST, SECOND, budget={"limit": 3 * price + 10, "count_inference": False})
    scene.losses |= WINS
    scene.ask()
    scene.go(300)
    assert scene.stands("first", "second") == ["completed", "asked"]
    assert "waits for the budget" in scene.stage("second")["reason"]
    assert scene.cells("second") == []
    scene.bind(limit=10**7, count_inference=False)
    scene.go(300)
    assert scene.stands("second") == ["completed"]


def test_a_stage_after_one_that_nobody_asked_for(sweep):
    scene = sweep(FIRST, SECOND)
    with pytest.raises(UsageError, match="second depends on first, which was not submitted"):
        scene.ask("second")
    scene.ask("first")
    scene.ask("second")
    scene.go(300)
    assert scene.stands("first", "second") == ["completed", "completed"]


def test_asked_again_is_asked_once(sweep):
    scene = sweep(FIRST, SECOND)
    scene.ask()
    assert "first: running already" in scene.ask()
    scene.go(300)
    before = scene.dump()
    assert scene.ask() == ["first: completed already", "second: completed already"]
    assert scene.dump() == before


def test_what_a_later_stage_was_built_on_is_not_changed(sweep):
    scene = sweep(FIRST, SECOND)
    scene.losses |= WINS
    scene.ask()
    scene.go(300)
    other = scene.cells("first")[0]
    with pytest.raises(UsageError, match="second started with the settings of first's winner"):
        scene.do(choose, "first", other, "I like it")
    with pytest.raises(UsageError, match="second started"):
        scene.ask("first", request=REQUEST.model_copy(update={"typed": {"seed": 1}}))
    assert scene.winner("first").startswith(RANK4)


@pytest.mark.parametrize(
    ("word", "because", "words"), [("nobody", "x", "no run 'nobody'"), (None, " ", "needs a reason")]
)
def test_a_choice_that_is_none(sweep, word, because, words):
    scene = sweep(FIRST)
    scene.ask()
    with pytest.raises(UsageError, match=words):
        scene.do(choose, "first", word or scene.cells("first")[0], because)


def test_the_rule_does_not_overrule_the_user(sweep):
    scene = sweep(FIRST, SECOND)
    scene.losses |= WINS
    scene.ask("first")
    chosen = scene.cells("first")[0]
    scene.do(choose, "first", chosen, "the cheapest will do")
    scene.ask("first")
    scene.go(300)
    assert scene.winner("first") == chosen
    assert scene.stage("first")["by_hand"] == 1


def test_what_was_decided_stays_where_the_site_refuses_more_of_it(sweep):
    scene = sweep(FIRST)
    scene.ask()
    scene.go(300)
    chosen = scene.cells("first")[0]
    scene.do(choose, "first", chosen, "the cheapest will do")
    before = scene.stage("first")
    wider = FIRST.model_copy(update={"grid": {"lora_rank": [2, 4, 8, 16]}})
    configs = REQUEST.configs(wider, [wider])
    names = [default_name(config, "first", wider.varied) for config in configs]
    asked = asked_for(wider, REQUEST)
    scene.cluster.submit_faults.append("refused")
    with scene.session() as session, pytest.raises(UsageError, match="nothing was submitted"):
        enter(session, RunRequest(configs, names, "first", "lab", REQUEST.resources, sweep=asked))
    assert scene.stage("first") == before
    assert len(scene.rows("runs")) == 3


def test_study_toml_may_change_while_a_stage_waits(sweep):
    """The requested runs are those that were declared then."""
    scene = sweep(FIRST, SECOND)
    scene.ask()
    config = scene.study.config.model_copy(update={"stage": [FIRST]})
    scene.study = replace(scene.study, config=config)
    scene.go(300)
    assert scene.stands("first", "second") == ["completed", "completed"]
    assert len(scene.cells("second")) == 2


def declared_anew(scene, *stages):
    scene.study = replace(scene.study, config=scene.study.config.model_copy(update={"stage": list(stages)}))


def test_a_stage_that_is_renamed_stays_for_what_was_asked_for_and_names_it(sweep):
    """Each pass would end in an error else, and the driver's too."""
    scene = sweep(FIRST, OTHER, Stage(name="table", evaluate=["first", "other"]))
    scene.ask("first", "table")
    declared_anew(
        scene, FIRST, OTHER.model_copy(update={"name": "new"}), Stage(name="table", evaluate=["first", "new"])
    )
    scene.go(300)
    assert scene.stands("first", "other", "new") == ["completed", "declared", "declared"]
    scene.ask("new", "table")
    scene.go(600)
    assert set(scene.stands("first", "new", "table")) == {"completed"}
    assert "other" not in {row["name"] for row in scene.rows("stages")}


def test_stages_that_make_no_sense_together_are_held_and_passes_go_on(sweep):
    scene = sweep(FIRST, SECOND)
    scene.ask("first", "second")
    scene.do(stop, "first")
    declared_anew(scene, FIRST.model_copy(update={"origin": "second"}), OTHER)
    scene.one_pass()
    assert scene.stage("second")["state"] == "held"
    assert "wait for one another" in scene.stage("second")["reason"]
    assert "lvjobs sweep second" in scene.stage("second")["reason"]
    assert scene.one_pass() == []


def test_stopped_stages_are_asked_for_no_more(sweep):
    scene = sweep(FIRST, SECOND)
    scene.ask()
    scene.reach(3, scene.cells("first")[0])
    scene.do(stop, "all")
    scene.go(300)
    assert scene.stands("first", "second") == ["declared", "declared"]
    assert {row["state"] for row in scene.rows("runs")} == {"paused"}
    assert scene.money()[1] == 0, "nothing is reserved for what is paused"
    assert scene.cells("second") == []


@pytest.mark.parametrize("names", [(), ("first",)], ids=["all", "one"])
def test_a_stopped_stage_goes_on_from_where_it_was_when_it_is_asked_for_again(sweep, names):
    scene = sweep(FIRST, SECOND)
    scene.losses |= WINS
    scene.ask()
    scene.reach(EVERY + 2, scene.cells("first")[0])
    scene.do(stop, "all")
    scene.go(60)
    assert any("resumed" in line for line in scene.ask(*names))
    scene.go(600)
    assert scene.stands("first") == ["completed"]
    first = scene.cells("first")
    assert {scene.state(name) for name in first} == {"completed"}
    assert all(scene.worker.executed[name] < 2 * 12 for name in first), "no run began anew"


def test_a_combination_that_the_grid_has_twice_is_one_run(sweep):
    twice = FIRST.model_copy(update={"grid": {"lora_rank": [4, "4"], "learning_rate": [1e-4, "0.0001"]}})
    scene = sweep(twice, SECOND)
    scene.ask()
    assert len(scene.cells("first")) == 1
    scene.go(300)
    assert scene.stands("first", "second") == ["completed", "completed"]


def test_what_says_only_where_runs_are_trained_is_no_other_question(sweep):
    scene, _ = held(sweep)
    scene.do(go_on_without_held, "first", None)
    scene.go(300)
    elsewhere = REQUEST.model_copy(update={"resources": Resources(time_limit="1:00:00"), "systems": [9]})
    assert scene.ask(request=elsewhere) == ["first: completed already", "second: completed already"]
    with pytest.raises(UsageError, match="second started"):
        scene.ask("first", request=REQUEST.model_copy(update={"train": {**REQUEST.train, "seed": 7}}))


def test_evaluations_that_are_asked_for_first_wait_for_what_they_evaluate(sweep):
    scene = sweep(FIRST, TABLE.model_copy(update={"evaluate": ["first"]}))
    scene.ask("table")
    scene.go(30)
    assert scene.stands("table") == ["running"]
    assert "depends on first, which was not submitted" in scene.stage("table")["reason"]
    scene.ask("first")
    scene.go(300)
    assert scene.stands("first", "table") == ["completed", "completed"]
    assert len(scene.cells("table")) == 3


def test_evaluations_of_an_earlier_release_are_not_asked_for_again(sweep):
    """It called the same configurations by other fingerprints."""
    scene = sweep(FIRST, TABLE.model_copy(update={"evaluate": ["first"]}))
    scene.ask()
    with scene.session() as session, session.ledger.transaction() as transaction:
        for run in transaction.runs():
            transaction.update_run(run.id, fingerprint=run.configuration.former_fingerprint)
    scene.go(300)
    assert scene.stands("first", "table") == ["completed", "completed"]
    assert len(scene.cells("table")) == 3


def test_a_cell_that_waits_for_the_budget_is_not_left_out(sweep):
    price = 100 * (12 + EVERY)
    budget = {"limit": 3 * price, "count_inference": False}
    scene = sweep(FIRST.model_copy(update={"on_hold": "skip"}), budget=budget, manners=Manners(slots=1))
    scene.ask()
    scene.reach(5, scene.cells("first")[0])
    scene.bind(limit=price + 10, count_inference=False)
    scene.go(300)
    assert "budget" in [scene.run(name)["held_for"] for name in scene.cells("first")]
    assert scene.stands("first") == ["running"]
    scene.bind(limit=10**7, count_inference=False)
    scene.go(600)
    assert scene.stands("first") == ["completed"]
    assert "left out" not in scene.stage("first")["because"]


def test_a_crash_between_the_runs_and_the_submission(sweep, monkeypatch):
    """Before the commit nothing is made. After it the runs are in the ledger, and no job: they are submitted once."""
    scene = sweep(FIRST, SECOND)
    scene.losses |= WINS
    scene.ask("first")
    scene.go(300)

    def crash(*_arguments, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(submit_runs, "send_in_turn", crash)
        with pytest.raises(KeyboardInterrupt):
            scene.ask("second")
    assert scene.cells("second") == []
    with monkeypatch.context() as broken:
        broken.setattr(scene.cluster, "submit", crash)
        with pytest.raises(KeyboardInterrupt):
            scene.ask("second")
    assert len(scene.cells("second")) == 2
    scene.go(300)
    assert scene.stands("second") == ["completed"]
    assert len(scene.jobs_made()) == len(set(scene.jobs_made())) == 4


def test_evaluations_are_reserved_with_what_they_follow(sweep):
    scene = sweep(FIRST, TABLE.model_copy(update={"evaluate": ["first"]}))
    scene.ask()
    reserved = [WorkCounts(row["training"], row["validation"], row["generation"]) for row in scene.rows("reservations")]
    assert sum(work.generation for work in reserved) >= 3 * 2
    scene.go(300)
    assert scene.stands("first", "table") == ["completed", "completed"]


def test_evaluations_from_several_origins_are_runs_of_their_own(sweep):
    scene = sweep(FIRST, Stage(name="scores", evaluate=["first"], zero_shot=["raw"]))
    scene.ask(request=REQUEST.model_copy(update={"origins": [40, 80, 60]}))
    scene.go(600)
    assert scene.stands("first", "scores") == ["completed", "completed"]
    names = scene.cells("scores")
    assert len(names) == len(set(names)) == (3 + 1) * 3, "80 is the runs' own, and is there once"
    for beginning in (RANK4, "zero-shot-raw-tiny"):
        own = [name for name in names if name.startswith(f"eval-{beginning}")]
        assert sorted("-origin-40-" in name for name in own) == [False, False, True]
        assert sorted("-origin-" in name for name in own) == [False, True, True]
    with scene.session() as session, session.ledger.transaction() as transaction:
        found = {run.name: run.params["training"]["history_steps"] for run in transaction.runs() if run.name in names}
    assert sorted(found.values()) == [40] * 4 + [60] * 4 + [80] * 4
    assert all(f"-origin-{steps}-" in name for name, steps in found.items() if steps != 80)
    asked = REQUEST.model_copy(update={"origins": [80, 40, 60, 70]})
    scene.ask("scores", request=asked)
    scene.go(600)
    assert len(scene.cells("scores")) == (3 + 1) * 4, "only what is new is evaluated"


def test_extra_baselines_are_part_of_every_evaluation_of_a_stage(sweep):
    scene = sweep(FIRST, Stage(name="scores", evaluate=["first"], zero_shot=["raw"]))
    scene.ask(request=REQUEST.model_copy(update={"origins": [40], "baselines": ["auto-ets"]}))
    scene.go(600)
    assert scene.stands("first", "scores") == ["completed", "completed"]
    with scene.session() as session, session.ledger.transaction() as transaction:
        names = scene.cells("scores")
        runs = [run for run in transaction.runs() if run.name in names]
    assert len(runs) == (3 + 1) * 2
    assert all(run.params["baselines"] == ["auto-ets"] and run.steps == 2 for run in runs)


# -- runs that compare badly ---------------------------------------------------------------------------------------

PRUNED = FIRST.model_copy(
    update={
        "grid": {"lora_rank": [2, 4, 8, 16, 32, 64]},
        "steps": 60,
        "prune": Prune(first=EVERY, factor=3),
    }
)


def test_runs_that_compare_badly_are_paused_and_the_winner_is_of_those_that_ended(sweep):
    scene = sweep(PRUNED, SECOND, TABLE.model_copy(update={"evaluate": ["first"]}), manners=Manners(slots=2))
    names = [f"first-r{rank}-" for rank in (2, 4, 8, 16, 32, 64)]
    scene.losses |= dict(zip(names, (0.9, 0.1, 0.8, 0.7, 0.6, 0.5), strict=True))
    scene.ask()
    scene.go(900, every=5)
    assert scene.stands("first", "second", "table") == ["completed"] * 3
    first = scene.cells("first")
    paused = [name for name in first if scene.state(name) == "paused"]
    assert scene.winner("first").startswith("first-r4-")
    assert len(paused) == 4, "of six, one after another: the first, and the best so far"
    assert "pruned" in scene.stage("first")["because"]
    executed = sum(scene.worker.executed[name] for name in first)
    assert executed < 0.6 * 6 * 60
    assert scene.money()[1] == 0, "nothing is reserved for what is paused, nor for its evaluation"
    assert all(f"to train it anyway: lvjobs resume {name}" in scene.run(name)["reason"] for name in paused)
    assert {scene.state(name) for name in scene.cells("table")} == {"completed", "paused"}


def test_one_that_came_before_worse_ones_is_taken_up_with_its_evaluation(sweep):
    """The second to come is worse than the first, and better than all that come later."""
    stage = PRUNED.model_copy(update={"prune": Prune(first=9 * EVERY, factor=3)})
    scene = sweep(stage, TABLE.model_copy(update={"evaluate": ["first"]}), manners=Manners(slots=1))
    first, second = "first-r2-", "first-r4-"
    scene.losses |= {first: 1.0, second: 1.1} | {f"first-r{rank}-": 9.0 + rank for rank in (8, 16, 32, 64)}
    scene.ask()
    told = []
    for _ in range(300):
        scene.cluster.advance(5)
        told += scene.one_pass()
        if scene.stands("first", "table") == ["completed", "completed"]:
            break
    (name,) = [name for name in scene.cells("first") if name.startswith(second)]
    assert f"{name}: continues: among first's runs at that step it is in the best 1/3 after all" in told
    assert scene.state(name) == "completed"
    assert scene.worker.executed[name] < 60 + EVERY, "from its checkpoint"
    followed = [cell for cell in scene.cells("table") if scene.state(cell) == "completed"]
    assert len(followed) == 2
    assert any(name in cell for cell in followed)
    assert scene.money()[1] == 0
    assert sum("it is in the best" in line for line in told) == 1


def test_a_pruned_run_that_is_taken_up_goes_on_to_its_end(sweep):
    scene = sweep(PRUNED, manners=Manners(slots=2))
    scene.losses |= {f"first-r{rank}-": rank for rank in (2, 4, 8, 16, 32, 64)}
    scene.ask()
    scene.go(600, every=5)
    (last,) = [name for name in scene.cells("first") if name.startswith("first-r64-")]
    before = scene.worker.executed[last]
    assert (scene.state(last), scene.run(last)["held_for"]) == ("paused", "pruned")
    scene.resume_runs(last)
    scene.go(200, every=5)
    assert scene.state(last) == "completed"
    assert scene.worker.executed[last] < 60 + before, "from its checkpoint"


def test_a_stopped_sweep_takes_up_no_pruned_run(sweep):
    scene = sweep(PRUNED, manners=Manners(slots=2))
    scene.losses |= {f"first-r{rank}-": rank for rank in (2, 4, 8, 16, 32, 64)}
    scene.ask()
    scene.go(60, every=5)
    pruned = [name for name in scene.cells("first") if scene.run(name)["held_for"] == "pruned"]
    assert pruned
    scene.do(stop, "first")
    scene.ask("first")
    assert {scene.run(name)["held_for"] for name in pruned} == {"pruned"}


def test_verdicts_do_not_depend_on_who_asks_when(sweep):
    """A session that begins anew in every pass, and one after a crash between two writes, decide alike."""
    scene = sweep(PRUNED, manners=Manners(slots=2))
    scene.losses |= {f"first-r{rank}-": rank for rank in (2, 4, 8, 16, 32, 64)}
    scene.ask()
    scene.go(60, every=5)
    before = {name: scene.state(name) for name in scene.cells("first")}
    with scene.session() as session, session.ledger.transaction() as transaction:
        kept = transaction.row("prunings", pruning.PruningRecord, stage="first")
        transaction.set_rows("prunings", [replace(kept, pruned=[])], stage="first")
    scene.one_pass()
    assert {name: scene.state(name) for name in scene.cells("first")} == before
