"""Synchronous halving: all runs of a stage to a rung, the best few to the end, whatever happens on the way."""

import json
import math
from dataclasses import replace

import control_worker
import pytest
from control_scenes import EVERY, RATES, make_haste
from rebuild_scenes import lose, rebuilt
from simulator.engine import Manners
from stage_scenes import FIRST, REQUEST, SECOND, TABLE, Sweep

from lvjobs.control.inspect.why import why
from lvjobs.control.planning import foresee
from lvjobs.control.stages.requests import choose, retry_held, stop
from lvjobs.control.summary import find_row
from lvjobs.study.stages import Prune
from lvjobs.study.tables import Resources

RANKS = (2, 4, 8, 16, 32, 64)
STEPS, RUNG, KEPT = 24, 8, 2
HALVED = FIRST.model_copy(
    update={
        "grid": {"lora_rank": list(RANKS)},
        "steps": STEPS,
        "prune": Prune(rule="halving", at=["1/3"], keep=[KEPT]),
    }
)
BEST = ("first-r8-", "first-r32-")
LOSSES = {"first-r2-": 0.9, "first-r4-": 0.5, "first-r8-": 0.1, "first-r16-": 0.7, "first-r32-": 0.2, "first-r64-": 0.6}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    make_haste(monkeypatch)

    def make(*stages, **more):
        scene = Sweep(tmp_path, *stages, **more)
        scene.losses |= LOSSES
        return scene

    return make


def executed(scene, stage="first"):
    return {name: scene.worker.executed[name] for name in scene.cells(stage)}


def halving(at, keep, **more):
    """The stage with other rungs."""
    return HALVED.model_copy(update={"prune": Prune(rule="halving", at=at, keep=keep), **more})


def edit(scene, *stages):
    """study.toml with these stages from now on."""
    scene.study = replace(scene.study, config=scene.study.config.model_copy(update={"stage": list(stages)}))


def states(scene):
    return {name: (scene.state(name), scene.run(name)["held_for"]) for name in scene.cells("first")}


def test_all_train_to_the_rung_and_the_best_to_their_end(sweep):
    scene = sweep(HALVED, SECOND, TABLE.model_copy(update={"evaluate": ["first"]}), manners=Manners(slots=2))
    scene.ask()
    scene.go(400, every=5)
    assert scene.stands("first", "second", "table") == ["completed"] * 3
    steps = executed(scene)
    assert {name: steps[name] for name in steps} == {
        name: STEPS if name.startswith(BEST) else RUNG for name in steps
    }, "no step more, whatever the order"
    assert scene.winner("first").startswith("first-r8-")
    paused = [name for name, found in states(scene).items() if found == ("paused", "pruned")]
    assert len(paused) == len(RANKS) - KEPT
    assert all(f"to train it anyway: lvjobs resume {name}" in scene.run(name)["reason"] for name in paused)
    assert all(f"pruned at step {RUNG} of {STEPS}" in scene.run(name)["reason"] for name in paused)
    assert {scene.state(name) for name in scene.cells("table")} == {"completed", "paused"}
    assert scene.money()[1] == 0, "nothing is reserved for what is paused, nor for its evaluation"
    causes = {row["cause"] for row in scene.rows("attempts")}
    assert causes == {"completed"}, "a stop at a rung is no failure"


def test_those_that_came_wait_for_the_last_and_say_so(sweep):
    scene = sweep(HALVED, manners=Manners(slots=1))
    scene.ask()
    scene.go(3 * RUNG, every=5)
    came = [name for name in scene.cells("first") if scene.state(name) == "paused"]
    assert came
    assert {scene.run(name)["held_for"] for name in came} == {"rung"}
    assert {scene.run(name)["reason"] for name in came} == {
        f"waits at step {RUNG} of {STEPS} for the other runs of first"
    }
    assert scene.stands("first") == ["running"]
    assert max(executed(scene).values()) == RUNG


def test_a_run_that_is_killed_at_the_rung_needs_no_job_more(sweep):
    """Its checkpoint is there, and its worker died before it could say why it leaves."""
    scene = sweep(HALVED, manners=Manners(slots=6))
    scene.ask()
    for _ in range(200):
        scene.cluster.advance(1)
        if any(work.step == RUNG for work in scene.worker.works.values()):
            break
    for job in scene.cluster.jobs:
        if job.state == "RUNNING":
            scene.cluster.kill(job.id)
    scene.go(250, every=5)
    assert scene.stands("first") == ["completed"]
    assert sum(executed(scene).values()) == len(RANKS) * RUNG + KEPT * (STEPS - RUNG)


@pytest.mark.parametrize("slots", [1, 3, 6])
def test_preemptions_change_neither_winner_nor_choice(sweep, slots):
    scene = sweep(HALVED, manners=Manners(slots=slots))
    scene.ask()
    for turn in range(400):
        scene.cluster.advance(5)
        scene.one_pass()
        running = [job for job in scene.cluster.jobs if job.state == "RUNNING"]
        if running and turn % 3 == 0 and turn < 60:
            scene.cluster.preempt(running[turn % len(running)].id)
        if scene.stands("first") == ["completed"]:
            break
    assert scene.winner("first").startswith("first-r8-")
    assert {name for name in scene.cells("first") if scene.state(name) == "completed"} == {
        name for name in scene.cells("first") if name.startswith(BEST)
    }


def test_a_held_run_blocks_the_rung_and_is_named(sweep):
    scene = sweep(HALVED, manners=Manners(slots=6))
    scene.ask()
    broken = next(name for name in scene.cells("first") if name.startswith("first-r4-"))
    scene.worker.failing[broken] = 6
    scene.go(200, every=5)
    assert scene.state(broken) == "held"
    assert scene.stands("first") == ["running"]
    assert f"waits for {broken}, held" in scene.stage("first")["reason"]
    assert max(executed(scene).values()) == RUNG
    del scene.worker.failing[broken]
    scene.do(retry_held, "first")
    scene.go(250, every=5)
    assert scene.stands("first") == ["completed"]
    assert scene.winner("first").startswith("first-r8-")


def test_a_stage_that_skips_held_runs_goes_on_and_a_late_one_is_compared(sweep):
    scene = sweep(HALVED.model_copy(update={"on_hold": "skip"}), manners=Manners(slots=6))
    scene.ask()
    broken = next(name for name in scene.cells("first") if name.startswith("first-r8-"))
    scene.worker.failing[broken] = 6
    while not any(steps > RUNG for steps in executed(scene).values()):
        scene.cluster.advance(2)
        scene.one_pass()
    on = {name for name in scene.cells("first") if scene.state(name) not in ("paused", "held")}
    assert {name.split("-")[1] for name in on} == {"r4", "r32"}, "the best of those that came"
    del scene.worker.failing[broken]
    scene.resume_runs(broken)
    scene.go(250, every=5)
    assert scene.state(broken) == "completed", "it came late, and was among the best"


def test_a_run_that_comes_after_the_stage_is_decided_trains_to_its_end(sweep):
    scene = sweep(HALVED.model_copy(update={"on_hold": "skip"}), manners=Manners(slots=6))
    scene.ask()
    broken = next(name for name in scene.cells("first") if name.startswith("first-r8-"))
    scene.worker.failing[broken] = 6
    scene.go(250, every=5)
    assert scene.stands("first") == ["completed"]
    del scene.worker.failing[broken]
    scene.resume_runs(broken)
    scene.go(250, every=5)
    assert scene.state(broken) == "completed"


def test_a_winner_by_hand_leaves_no_run_waiting(sweep):
    scene = sweep(HALVED, manners=Manners(slots=1))
    scene.ask()
    scene.go(3 * RUNG, every=5)
    waiting = [name for name in scene.cells("first") if scene.run(name)["held_for"] == "rung"]
    assert waiting
    scene.do(choose, "first", waiting[0], "it looks good")
    scene.go(250, every=5)
    assert "rung" not in {scene.run(name)["held_for"] for name in scene.cells("first")}
    assert f"lvjobs resume {waiting[0]}" in scene.run(waiting[0])["reason"]


def test_a_cancelled_run_is_not_waited_for(sweep):
    scene = sweep(HALVED, manners=Manners(slots=2))
    scene.ask()
    gone = next(name for name in scene.cells("first") if name.startswith("first-r64-"))
    scene.cancel(gone)
    scene.go(250, every=5)
    assert scene.stands("first") == ["completed"]
    assert executed(scene)[gone] == 0


def test_no_number_never_goes_on(sweep):
    scene = sweep(HALVED, manners=Manners(slots=6))
    scene.losses |= dict.fromkeys(LOSSES, math.nan) | {"first-r4-": 0.5}
    scene.ask()
    scene.go(250, every=5)
    assert [name for name in scene.cells("first") if scene.state(name) == "completed"] == [scene.winner("first")]
    assert scene.winner("first").startswith("first-r4-")


def test_a_pruned_run_that_is_resumed_goes_to_its_end(sweep):
    scene = sweep(HALVED, manners=Manners(slots=6))
    scene.ask()
    scene.go(250, every=5)
    name = next(name for name in scene.cells("first") if name.startswith("first-r2-"))
    scene.resume_runs(name)
    scene.go(200, every=5)
    assert (scene.state(name), executed(scene)[name]) == ("completed", STEPS)


def test_a_run_that_waits_at_its_rung_and_is_resumed_goes_to_its_end(sweep):
    scene = sweep(HALVED, manners=Manners(slots=1))
    scene.ask()
    scene.go(3 * RUNG, every=5)
    name = next(name for name in scene.cells("first") if scene.run(name)["held_for"] == "rung")
    scene.resume_runs(name)
    scene.go(500, every=5)
    assert scene.state(name) == "completed"
    assert scene.stands("first") == ["completed"]


def test_seeds_of_a_candidate_go_on_together(sweep):
    stage = HALVED.model_copy(
        update={"grid": {"lora_rank": [2, 4, 8]}, "seeds": [0, 1], "prune": Prune(rule="halving", at=[1 / 3], keep=[1])}
    )
    scene = sweep(stage, manners=Manners(slots=6))
    scene.ask()
    scene.losses.clear()
    for name in scene.cells("first"):
        scene.losses[name] = {"r2": 0.5, "r4": 0.4, "r8": 0.9}[name.split("-")[1]] + (
            0.3 if "-r2-" in name and "s1" in name else 0.0
        )
    scene.go(250, every=5)
    done = {name for name in scene.cells("first") if scene.state(name) == "completed"}
    assert len(done) == 2
    assert all("-r4-" in name for name in done)


def test_two_rungs(sweep):
    stage = HALVED.model_copy(update={"prune": Prune(rule="halving", at=["1/3", "2/3"], keep=[3, 1])})
    scene = sweep(stage, manners=Manners(slots=2))
    scene.ask()
    scene.go(400, every=5)
    assert scene.stands("first") == ["completed"]
    assert sorted(executed(scene).values()) == [8, 8, 8, 16, 16, 24]
    assert scene.winner("first").startswith("first-r8-")


def test_a_stopped_sweep_resumes_no_run_that_waits(sweep):
    scene = sweep(HALVED, manners=Manners(slots=1))
    scene.ask()
    scene.go(3 * RUNG, every=5)
    scene.do(stop, "first")
    before = executed(scene)
    scene.go(300, every=5)
    assert executed(scene) == before
    scene.ask("first")
    scene.go(500, every=5)
    assert scene.stands("first") == ["completed"]
    assert scene.winner("first").startswith("first-r8-")


def test_runs_that_share_jobs(sweep):
    request = REQUEST.model_copy(update={"resources": Resources(partition="low", gpus=1, pack=3, side_by_side=2)})
    scene = sweep(HALVED, manners=Manners(slots=2))
    scene.ask(request=request)
    scene.go(500, every=5)
    assert scene.stands("first") == ["completed"]
    steps = executed(scene)
    assert steps == {name: STEPS if name.startswith(BEST) else RUNG for name in steps}
    assert scene.money()[1] == 0


def test_a_late_seed_of_a_pruned_candidate_does_not_go_on(sweep):
    """Its candidate cannot win, so its last steps would be in vain."""
    stage = HALVED.model_copy(update={"seeds": [0]})
    scene = sweep(stage, manners=Manners(slots=6))
    scene.ask()
    scene.go(250, every=5)
    edit(scene, stage.model_copy(update={"seeds": [0, 1]}))
    scene.losses |= dict.fromkeys(LOSSES, 0.01)
    scene.ask("first")
    scene.go(400, every=5)
    assert scene.stands("first") == ["completed"]
    done = {name for name in scene.cells("first") if scene.state(name) == "completed"}
    assert {name.split("-")[1] for name in done} == {"r8", "r32"}
    assert len(done) == 2 * KEPT


# -- a run that ends or trains otherwise than its stage wants --------------------------------------------------------


def test_a_run_that_ends_before_the_rung_is_compared_once(sweep):
    scene = sweep(halving(["1/3", "2/3"], [3, 1]), manners=Manners(slots=6))
    scene.ask()
    early = next(name for name in scene.cells("first") if "-r2-" in name)
    scene.worker.ending[early] = 4
    scene.go(400, every=5)
    assert scene.stands("first") == ["completed"], "the second rung is compared, too"
    assert sorted(executed(scene).values()) == [4, 8, 8, 16, 16, 24]
    (kept,) = scene.rows("prunings")
    assert len(json.loads(kept["reports"]) if isinstance(kept["reports"], str) else kept["reports"]) == 6 + 3


def test_a_worker_that_does_not_know_the_rung_stops_once_its_reservation_is_used_up(sweep, monkeypatch):
    """As one of an older release. The steps beyond the rung are the interval that was reserved for a failure."""

    class Older(control_worker.Submission):
        stop_at = property(lambda _self: 0, lambda _self, _step: None)

    monkeypatch.setattr(control_worker, "Submission", Older)
    scene = sweep(HALVED, manners=Manners(slots=6))
    scene.ask()
    scene.go(400, every=5)
    assert scene.stands("first") == ["completed"]
    assert sorted(executed(scene).values()) == [RUNG + EVERY] * (len(RANKS) - KEPT) + [STEPS] * KEPT


def test_a_value_that_is_no_number_is_named(sweep):
    scene = sweep(HALVED, manners=Manners(slots=6))
    scene.losses |= dict.fromkeys(LOSSES, math.nan)
    scene.ask()
    scene.go(100, every=5)
    assert set(states(scene).values()) == {("paused", "pruned")}
    assert scene.stands("first") == ["held"]
    assert all(
        "its training_loss, averaged from step 4 on, is no number" in scene.run(name)["reason"]
        for name in scene.cells("first")
    )


# -- a stage that is requested again, stopped or decided --------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (None, [STEPS] * 6),
        (Prune(rule="halving", at=["1/2"], keep=[KEPT]), [12] * 4 + [STEPS] * KEPT),
        (Prune(rule="halving", at=["1/6"], keep=[KEPT]), [RUNG] * 4 + [STEPS] * KEPT),
        (Prune(rule="halving", at=["1/3"], keep=[1]), [RUNG] * 5 + [STEPS]),
        (Prune(rule="halving", at=["1/3", "2/3"], keep=[3, 1]), [8, 8, 8, 16, 16, STEPS]),
    ],
    ids=["none", "later", "earlier", "fewer", "two"],
)
def test_runs_at_the_rung_follow_the_rule_that_is_requested_again(sweep, rule, steps):
    scene = sweep(HALVED, manners=Manners(slots=1))
    scene.ask()
    scene.go(3 * RUNG, every=5)
    assert "rung" in {held_for for _, held_for in states(scene).values()}
    edit(scene, HALVED.model_copy(update={"prune": rule}))
    scene.ask("first")
    scene.go(600, every=5)
    assert scene.stands("first") == ["completed"]
    assert sorted(executed(scene).values()) == steps
    assert scene.winner("first").startswith("first-r8-")


def test_a_winner_by_hand_leaves_no_evaluation_waiting(sweep):
    scene = sweep(HALVED, TABLE.model_copy(update={"evaluate": ["first"]}), manners=Manners(slots=1))
    scene.ask()
    scene.go(3 * RUNG, every=5)
    waiting = next(name for name in scene.cells("first") if scene.run(name)["held_for"] == "rung")
    scene.do(choose, "first", waiting, "it looks good")
    scene.go(500, every=5)
    assert scene.stands("first", "table") == ["completed", "completed"]
    evaluation = next(name for name in scene.cells("table") if waiting in name)
    assert f"lvjobs resume {waiting} {evaluation}" in scene.run(waiting)["reason"]
    scene.resume_runs(waiting, evaluation)
    scene.go(300, every=5)
    assert scene.state(waiting) == scene.state(evaluation) == "completed"


# -- two stages with the same runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["stop", "choose"])
def test_a_run_of_a_stage_that_ended_goes_on_for_another_stage(sweep, ends):
    scene = sweep(HALVED, HALVED.model_copy(update={"name": "other", "prune": None}), manners=Manners(slots=1))
    scene.ask()
    scene.go(3 * RUNG, every=5)
    waiting = next(name for name in scene.cells("first") if scene.run(name)["held_for"] == "rung")
    if ends == "stop":
        scene.do(stop, "first")
    else:
        scene.do(choose, "first", waiting, "it looks good")
    scene.go(600, every=5)
    assert scene.stands("other") == ["completed"]
    assert set(executed(scene, "other").values()) == {STEPS}


@pytest.mark.parametrize("at", ["1/6", "1/3", "2/3"])
def test_a_stage_waits_for_no_run_that_another_stage_pruned(sweep, at):
    other = halving([at], [KEPT], name="other", grid={"lora_rank": [*RANKS, 128]})
    scene = sweep(HALVED, other, manners=Manners(slots=2))
    scene.losses["other-"] = 0.05
    scene.ask()
    scene.go(600, every=5)
    assert scene.stands("first", "other") == ["completed", "completed"]
    steps = executed(scene, "other")
    assert sorted(steps.values()) == [RUNG] * 4 + [STEPS] * 3
    assert scene.winner("other").startswith("other-r128-")


def test_a_choice_in_another_stage_leaves_a_run_at_its_rung(sweep):
    plain = HALVED.model_copy(update={"name": "plain", "prune": None, "grid": {"lora_rank": [2, 4]}})
    scene = sweep(HALVED, plain, manners=Manners(slots=1))
    scene.ask()
    scene.go(3 * RUNG, every=5)
    waiting = next(name for name in scene.cells("plain") if scene.run(name)["held_for"] == "rung")
    scene.do(choose, "plain", waiting, "it looks good")
    assert scene.run(waiting)["held_for"] == "rung"
    scene.go(600, every=5)
    assert scene.stands("first") == ["completed"]
    assert sorted(executed(scene).values()) == [RUNG] * 4 + [STEPS] * KEPT


# -- what is planned --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 6])
@pytest.mark.parametrize("stage", [HALVED, halving(["1/3", "2/3"], [3, 1])], ids=["one", "two"])
def test_what_is_spent_and_planned_is_the_first_plan_at_every_moment(sweep, monkeypatch, stage, slots):
    monkeypatch.setattr(foresee, "rates_of", lambda _config: RATES)
    monkeypatch.setattr(foresee, "learn", lambda _configs: None)
    scene = sweep(stage, manners=Manners(slots=slots))
    configs = {"first": REQUEST.configs(stage, [stage])}

    def plan():
        with scene.session() as session:
            seen = session.ledger.call(foresee.read)
        return foresee.foresee(scene.study, configs, seen, Resources(), "lab")

    first = plan()
    whole, most = first["total"]["training"]["official"], first["needed"]
    scene.ask()
    while scene.stands("first") != ["completed"]:
        scene.cluster.advance(3)
        scene.one_pass()
        now = plan()
        assert whole <= now["spent"] + now["reserved"] + now["needed"] <= most
    assert scene.money()[:2] == (whole, 0)


def test_gpu_hours_are_planned_to_the_rung_and_beyond_for_the_best(sweep):
    measured = HALVED.model_copy(update={"name": "measured", "prune": None, "seeds": [7]})
    request = REQUEST.model_copy(update={"resources": Resources(partition="low", gpus=1, time_limit="01:00:00")})
    scene = sweep(measured, HALVED, manners=Manners(slots=6), budget={"gpu_hours": 100})
    scene.worker.is_timed = True
    scene.ask("measured", request=request)
    scene.go(200, every=5)
    assert scene.stands("measured") == ["completed"]
    with scene.session() as session:
        seen = session.ledger.call(foresee.read)
    needed = {}
    for stage in (HALVED, HALVED.model_copy(update={"prune": None})):
        edit(scene, measured, stage)
        configs = {"first": request.configs(stage, [stage])}
        found = foresee.foresee(scene.study, configs, seen, request.resources, "lab")
        needed[stage.prune is not None] = found["gpu_hours"]["needed"] * 3600
    saved = (len(RANKS) - KEPT) * (STEPS - RUNG) * scene.cluster.manners.step_seconds
    assert needed[False] - needed[True] == pytest.approx(saved, abs=len(RANKS) * 2)


# -- a ledger that is made anew ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [True, False], ids=["log", "no log"])
def test_runs_stop_at_the_rung_of_a_ledger_that_is_made_anew(sweep, log):
    scene = sweep(HALVED, manners=Manners(slots=1))
    scene.ask()
    scene.go(2 * RUNG, every=5)
    lose(scene)
    if not log:
        scene.study.layout.ledger_log.unlink()
    rebuilt(scene)
    scene.ask("first")
    scene.resume_runs(*[name for name in scene.cells("first") if scene.state(name) == "held"])
    scene.go(600, every=5)
    assert scene.stands("first") == ["completed"]
    found = states(scene)
    assert {name for name, (state, _) in found.items() if state == "completed"} == {
        name for name in found if name.startswith(BEST)
    }
    assert list(found.values()).count(("paused", "pruned")) == len(RANKS) - KEPT


def reasons(scene, name):
    """Return the answer of `lvjobs why` about a run: its state, what comes, and the commands with their purposes."""
    with scene.session() as session:
        found = why(session, find_row(session.make_pass(), name)).to_dict()
    commands = {each["type"].partition(" --study")[0]: each["why"] for each in found["remedies"]}
    return found["headline"], " ".join(found["then"]), commands


def test_why_says_what_a_run_at_its_rung_waits_for_and_what_a_resume_of_a_pruned_one_does(sweep):
    scene = sweep(HALVED, manners=Manners(slots=1))
    scene.ask()
    scene.go(60, every=5)
    waiting = next(name for name, found in states(scene).items() if found == ("paused", "rung"))
    state, then, commands = reasons(scene, waiting)
    assert state == f"stopped at its last checkpoint: waits at step {RUNG} of {STEPS} for the other runs of first"
    assert "once all runs of first have reached that step, the best continue" in then
    assert commands[f"lvjobs resume {waiting}"] == "train it to its last step, regardless of its place in the ranking"
    scene.go(400, every=5)
    pruned = next(name for name, found in states(scene).items() if found == ("paused", "pruned"))
    state, _, commands = reasons(scene, pruned)
    assert state.startswith(f"paused at its last checkpoint: pruned at step {RUNG} of {STEPS}")
    assert commands[f"lvjobs resume {pruned}"] == "train it to its last step, regardless of its place in the ranking"


NEEDED = 100 * (len(RANKS) * RUNG + KEPT * (STEPS - RUNG) + KEPT * 4)
"""FLOPs of all runs to the rung, of those that continue, and of a checkpoint interval of replay for each of these."""


@pytest.mark.parametrize(("limit", "ends"), [(NEEDED, "completed"), (NEEDED - 1, "asked")])
def test_a_stage_begins_only_if_there_is_room_for_the_runs_that_go_on_from_its_rung(sweep, limit, ends):
    often = HALVED.model_copy(update={"set": {**HALVED.set, "checkpoint_every": 4}})
    scene = sweep(often, manners=Manners(slots=6), budget={"limit": limit})
    scene.ask()
    scene.go(400, every=5)
    assert scene.stands("first") == [ends]
    assert bool(scene.cells("first")) is (ends == "completed")
