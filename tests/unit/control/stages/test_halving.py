"""Synchronous halving: all runs of a stage to a rung, the best few to the end, whatever happens on the way."""

import math

import pytest
from control_scenes import make_haste
from simulator.engine import Manners
from stage_scenes import FIRST, REQUEST, SECOND, TABLE, Sweep

from lvjobs.control.stages.requests import choose, retry_held, stop
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
    assert all(f"to train it all the same: lvjobs resume {name}" in scene.run(name)["reason"] for name in paused)
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
