"""Stages that search a space, on a simulated cluster: proposals follow from the ledger alone, each is trained once."""

import json
import shutil
from dataclasses import replace

import pytest
from control_crashes import dying
from control_scenes import EVERY, make_haste
from simulator.engine import Manners
from stage_scenes import REQUEST, RULE, TABLE, Sweep

from lvjobs.control.planning import foresee
from lvjobs.control.planning.ledger_view import read_ledger
from lvjobs.control.stages.expand import unfold
from lvjobs.control.stages.requests import choose, go_on_without_held, retry_held, stop
from lvjobs.control.summary_file import read_summary
from lvjobs.records.summary import StageStatus, read_row
from lvjobs.report.terminal.stage_lines import stage_line
from lvjobs.study.stages import Stage
from lvjobs.sweep.sampling import SearchRecord, propose

__all__ = ["dying"]  # a fixture: die_everywhere

SPACE = {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}, "lora_rank": [2, 4, 8]}
SEARCH = {"trials": 8, "parallel": 3, "startup": 2}
FIRST = Stage(name="first", space=SPACE, search=SEARCH, select=RULE)
FINAL = Stage(name="final", origin="first", steps=20)
PRICE = 100 * (12 + EVERY)


def changed(stage, **changes):
    return Stage.model_validate({**stage.model_dump(by_alias=True), **changes})


class Search(Sweep):
    """A scene whose first stage searches."""

    def kept(self, name="first"):
        """The search's history, as the ledger has it."""
        (row,) = [row for row in self.rows("searches") if row["stage"] == name]
        return SearchRecord(name, entries=json.loads(row["entries"]))

    def points(self):
        return [trial.point for trial in self.kept().trials]

    def verdicts(self):
        return [trial.verdict and trial.verdict.kind for trial in self.kept().trials]

    def trial(self, number, stage="first"):
        (name,) = [name for name in self.cells(stage) if name.startswith(f"{stage}-t{number}-")]
        return name

    def summary(self, name):
        rows = read_summary(self.study.layout.summary)["stages"]
        return next(row for row in rows if row["name"] == name)

    def again(self, stage):
        """study.toml declares the stage in another way."""
        stages = [stage if each.name == stage.name else each for each in self.study.config.stage]
        config = self.study.config.model_copy(update={"stage": stages})
        self.study = replace(self.study, config=config)

    def is_what_the_sampler_says(self, stage=FIRST):
        """Each proposal follows from what was in the history before it."""
        entries = self.kept().entries
        for place, entry in enumerate(entries):
            if "point" in entry:
                before = SearchRecord("first", entries=entries[:place]).trials
                assert propose(stage.space, stage.search, "min", before, 1) == [entry["point"]]


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)

    def made(*stages, **more):
        root = tmp_path / "study"
        root.mkdir()
        return Search(root, *stages, **more)

    return made


def test_a_search_goes_on_by_itself_and_the_next_stage_takes_its_winner(make):
    scene = make(FIRST, FINAL, TABLE.model_copy(update={"evaluate": ["first", "final"]}))
    scene.losses |= {"first-t4-": 0.01}
    scene.ask()
    assert len(scene.cells("first")) == 3, "as many as may be open"
    assert len({job.request.token for job in scene.cluster.jobs}) == 1, "one array"
    assert (
        stage_line(read_row(StageStatus, scene.summary("first")))
        == "first: running, 0 of 3 done, 3 of 8 trials proposed"
    )
    scene.go(900)
    assert scene.stands("first", "final", "table") == ["completed"] * 3
    assert scene.winner("first") == scene.trial(4)
    assert scene.verdicts() == ["done"] * 8
    assert [name.split("-")[1] for name in scene.cells("first")] == [f"t{number}" for number in range(8)]
    (final,) = scene.cells("final")
    taken = {key: json.loads(scene.run(final)["config"])["params"][key] for key in SPACE}
    assert taken == scene.points()[4]
    assert len(scene.cells("table")) == 8 + 1
    assert len(scene.jobs_made()) == len(set(scene.jobs_made())) == 2 * (8 + 1)
    scene.is_what_the_sampler_says()


def test_no_more_are_open_than_may_be_and_the_next_follow_as_they_end(make):
    scene = make(FIRST)
    scene.ask()
    most = 0
    for _ in range(60):
        scene.cluster.advance(7)
        scene.one_pass()
        open_ = [name for name in scene.cells("first") if scene.state(name) != "completed"]
        most = max(most, len(open_))
        assert scene.verdicts().count(None) <= 3
    assert most == 3
    assert scene.stands("first") == ["completed"]


def test_at_random_all_go_out_at_once(make):
    scene = make(changed(FIRST, search={"trials": 8, "sampler": "random"}))
    scene.ask()
    assert len(scene.cells("first")) == 8
    assert len({job.request.token for job in scene.cluster.jobs}) == 1


def test_what_runs_reached_decides_what_is_proposed(make, tmp_path):
    def proposed(losses):
        scene = make(FIRST)
        scene.losses |= losses
        scene.ask()
        scene.go(300, every=30)
        points = scene.points()
        shutil.rmtree(tmp_path / "study")
        return points

    one = proposed({"first-t0-": 0.01})
    other = proposed({"first-t0-": 9.0, "first-t1-": 0.01})
    assert one[:3] == other[:3], "proposed when nothing was known"
    assert one[3:] != other[3:]
    assert proposed({"first-t0-": 0.01}) == one


def test_passes_at_odd_moments_and_none_for_long_lose_and_double_nothing(make):
    scene = make(FIRST)
    scene.ask()
    for seconds in (1, 1, 17, 0, 0, 200, 3, 31, 400, 1, 400):
        scene.cluster.advance(seconds)
        scene.one_pass()
    scene.go(600)
    assert scene.stands("first") == ["completed"]
    assert len(scene.jobs_made()) == len(set(scene.jobs_made())) == 8
    scene.is_what_the_sampler_says()


def test_a_preempted_and_a_killed_trial_are_open_still(make):
    scene = make(FIRST)
    scene.ask()
    job = scene.reach(5, scene.trial(0))
    scene.cluster.preempt(job.id)
    other = scene.reach(5, scene.trial(1))
    scene.cluster.kill(other.id)
    scene.one_pass()
    assert scene.verdicts()[:2] == [None, None]
    scene.go(1200)
    assert scene.verdicts() == ["done"] * 8


def held(make, **more):
    scene = make(changed(FIRST, **more))
    scene.ask()
    scene.worker.failing[scene.trial(0)] = 3
    scene.go(1200)
    assert scene.state(scene.trial(0)) == "held"
    return scene


def test_a_held_trial_is_no_verdict_and_keeps_its_place(make):
    scene = held(make, search={"trials": 8, "parallel": 1})
    assert scene.verdicts() == [None]
    assert f"waits for {scene.trial(0)}, held" in scene.stage("first")["reason"]
    scene.worker.failing.clear()
    scene.do(retry_held, "first")
    scene.go(1500)
    assert scene.stands("first") == ["completed"]
    assert scene.verdicts() == ["done"] * 8
    assert scene.stage("first")["reason"] == ""


def test_the_others_go_on_beside_a_held_trial(make):
    scene = held(make)
    assert scene.verdicts() == [None, *["done"] * 7]
    assert scene.stands("first") == ["running"]
    scene.do(go_on_without_held, "first", None)
    assert scene.stands("first") == ["completed"]
    assert f"{scene.trial(0)} (held)" in scene.stage("first")["because"]


def test_a_held_trial_gives_its_place_to_others_where_the_stage_goes_on_without_it(make):
    scene = held(make, search={"trials": 4, "parallel": 1}, on_hold="skip")
    assert scene.verdicts() == [None, "done", "done", "done"]
    assert scene.stands("first") == ["completed"]


def test_a_trial_that_diverges_or_is_cancelled(make):
    scene = make(FIRST)
    scene.losses |= {"first-t0-": float("nan")}
    scene.ask()
    scene.cancel(scene.trial(1))
    scene.go(900)
    assert scene.verdicts() == ["diverged", "left_out", *["done"] * 6]
    assert scene.stands("first") == ["completed"]


def test_a_trial_that_is_a_run_already_is_not_trained_again(make):
    """A space of two points, and eight trials of it."""
    scene = make(changed(FIRST, space={"lora_rank": [2, 4]}))
    scene.ask()
    scene.go(600)
    assert scene.stands("first") == ["completed"]
    assert scene.verdicts() == ["done"] * 8
    assert len(scene.cells("first")) == len(scene.jobs_made()) == 2


def test_once_a_seed_and_the_mean_is_told(make):
    scene = make(changed(FIRST, seeds=[0, 1], search={"trials": 3, "parallel": 2}))
    scene.ask()
    assert len(scene.cells("first")) == 4
    first = [name for name in scene.cells("first") if name.startswith("first-t0-")]
    scene.losses |= dict(zip(first, (12.0, 36.0), strict=True))
    scene.go(600)
    assert scene.kept().trials[0].verdict.value == pytest.approx(2.0), "12 / 12 steps, and 36 / 12"
    assert len(scene.cells("first")) == 6


def test_pruned_trials_are_told_as_such(make):
    stage = changed(FIRST, steps=60, prune={"first": EVERY, "factor": 3}, search={"trials": 8, "parallel": 2})
    scene = make(stage, FINAL, manners=Manners(slots=2))
    scene.losses |= {f"first-t{number}-": number + 1.0 for number in range(8)}
    scene.ask()
    scene.go(1000, every=10)
    assert scene.stands("first", "final") == ["completed", "completed"]
    kinds = scene.verdicts()
    assert set(kinds) == {"done", "pruned"}
    pruned = kinds.index("pruned")
    told = scene.kept().trials[pruned].verdict
    assert told.step >= EVERY
    assert told.value == pytest.approx((pruned + 1.0) / told.step)
    assert scene.money()[1] == 0
    scene.is_what_the_sampler_says(stage)


def test_as_many_as_the_budget_has_room_for(make):
    scene = make(FIRST, budget={"limit": 2 * PRICE + 10, "count_inference": False})
    scene.ask()
    assert len(scene.cells("first")) == len(scene.points()) == 2, "what has no room is not proposed either"
    assert "waits for the budget" in scene.stage("first")["reason"] or scene.stage("first")["reason"] == ""
    scene.go(300)
    assert scene.stands("first") == ["running"]
    assert "waits for the budget" in scene.stage("first")["reason"]
    assert scene.verdicts() == ["done"] * 2
    scene.bind(limit=10**7, count_inference=False)
    scene.go(600)
    assert scene.stands("first") == ["completed"]
    assert scene.stage("first")["reason"] == ""
    assert len(scene.jobs_made()) == 8


def test_asked_again_is_left_alone_and_more_trials_go_on_from_what_was_learned(make):
    scene = make(FIRST)
    scene.ask()
    assert scene.ask() == ["first: running already"]
    scene.go(600)
    before, kept = scene.dump(), scene.kept()
    assert scene.ask() == ["first: completed already"]
    assert scene.dump() == before
    scene.again(changed(FIRST, search={**SEARCH, "trials": 10}))
    scene.ask()
    scene.go(300)
    assert scene.stands("first") == ["completed"]
    assert scene.points()[:8] == [trial.point for trial in kept.trials]
    assert len(scene.points()) == len(scene.jobs_made()) == 10


def test_fewer_trials_than_there_are_is_the_end_of_it(make):
    scene = make(FIRST)
    scene.ask()
    scene.again(changed(FIRST, search={**SEARCH, "trials": 1}))
    scene.ask()
    scene.go(300)
    assert scene.stands("first") == ["completed"]
    assert len(scene.points()) == 3


def test_another_space_is_another_search_over_the_former_runs_too(make):
    scene = make(FIRST)
    scene.losses |= {"first-t": 0.01}
    scene.ask()
    scene.go(600)
    former = scene.cells("first")
    scene.again(changed(FIRST, space={"weight_decay": {"low": 0.0, "high": 0.1}}))
    scene.losses.clear()
    scene.ask()
    assert all(set(point) == {"weight_decay"} for point in scene.points())
    scene.go(600)
    assert len(scene.cells("first")) == 8 + 8
    assert scene.winner("first") in former


def test_a_stopped_search_goes_on_when_it_is_asked_for_again(make):
    scene = make(FIRST)
    scene.ask()
    scene.reach(3, scene.trial(0))
    scene.do(stop, "first")
    scene.go(100)
    assert scene.stands("first") == ["declared"]
    assert len(scene.points()) == 3
    scene.ask()
    scene.go(900)
    assert scene.stands("first") == ["completed"]
    assert len(scene.jobs_made()) == 8 + 3, "three of them had a job before"


def test_a_winner_by_hand_ends_the_search(make):
    scene = make(FIRST, FINAL)
    scene.ask()
    scene.do(choose, "first", scene.trial(1), "enough of it")
    scene.go(600)
    assert len(scene.points()) == 3
    assert scene.stands("first", "final") == ["completed", "completed"]


def test_a_search_from_a_winner(make):
    ground = Stage(name="ground", grid={"context_length": [32, 64]}, select=RULE)
    scene = make(ground, changed(FIRST, **{"from": "ground"}))
    scene.losses |= {"ground-r4-lr1e-05-c64": 0.01}
    scene.ask()
    assert scene.stage("first")["reason"] == "depends on ground"
    scene.go(900)
    assert scene.stands("ground", "first") == ["completed", "completed"]
    assert all("-c64-" in name for name in scene.cells("first"))


def test_a_crash_between_what_was_proposed_and_its_runs(make, monkeypatch):
    from lvjobs.control.stages import advance

    scene = make(FIRST)

    def crash(*_arguments, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(advance, "enter", crash)
        with pytest.raises(KeyboardInterrupt):
            scene.ask()
    assert scene.cells("first") == []
    proposed = scene.points()
    assert len(proposed) == 3
    scene.one_pass()
    assert scene.points() == proposed
    assert len(scene.cells("first")) == 3
    scene.go(600)
    assert scene.stands("first") == ["completed"]
    assert len(scene.jobs_made()) == len(set(scene.jobs_made())) == 8


@pytest.mark.slow
def test_a_pass_that_is_killed_at_any_instant(make, die_everywhere):
    """Two trials have ended, and the pass that learns of it dies somewhere: nothing is proposed twice, or lost."""
    stage = changed(FIRST, steps=4, search={"trials": 3, "parallel": 2, "startup": 1})
    scene = make(stage)
    scene.ask()
    scene.cluster.advance(60)
    expected = None
    for instant, left in die_everywhere(scene, Search.one_pass):
        left.one_pass()
        for _ in range(4):
            left.cluster.advance(35)
            left.one_pass()
        assert left.stands("first") == ["completed"], instant
        assert left.verdicts() == ["done"] * 3, instant
        assert len(left.jobs_made()) == len(set(left.jobs_made())) == 3, instant
        left.is_what_the_sampler_says(stage)
        expected = expected or left.points()
        assert left.points() == expected, instant


def test_a_point_that_train_refuses_holds_the_stage(make):
    scene = make(changed(FIRST, space={"lora_dropout": {"low": 0.9, "high": 1.5}}))
    scene.ask()
    assert scene.stands("first") == ["held"]
    assert "stage first: lora_dropout = " in scene.stage("first")["reason"]


# -- what it will cost ------------------------------------------------------------------------------------------------


def unfolded(stage, points=()):
    found = unfold([stage], REQUEST, lambda config: config.params["lora_rank"] * config.steps, {}, 0, lambda *_: points)
    return found["first"]


def test_trials_that_are_to_come_are_runs_of_their_own_at_the_dearest_point():
    """Also where a run of just that point is in the ledger already: each of them may cost as much."""
    points = [{"learning_rate": 1e-4, "lora_rank": 8}, {"learning_rate": 1e-5, "lora_rank": 8}]
    for known in range(3):
        found = unfolded(FIRST, points[:known])
        assert len({config.fingerprint for config in found}) == len(found) == 8
        assert {config.params["lora_rank"] for config in found} == {8}
        rates = [config.params["learning_rate"] for config in found]
        assert rates == [point["learning_rate"] for point in points[:known]] + [1e-5] * (8 - known)
    assert len(unfolded(changed(FIRST, seeds=[3, 4, 5]), points)) == 8 * 3
    assert len(unfolded(changed(FIRST, search={"trials": 1}), points)) == 2, "more were proposed than there will be"


def test_the_dearest_point_is_where_all_that_costs_is_dearest():
    stage = changed(FIRST, space={"lora_rank": [4, 8, 2], "steps": {"low": 10, "high": 30}, "weight_decay": [0.2, 0.1]})
    dear = unfolded(stage)[0]
    assert (dear.params["lora_rank"], dear.steps, dear.params["weight_decay"]) == (8, 30, 0.2)


def test_what_was_proposed_is_counted_as_what_it_is_and_only_for_the_same_search(make):
    scene = make(FIRST)
    scene.ask()
    seen = read_ledger(scene.study, 1)
    found = foresee.unfolded(scene.study, REQUEST, seen)["first"]
    names = {row["fingerprint"] for row in scene.rows("runs")}
    assert [config.fingerprint in names for config in found] == [True] * 3 + [False] * 5
    other = REQUEST.model_copy(update={"typed": {"weight_decay": 0.5}})
    assert not names & {config.fingerprint for config in foresee.unfolded(scene.study, other, seen)["first"]}


def test_a_summary_of_an_earlier_release_has_no_trials(make):
    scene = make(FIRST)
    scene.ask()
    row = {key: value for key, value in scene.summary("first").items() if key not in ("trials", "proposed")}
    assert stage_line(read_row(StageStatus, row)) == "first: running, 0 of 3 done"
