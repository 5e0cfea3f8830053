"""Stages whose runs continue the winner of another: what they execute, reserve and cost, and what is refused."""

import hashlib

import pytest
from control_builders import a_run
from control_scenes import EVERY, make_haste
from stage_scenes import FIRST, REQUEST, Sweep

from lvjobs.control.planning.foresee import foresee, unfolded
from lvjobs.control.planning.ledger_view import read_ledger
from lvjobs.control.recovery.run_archive import archive_runs
from lvjobs.control.stages.continuation import (
    assumed_starts,
    continued,
    find_parent,
    start_step,
    why_not_one,
    with_parent,
)
from lvjobs.errors import UsageError
from lvjobs.records.run_files import MANIFEST, CheckpointName, Manifest
from lvjobs.study.layout import StudyLayout
from lvjobs.study.parent import Parent
from lvjobs.study.run import RunConfig
from lvjobs.study.stages import Prune, Stage
from lvjobs.study.words import RunState
from lvjobs.sweep.request import Request
from lvjobs.tasks.registry import rates_of

RANK4 = "first-r4-lr1e-05-c512-s0"
STEPS = 12
MORE = Stage(name="more", origin="first", steps=20, **{"continue": True})


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    make_haste(monkeypatch)

    def make(*stages, **more):
        scene = Sweep(tmp_path, *stages, **more)
        scene.losses |= {RANK4: 0.1}
        return scene

    return make


def run_of(scene, stage):
    """Name and configuration of a stage's only run."""
    (name,) = scene.cells(stage)
    with scene.session() as session, session.ledger.transaction() as transaction:
        return name, next(run for run in transaction.runs() if run.name == name).configuration


def budget_of(scene):
    with scene.session() as session, session.ledger.transaction() as transaction:
        return session.full_books(transaction)


def test_it_trains_the_steps_that_its_winner_did_not(sweep):
    scene = sweep(FIRST, MORE)
    scene.ask()
    scene.go(600)
    assert scene.stands("first", "more") == ["completed", "completed"]
    name, config = run_of(scene, "more")
    assert (config.parent.run, config.parent.step, config.steps) == (scene.winner("first"), STEPS, 20)
    assert scene.worker.executed[name] == 20 - STEPS
    books = budget_of(scene)
    account = next(each for each in books.accounts.values() if each.run.name == name)
    assert (account.units["useful"], account.units["replayed"]) == (20 - STEPS, 0)


def test_killed_its_steps_are_counted_once(sweep):
    scene = sweep(FIRST, MORE)
    scene.ask()
    while not scene.cells("more"):
        scene.go(15)
    (name,) = scene.cells("more")
    while not scene.worker.executed[name]:
        scene.go(1, every=1)
    scene.cluster.kill(scene.job(name).id)
    scene.go(900)
    assert scene.state(name) == "completed"
    account = next(each for each in budget_of(scene).accounts.values() if each.run.name == name)
    assert account.units["useful"] == 20 - STEPS
    assert account.units["useful"] + account.units["replayed"] == scene.worker.executed[name] > 20 - STEPS


def test_it_reserves_what_it_executes_and_one_interval(sweep):
    scene = sweep(FIRST, MORE)
    scene.ask()
    while not scene.cells("more"):
        scene.go(15)
    name, _ = run_of(scene, "more")
    account = next(each for each in budget_of(scene).accounts.values() if each.run.name == name)
    assert account.reserved.training == 20 - STEPS + EVERY


def test_the_plan_is_cheaper_by_exactly_the_steps_that_are_not_trained_twice(sweep):
    plans = []
    for last in (MORE, MORE.model_copy(update={"continues": False})):
        scene = sweep(FIRST, last)
        seen = read_ledger(scene.study, 5)
        configs = unfolded(scene.study, REQUEST, seen)
        plans.append(foresee(scene.study, configs, seen, REQUEST.resources, "local")["stages"][1])
        (config,) = configs["more"]
        scene.study.layout.database.unlink()
    rates = rates_of(config)["official"]
    continuing, whole = plans
    assert (continuing["steps"], whole["steps"]) == (20 - STEPS, 20)
    assert whole["training"]["official"] - continuing["training"]["official"] == STEPS * rates["training"]
    windows = (1 + STEPS // EVERY) * 32  # untrained, and with each checkpoint
    assert whole["validation"]["official"] - continuing["validation"]["official"] == windows * rates["validation"]


def test_a_plan_knows_the_run_that_exists_also_when_the_winners_files_are_packed(sweep):
    scene = sweep(FIRST, MORE)
    scene.ask()
    scene.go(600)

    def row():
        seen = read_ledger(scene.study, 5)
        found = foresee(scene.study, unfolded(scene.study, REQUEST, seen), seen, REQUEST.resources, "lab")
        return next(each for each in found["stages"] if each["name"] == "more")

    assert row()["existing"] == 1
    with scene.session() as session:
        archive_runs(session, [scene.winner("first")])
    assert row()["existing"] == 1


def test_each_seed_continues_the_run_of_its_own(sweep):
    first = FIRST.model_copy(update={"seeds": [0, 1], "grid": {"lora_rank": [4, 8]}})
    scene = sweep(first, MORE.model_copy(update={"seeds": [0, 1]}))
    scene.ask()
    scene.go(900)
    assert scene.stands("more") == ["completed"]
    with scene.session() as session, session.ledger.transaction() as transaction:
        runs = {run.name: run.configuration for run in transaction.runs()}
    children = [runs[name] for name in scene.cells("more")]
    assert [child.seed for child in children] == [runs[child.parent.run].seed for child in children]
    assert sorted(child.seed for child in children) == [0, 1]
    assert len({child.candidate for child in children}) == 1, "they are compared as one candidate"


def test_a_seed_that_the_winner_was_not_trained_with_holds_the_stage(sweep):
    scene = sweep(FIRST, MORE.model_copy(update={"seeds": [0, 5]}))
    scene.ask()
    scene.go(600)
    assert scene.stands("more") == ["held"]
    assert "was not trained with seed = 5" in scene.stage("more")["reason"]
    assert scene.cells("more") == []


def test_a_winner_whose_files_are_gone_holds_the_stage_until_they_are_back(sweep, tmp_path):
    scene = sweep(FIRST, MORE)
    scene.ask("first")
    scene.go(300)
    files = scene.study.layout.run(scene.winner("first")).root
    (tmp_path / "aside").mkdir()
    for checkpoint in files.glob("00*-000*"):
        checkpoint.rename(tmp_path / "aside" / checkpoint.name)
    scene.ask("more")
    scene.go(300)
    assert scene.stands("more") == ["held"]
    assert "has no checkpoint up to step 12" in scene.stage("more")["reason"]
    for checkpoint in (tmp_path / "aside").iterdir():
        checkpoint.rename(files / checkpoint.name)
    scene.ask("more")
    scene.go(300)
    assert scene.stands("more") == ["completed"]


def test_a_run_that_another_is_to_continue_is_not_packed(sweep):
    scene = sweep(FIRST, MORE.model_copy(update={"after": ["other"]}), Stage(name="other", steps=200))
    scene.ask()
    scene.go(120)
    assert scene.stands("first", "more") == ["completed", "asked"]
    with scene.session() as session, pytest.raises(UsageError, match="is continued by stage more, which has not begun"):
        archive_runs(session, [scene.winner("first")])
    scene.cluster.shut = True


def changed(**changes):
    """A run of the bundled training."""
    request = Request(train={"data": "/d.h5", "steps": 12, **changes})
    (config,) = request.configs(Stage(name="one"), [Stage(name="one")])
    return config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "steps = 12, and the run to continue has 12 already"),
        ({"steps": 20, "lora_rank": 8}, "lora_rank = 8, and the run to continue has lora_rank = 4"),
        ({"steps": 20, "decimals": 3}, "decimals = 3, and the run to continue has decimals = 2"),
        ({"steps": 20, "split": "random"}, "split = random, and the run to continue has split = last200"),
        ({"steps": 20, "lora_alpha": 8}, "lora_alpha = 8"),
    ],
)
def test_settings_that_the_checkpoint_does_not_fit(changes, words):
    stage = MORE.model_copy(update={"name": "more"})
    with pytest.raises(UsageError, match=words) as caught:
        continued(stage, [changed(**changes)], assumed_starts(changed(), []))
    assert str(caught.value).startswith("stage more: ")


@pytest.mark.parametrize(
    "changes",
    [{"schedule": "wsd"}, {"learning_rate": 1e-3}, {"context_length": 64}, {"batch_size": 8}, {"lora_alpha": 4}],
)
def test_settings_that_may_change(changes):
    (config,) = continued(MORE, [changed(steps=20, **changes)], assumed_starts(changed(), []))
    assert config.parent.step == 12


def test_with_wsd_the_end_of_the_stable_phase_is_continued():
    (config,) = continued(MORE, [changed(steps=20, schedule="wsd")], assumed_starts(changed(schedule="wsd"), []))
    assert config.parent.step == 10


@pytest.mark.parametrize(("schedule", "step"), [("wsd", 10), ("constant", 12), ("cosine", 12)])
def test_of_the_checkpoints_on_disk_the_newest_of_the_stable_phase_is_continued(tmp_path, schedule, step):
    run = a_run(config=changed(schedule=schedule).model_dump(mode="json"), state=RunState.COMPLETED)
    layout = StudyLayout(tmp_path)
    for each in (8, 10, 12):
        directory = layout.run(run.name).steps / str(CheckpointName(1, each))
        directory.mkdir(parents=True)
        (directory / MANIFEST).write_text(Manifest(1, each, {}).to_json(), encoding="utf-8")
    parent = find_parent(layout, run)
    kept = (layout.run(run.name).steps / str(CheckpointName(1, step)) / MANIFEST).read_bytes()
    assert (parent.run, parent.step, parent.sha256) == (run.name, step, hashlib.sha256(kept).hexdigest())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "has continue = true but no winner to continue; add from"),
        ({"from": "first", "space": {"lora_rank": [2, 4]}, "search": {"trials": 2}}, "has continue = true and a space"),
        ({"from": "first", "prune": Prune(rule="median", first=5)}, "has continue = true and prune"),
        ({"evaluate": ["first"]}, "evaluates, and continue is of stages that train"),
    ],
)
def test_a_stage_that_cannot_continue_a_winner(keys, words):
    with pytest.raises(ValueError, match=f"stage bad {words}"):
        Stage.model_validate({"name": "bad", "continue": True, **keys})


def child_of(parents, **changes):
    """A run that continues `parents` from its checkpoint, with other settings, and why both are not one training."""
    config = changed(**{"schedule": parents.params["schedule"], "steps": 40, **changes})
    step = start_step(parents)
    made = with_parent(config, Parent(run="p", step=changes.pop("at", step), sha256="0"), parents)
    return why_not_one(made, parents)


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        ({"schedule": "wsd"}, {}, ""),
        ({"schedule": "wsd", "decay_steps": 6}, {"decay_steps": 6}, ""),
        ({"schedule": "constant"}, {}, ""),
        ({"schedule": "wsd"}, {"checkpoint_every": 7}, ""),
        ({"schedule": "wsd"}, {"validate_every": 7}, "validate_every differs"),
        ({"schedule": "wsd"}, {"learning_rate": 1e-3, "lora_dropout": 0.0}, "lora_dropout, learning_rate differ"),
        ({"schedule": "wsd"}, {"steps": 13, "decay_steps": 8}, "its learning rate falls sooner"),
        ({"schedule": "cosine"}, {}, "schedule = 'cosine' depends on the number of steps"),
        ({"schedule": "linear"}, {}, "schedule = 'linear' depends on the number of steps"),
    ],
)
def test_why_two_runs_are_not_one(first, then, why):
    assert child_of(changed(**first), **then) == why


@pytest.mark.parametrize("steps", [9, 10, 11, 12])
def test_a_run_of_no_more_steps_is_refused(steps):
    with pytest.raises(UsageError, match=f"steps = {steps}, and the run to continue has 12 already"):
        child_of(changed(schedule="wsd"), steps=steps)


def test_a_run_that_ended_early_is_continued_within_its_steps():
    parents = changed(schedule="constant", early_stopping_patience=1)
    config = changed(schedule="constant", early_stopping_patience=1, steps=11)
    made = with_parent(config, Parent(run="p", step=8, sha256="0"), parents)
    assert why_not_one(made, parents) == "the run to continue ended early"
    with pytest.raises(UsageError, match="has 8 already"):
        with_parent(config.model_copy(update={"steps": 8}), Parent(run="p", step=8, sha256="0"), parents)


def test_a_name_of_the_parent_makes_no_other_run():
    config = changed(steps=20)
    one, other, third = (
        RunConfig.model_validate({**config.model_dump(), "parent": {"run": run, "step": 12, "sha256": digest}})
        for run, digest in (("a", "0"), ("b", "0"), ("a", "1"))
    )
    assert one.identity == other.identity
    assert len({config.identity, one.identity, third.identity}) == 3
    assert len({one.fingerprint, other.fingerprint, third.fingerprint}) == 3
