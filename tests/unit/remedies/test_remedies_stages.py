"""Scenarios of remedies for stages: the trouble, what the message says to type, and the end of the trouble."""

import pytest
from rebuild_scenes import as_an_older_release
from remedy_scenes import PRICED, STAGES, typed_scene
from simulator.engine import Manners

from lvjobs import remedies
from lvjobs.errors import UsageError

TOML = PRICED + STAGES


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return typed_scene(tmp_path, monkeypatch, toml=TOML)


def stage(scene, name):
    return next(row for row in scene.rows("stages") if row["name"] == name)


def runs_of(scene, name):
    return [row["name"] for row in scene.rows("runs") if row["stage"] == name]


def go(scene, typed, seconds=600, every=20):
    """Time passes, and passes are made by commands: they know the stages of study.toml."""
    for _ in range(0, seconds, every):
        scene.cluster.advance(every)
        typed("resume")


def shown(typed):
    """Return the displayed runs and stages."""
    _, out, err = typed("status")
    return out + err


@pytest.mark.remedy("SWEEP_STAGE", "SWEEP_PLAN", "SWEEP_SHOW")
def test_a_stage_that_has_no_runs(scene, typed, take):
    _, _, shown = typed("sweep", "show", "first")
    code, plan, _ = take(remedies.SWEEP_PLAN, shown)
    assert code == 0
    assert "first" in plan
    _, _, shown = typed("sweep", "retry", "first")
    code, _, _ = take(remedies.SWEEP_STAGE, shown, stage="first")
    assert code == 0
    assert len(runs_of(scene, "first")) == 2
    assert typed("sweep", "retry", "first")[0] == 0
    go(scene, typed)
    assert stage(scene, "first")["state"] == "completed"
    code, _, _ = typed("submit", "run", "toy_task:priced", "--name", "stranger", "--seed", "7")
    assert code == 0
    _, _, shown = typed("sweep", "first", "--winner", "stranger", "--because", "it is mine")
    code, table, _ = take(remedies.SWEEP_SHOW, shown, stage="first")
    assert code == 0
    assert all(name in table for name in runs_of(scene, "first"))


@pytest.mark.remedy("SWEEP_PLAN", "SWEEP_ALL", "SWEEP_STAGE")
def test_a_stage_after_one_that_nobody_asked_for(scene, typed, take):
    _, _, unknown = typed("sweep", "stop", "frist")
    assert take(remedies.SWEEP_PLAN, unknown)[0] == 0
    _, _, refused = typed("sweep", "second")
    code, _, _ = take(remedies.SWEEP_STAGE, refused, stage="first")
    assert code == 0
    assert typed("sweep", "second")[0] == 0
    assert stage(scene, "second")["state"] == "asked"
    typed("sweep", "stop", "all")
    _, _, refused = typed("sweep", "second")
    code, _, _ = take(remedies.SWEEP_ALL, refused)
    assert code == 0
    go(scene, typed, 1200)
    assert {stage(scene, name)["state"] for name in ("first", "second")} == {"completed"}


@pytest.mark.remedy("SWEEP_WINNER")
def test_a_stage_in_which_no_run_can_win(scene, typed, take):
    scene.worker.silent = True
    typed("sweep", "all")
    go(scene, typed)
    assert stage(scene, "first")["state"] == "held"
    one = runs_of(scene, "first")[1]
    code, _, _ = take(
        remedies.SWEEP_WINNER, shown(typed), stage="first", choose={"RUN": one, "REASON": "it is the smallest"}
    )
    assert code == 0
    row = stage(scene, "first")
    assert (row["state"], row["because"]) == ("completed", "it is the smallest")
    assert len(runs_of(scene, "second")) == 2, "what comes after it has begun"


def held(scene, typed):
    """The first stage, whose runs are done or held."""
    typed("sweep", "all")
    broken = runs_of(scene, "first")[0]
    scene.worker.failing[broken] = 3
    go(scene, typed)
    assert scene.state(broken) == "held"
    assert stage(scene, "first")["state"] == "running"
    return broken


@pytest.mark.remedy("SWEEP_WITHOUT_HELD")
def test_a_stage_that_waits_for_runs_that_are_held_is_decided_without_them(scene, typed, take):
    broken = held(scene, typed)
    code, _, _ = take(remedies.SWEEP_WITHOUT_HELD, shown(typed), stage="first")
    assert code == 0
    assert stage(scene, "first")["state"] == "completed"
    assert scene.state(broken) == "held"


@pytest.mark.remedy("RESUME_RUN")
def test_a_stage_that_waits_for_runs_that_are_held_goes_on_with_them(scene, typed, take):
    broken = held(scene, typed)
    scene.worker.failing.clear()
    code, _, _ = take(remedies.RESUME_RUN, shown(typed), run=[broken])
    assert code == 0
    go(scene, typed)
    assert scene.state(broken) == "completed"
    assert stage(scene, "first")["state"] == "completed"


@pytest.mark.remedy("SWEEP_STAGE", "SWEEP_WINNER")
def test_stages_of_which_a_ledger_that_is_made_anew_knows_little(scene, typed, take, monkeypatch):
    monkeypatch.setattr("lvjobs.control.backends.cluster_for", lambda _study, _profile: scene.shown)
    typed("sweep", "all")
    go(scene, typed)
    one = next(name for name in runs_of(scene, "first") if scene.run(name)["id"] != stage(scene, "first")["winner"])
    typed("sweep", "stop", "all")
    made = len(scene.cluster.jobs)
    as_an_older_release(scene)
    scene.study.layout.database.unlink()
    _, shown, _ = typed("ledger", "rebuild")
    code, _, _ = take(remedies.SWEEP_STAGE, shown, stage="first")
    assert code == 0
    go(scene, typed, 60)
    assert stage(scene, "first")["state"] == "completed"
    choice = {"RUN": one, "REASON": "it was chosen before"}
    code, _, err = take(remedies.SWEEP_WINNER, shown, stage="first", choose=choice)
    assert code == 0, err
    assert (stage(scene, "first")["winner"], stage(scene, "first")["by_hand"]) == (scene.run(one)["id"], 1)
    assert len(scene.cluster.jobs) == made, "nothing was trained again"


@pytest.mark.remedy("SWEEP_STAGE")
def test_a_stage_that_is_held_as_its_turn_comes(scene, typed, take, monkeypatch):
    """Its task fails in its first step, say, and is corrected."""
    typed("sweep", "all")

    def refuse(_configs):
        raise UsageError("toy_task:priced fails in its first step")

    with monkeypatch.context() as patched:
        patched.setattr("lvjobs.control.submission.declare.learn", refuse)
        go(scene, typed, 200)
    assert stage(scene, "second")["state"] == "held"
    code, _, _ = take(remedies.SWEEP_STAGE, shown(typed), stage="second")
    assert code == 0
    go(scene, typed, 200)
    assert stage(scene, "second")["state"] == "completed"


@pytest.mark.remedy("RESUME_RUN")
def test_a_run_that_was_pruned_is_trained_all_the_same(tmp_path, monkeypatch, typed, take):
    pruned = 'select = { metric = "training_loss" }\nprune = { first = 4, factor = 2 }'
    toml = TOML.replace('select = { metric = "training_loss" }', pruned, 1).replace("[2, 4]", "[2, 4, 6, 8]")
    scene = typed_scene(tmp_path, monkeypatch, toml=toml.replace("steps = 12", "steps = 40"), manners=Manners(slots=2))
    scene.worker.losses |= {f"first-width{width}": loss for width, loss in ((2, 0.1), (4, 0.2), (6, 0.8), (8, 0.9))}
    typed("sweep", "first")
    for _ in range(60):
        if found := [row["name"] for row in scene.rows("runs") if row["state"] == "paused"]:
            break
        scene.cluster.advance(5)
        typed("resume")
    name = found[0]
    code, _, _ = take(remedies.RESUME_RUN, typed("why", name)[1], run=[name])
    assert code == 0
    go(scene, typed)
    assert scene.state(name) == "completed"


def test_a_plan_of_a_task_that_declares_no_cost(tmp_path, monkeypatch, typed):
    typed_scene(tmp_path, monkeypatch, toml=TOML.replace("priced", "train"))
    code, out, _ = typed("sweep", "plan")
    assert code == 0
    assert "needs 0 FLOPs" in out


def test_a_stage_whose_runs_were_cancelled_continues_once_they_are_submitted_again(scene, typed):
    typed("sweep", "first")
    assert typed("cancel", "first")[0] == 0
    typed("resume")
    assert stage(scene, "first")["state"] == "held"
    code, out, err = typed("retry", "first")
    assert (code, "first: continues" in out) == (0, True), out + err
    go(scene, typed)
    assert stage(scene, "first")["state"] == "completed"
    assert {scene.state(name) for name in runs_of(scene, "first")} == {"completed"}
