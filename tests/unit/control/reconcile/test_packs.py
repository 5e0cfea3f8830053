"""Runs that share a job, on a simulated cluster: one queue wait, and a fate for each."""

from contextlib import suppress
from dataclasses import replace

import pytest
from control_crashes import Instants
from control_scenes import Scene, make_haste, shared_by
from simulator.engine import Manners

from lvjobs.control.reconcile import run_commands
from lvjobs.errors import UsageError
from lvjobs.study.config import validated
from lvjobs.study.tables import Resources
from lvjobs.study.words import HeldFor

FOUR = ("one", "two", "three", "four")


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: Scene(tmp_path, **more)


def packed(scene, *names, pack=4, **more):
    """The scene with runs that share jobs, and have been submitted."""
    scene.enter(*(names or FOUR), pack=pack, **more)
    scene.make_pass()
    return scene


def states(scene, *names):
    return [scene.state(name) for name in names or FOUR]


def begin(scene, seconds):
    scene.cluster.advance(seconds)
    return scene.make_pass()


# -- undisturbed ---------------------------------------------------------------------------------------------------


def test_one_after_another_in_one_job(make):
    scene = packed(make())
    assert len(scene.cluster.jobs) == 1
    assert states(scene) == ["queued"] * 4
    begin(scene, 8)
    assert states(scene) == ["running"] * 4
    assert [scene.run(name)["reason"] for name in FOUR] == ["", *["waits for its turn in shared job 1"] * 3]
    scene.go(60)
    assert states(scene) == ["completed"] * 4
    assert [scene.spent(name) for name in FOUR] == [{"useful": 12}] * 4
    assert len(scene.cluster.jobs) == 1
    assert {row["state"] for row in scene.rows("members")} == {"settled"}


def test_side_by_side(make):
    scene = packed(make(), side_by_side=4)
    begin(scene, 14)
    assert states(scene) == ["completed"] * 4


def test_as_many_jobs_as_there_are_packs_and_no_more_than_the_site_has_room_for(make):
    scene = packed(make(manners=Manners(max_submit=1)), *FOUR, "five", "six", pack=4)
    assert [shared_by(job) for job in scene.cluster.jobs] == [list(FOUR)]
    assert states(scene, "five", "six") == ["planned", "planned"]
    scene.go(120)
    assert [shared_by(job) for job in scene.cluster.jobs] == [list(FOUR), ["five", "six"]]
    assert states(scene, "five", "six") == ["completed", "completed"]


def test_a_run_that_is_left_over_has_its_job_for_itself(make):
    scene = packed(make(), "one", "two", "three", pack=2)
    assert [shared_by(job) for job in scene.cluster.jobs] == [["one", "two"], []]


def test_what_the_job_held_is_told_once(make):
    scene = packed(make(), gpus=1)
    scene.go(90)
    seconds = [row["allocated_seconds"] for row in scene.rows("attempts")]
    job = scene.cluster.jobs[0]
    assert sum(seconds) == pytest.approx(job.end - job.start)
    assert {row["sharing"] for row in scene.rows("attempts")} == {4}


# -- disturbed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side_by_side", [1, 2, 4])
@pytest.mark.parametrize("mode", ["requeue", "cancel"])
def test_a_preemption_interrupts_all_and_resumes_all(make, mode, side_by_side):
    scene = packed(make(steps=24, manners=Manners(preempt_mode=mode, hold=20)), side_by_side=side_by_side)
    begin(scene, 18)
    scene.cluster.preempt("1")
    begin(scene, 3)
    waiting = {"queued", "interrupted", "completed"}
    assert set(states(scene)) <= waiting
    scene.go(150)
    assert states(scene) == ["completed"] * 4
    assert len(scene.cluster.jobs) == 1, "the job went on, and no other took its place"
    assert [scene.spent(name) for name in FOUR] == [{"useful": 24}] * 4
    assert scene.calls("lift_hold") == ["1"], "once, and not once a run"
    assert all(cause in ("preempted", "completed") for name in FOUR for cause in scene.causes(name))


def test_a_time_limit_interrupts_and_the_job_puts_itself_back_once(make):
    scene = packed(make(steps=40, manners=Manners(hold=5)), time_limit="1m")
    scene.go(400)
    assert states(scene) == ["completed"] * 4
    assert len(scene.cluster.jobs) == 1
    assert set(scene.causes("one") + scene.causes("four")) == {"timeout", "completed"}
    assert len(scene.calls("requeue")) == scene.job().restart_count


def test_a_job_that_cannot_put_itself_back_is_followed_by_another_of_those_that_are_left(make):
    scene = packed(make(steps=30), time_limit="1m")
    scene.worker.requeues = False
    scene.go(400)
    assert states(scene) == ["completed"] * 4
    assert len(scene.cluster.jobs) > 1
    assert "launch_failed" not in {cause for name in FOUR for cause in scene.causes(name)}, "its turn had not come"
    assert all(len(shared_by(job)) != 1 for job in scene.cluster.jobs)


def test_one_that_is_killed_goes_on_in_a_job_of_its_own_and_the_others_stay(make):
    scene = packed(make(steps=30), side_by_side=4)
    begin(scene, 8)
    scene.worker.killed.add("two")
    scene.cluster.advance(1)
    told = scene.make_pass()
    assert any("two: killed: its process ended (-9) in a job that other runs share" in line for line in told)
    assert states(scene) == ["running", "interrupted", "running", "running"]
    assert scene.calls("cancel") == []
    scene.go(90)
    assert states(scene) == ["completed"] * 4
    assert [shared_by(job) for job in scene.cluster.jobs] == [list(FOUR), []]
    assert scene.job("one").id == "1"


def test_an_error_holds_one_and_the_others_stay(make):
    scene = packed(make(), side_by_side=2)
    scene.worker.failing["one"] = 5
    scene.go(90)
    assert states(scene) == ["held", "completed", "completed", "completed"]
    assert scene.calls("cancel") == []


def test_one_that_is_cancelled_leaves_and_the_last_takes_the_job_along(make):
    scene = packed(make(steps=300), side_by_side=4)
    begin(scene, 8)
    scene.cancel("two", "three", "four")
    begin(scene, 2)
    assert scene.calls("cancel") == []
    assert states(scene) == ["running", "cancelled", "cancelled", "cancelled"]
    assert scene.rows("reservations")[0]["run_id"] == scene.run("one")["id"]
    assert len(scene.rows("reservations")) == 1, "what left gave back what was reserved, though its job goes on"
    scene.cancel("one")
    scene.make_pass()
    assert scene.calls("cancel") == ["1"]


# -- the shared job is cancelled -----------------------------------------------------------------------------------


def notes(scene, name):
    run_id = scene.run(name)["id"]
    ends = {row["id"]: f"{row['cause']}: {row['evidence']}" for row in scene.rows("attempts")}
    rows = [row for row in scene.rows("events") if row["run_id"] == run_id and row["kind"] == "cancelled"]
    return ["; ".join(filter(None, (ends.get(row["attempt_id"]), row["text"]))) for row in rows]


def advance_until(scene, condition):
    """Time passes, and passes are made."""
    for _ in range(200):
        if condition():
            return
        scene.cluster.advance(1)
        scene.one_pass()
    raise AssertionError("it did not happen in time")


def is_over(scene, jobs=1):
    """Return whether nothing is submitted again as time passes, and all that was reserved is free."""
    scene.go(60)
    return len(scene.cluster.jobs) == jobs and not scene.rows("reservations")


def test_scancel_of_a_shared_job_that_waits_cancels_its_runs(make):
    scene = packed(make(), *FOUR, "alone")
    scene.cluster.cancel("1")
    scene.cluster.cancel("2")
    scene.make_pass()
    assert states(scene, *FOUR, "alone") == ["cancelled"] * 5
    (note,) = notes(scene, "alone")
    assert note.startswith("cancelled: job CANCELLED")
    assert [notes(scene, name) for name in FOUR] == [[note]] * 4, "the words of a run that had its job for itself"
    assert is_over(scene, jobs=2)


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_scancel_of_a_shared_job_cancels_the_runs_whose_turn_had_not_come(make, side_by_side):
    scene = packed(make(steps=100), side_by_side=side_by_side)
    begin(scene, 8)
    scene.cluster.cancel("1")
    scene.make_pass()
    assert states(scene) == ["cancelled"] * 4
    assert [scene.causes(name) for name in FOUR] == [["cancelled"]] * 4
    waited = FOUR[side_by_side:]
    told = {note for name in waited for note in notes(scene, name)}
    assert told == {"cancelled: job CANCELLED, exit 0:0 on n1 before the worker started"}
    assert is_over(scene)
    seconds = [row["allocated_seconds"] for row in scene.rows("attempts")]
    assert sum(seconds) == pytest.approx(scene.cluster.jobs[0].end - scene.cluster.jobs[0].start)
    assert seconds.count(0.0) == len(waited), "a run that waited held nothing"


def test_scancel_of_a_shared_job_leaves_alone_what_is_completed_or_went_on_elsewhere(make):
    scene = packed(make())
    scene.worker.killed.add("two")
    advance_until(scene, lambda: scene.causes("two") == ["killed"])
    scene.cluster.cancel("1")
    scene.go(90)
    assert states(scene) == ["completed", "completed", "cancelled", "cancelled"]


def test_scancel_of_a_shared_job_that_waits_to_go_on_cancels_its_runs(make):
    scene = packed(make(steps=100))
    begin(scene, 8)
    scene.cluster.preempt("1")
    begin(scene, 3)
    scene.cluster.cancel("1")
    scene.make_pass()
    assert states(scene) == ["cancelled"] * 4
    assert is_over(scene)


def test_scancel_outweighs_a_run_of_the_job_that_was_out_of_memory(make):
    """Accounting tells of the step that was; the queue, that somebody ended the job."""
    scene = packed(make(steps=100))
    begin(scene, 8)
    scene.cluster.cancel("1")
    since, row = scene.cluster.rows[-1]
    scene.cluster.rows[-1] = (since, replace(row, state="OUT_OF_MEMORY"))
    scene.make_pass()
    assert states(scene, *FOUR[1:]) == ["cancelled"] * 3


def test_a_shared_job_that_its_site_ends_is_not_cancelled_by_the_user(make):
    scene = packed(make(steps=30))
    begin(scene, 8)
    scene.cluster.kill("1")
    scene.go(200)
    assert states(scene) == ["completed"] * 4


@pytest.mark.parametrize("at", range(1, 47, 3))
def test_a_pass_that_dies_while_it_cancels_the_runs_is_made_again(make, at, monkeypatch):
    scene = packed(make(steps=100))
    begin(scene, 8)
    scene.cluster.cancel("1")
    die_in_a_pass(scene, at, monkeypatch)
    assert is_over(scene)
    assert states(scene) == ["cancelled"] * 4
    assert [scene.causes(name) for name in FOUR] == [["cancelled"]] * 4


class Killed(BaseException):
    """The command died."""


def die_in_a_pass(scene, at, monkeypatch):
    """A pass that is killed at instant number `at`, if it has as many."""

    def die(name):
        raise Killed(name)

    with scene.session() as session, monkeypatch.context() as patches:
        Instants(at, die).watch(scene, patches.setattr)
        with suppress(Killed):
            session.make_pass()
        scene.shown = scene.cluster


def hang(scene):
    """The first run hangs, and hears nothing: no other has a turn."""
    scene.worker.mute.update(FOUR)
    advance_until(scene, lambda: [scene.causes(name) for name in FOUR] == [["hung"]] * 4)
    scene.one_pass()  # the job's own process hangs too, and has to be cancelled
    scene.worker.mute.clear()


def requeued_too_often(scene):
    for _ in range(2):
        scene.reach(2)
        scene.cluster.preempt("1")
        scene.go(15)


def pause_all_but_the_last(scene):
    with scene.session() as session:
        run_commands.pause(session, FOUR[:3], "to see", held_for=HeldFor.NOTHING)
    scene.make_pass()


def cancel_all_but_the_last(scene):
    scene.cancel(*FOUR[:3])


def lower_the_limit(scene):
    """The budget holds all runs of a job that waits; later it lets them go on."""
    scene.bind(limit=1)
    for _ in range(3):
        scene.one_pass()
    assert states(scene) == ["held"] * 4
    scene.bind(limit=10**6)


OWN = {
    "hung": (hang, FOUR, ["1"]),
    "requeued too often": (requeued_too_often, FOUR, ["1"]),
    "paused": (pause_all_but_the_last, FOUR[3:], []),
    "cancelled": (cancel_all_but_the_last, FOUR[3:], []),
    "budget": (lower_the_limit, FOUR, ["1"]),
}
"""What makes lvjobs give up a shared job, or places in it; which runs go on all the same, and which jobs it cancels."""


@pytest.mark.parametrize("kind", OWN)
def test_what_lvjobs_itself_gives_up_cancels_no_run_that_shared_the_job(make, kind):
    happens, go_on, cancelled = OWN[kind]
    scene = packed(make(steps=20, hung_seconds=60, manners=Manners(hold=5, max_requeues=1)))
    if kind not in ("budget", "hung"):
        begin(scene, 8)
    happens(scene)
    scene.go(300)
    assert states(scene, *go_on) == ["completed"] * len(go_on)
    assert scene.calls("cancel") == cancelled


@pytest.mark.parametrize(("first", "second"), [(22, 9), (30, 10), (31, 11), (40, 9), (64, 10), (66, 11), (99, 10)])
def test_a_pass_that_dies_while_lvjobs_gives_the_job_up_cancels_no_run(make, first, second, monkeypatch):
    scene = packed(make(steps=20, manners=Manners(hold=5, max_requeues=1)))
    begin(scene, 8)
    for _ in range(2):
        scene.one_pass()
        scene.reach(2)
        scene.cluster.preempt("1")
        scene.cluster.advance(2)
    die_in_a_pass(scene, first, monkeypatch)  # it revokes the places, and submits another job
    die_in_a_pass(scene, second, monkeypatch)  # it cancels the job
    scene.go(300)
    assert states(scene) == ["completed"] * 4
    assert not scene.alive("one")


def test_a_job_is_not_cancelled_while_the_directory_of_a_run_in_it_cannot_be_read(make):
    """Later the run would take the end of the job for the user's."""
    scene = packed(make(steps=40), "one", "two", pack=2)
    begin(scene, 8)
    damaged = scene.files("two").done
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_text("{")
    scene.cancel("one")
    assert scene.calls("cancel") == []
    damaged.unlink()
    scene.go(90)
    assert states(scene, "one", "two") == ["cancelled", "completed"]
    assert len(scene.cluster.jobs) == 1


# -- one of them fails ---------------------------------------------------------------------------------------------


def test_one_that_hangs_is_left_behind_and_the_others_stay(make):
    scene = packed(make(steps=100, hung_seconds=60), side_by_side=3)
    begin(scene, 8)
    scene.worker.dumb.add("two")
    scene.go(60)
    assert states(scene) == ["running"] * 4
    scene.cluster.advance(15)
    told = scene.make_pass()
    assert any(line.startswith("two: hung") for line in told)
    assert scene.calls("cancel") == []
    assert [scene.causes(name) for name in FOUR] == [[None], ["hung"], [None], []], "four waits, which is no hanging"
    scene.worker.dumb.clear()
    scene.go(300)
    assert states(scene) == ["completed"] * 4


def test_a_turn_that_comes_late_is_no_hanging(make):
    scene = packed(make(steps=100, hung_seconds=60), "one", "two", pack=2)
    scene.go(90)
    assert states(scene, "one", "two") == ["running", "running"]
    assert scene.causes("two") == []
    scene.go(150)
    assert states(scene, "one", "two") == ["completed", "completed"]


def test_a_node_that_fails_takes_all_along_and_all_go_on(make):
    scene = packed(make(steps=30, manners=Manners(hold=5)), side_by_side=4)
    begin(scene, 8)
    scene.cluster.fail_node("1")
    scene.go(90)
    assert states(scene) == ["completed"] * 4
    assert [scene.causes(name) for name in FOUR] == [["node_fail", "completed"]] * 4


def test_a_job_that_is_requeued_too_often_is_replaced_by_one_that_all_share(make):
    scene = packed(make(steps=60, manners=Manners(hold=5, max_requeues=1)), side_by_side=4)
    for _ in range(2):
        scene.reach(2)
        scene.cluster.preempt("1")
        begin(scene, 2)
    scene.go(120)
    assert states(scene) == ["completed"] * 4
    assert [shared_by(job) for job in scene.cluster.jobs] == [list(FOUR), list(FOUR)]


def test_a_job_that_never_begins_is_a_failed_launch_of_all(make):
    scene = packed(make(launch_failed_retries=0))
    scene.cluster.fail_launch("1")
    scene.make_pass()
    assert states(scene) == ["held"] * 4
    assert scene.causes("one") == ["launch_failed"]


def test_the_reply_to_sbatch_is_lost_and_the_job_is_found_for_all(make):
    scene = make()
    scene.cluster.submit_faults.append("lost")
    assert scene.enter(*FOUR, pack=4).outcome == "unclear"
    scene.go(90)
    assert states(scene) == ["completed"] * 4
    assert len(scene.cluster.jobs) == 1


def test_runs_side_by_side_are_trained_by_one_process_each(make):
    scene = make()
    with pytest.raises(UsageError, match="leave one of the two out"):
        scene.enter(*FOUR, pack=4, side_by_side=2, processes=2)
    assert scene.rows("runs") == []
    scene.enter(*FOUR, pack=4, side_by_side=4, gpus=4)
    assert "processes" not in scene.run()["resources"]


def test_side_by_side_without_a_pack_is_refused():
    with pytest.raises(UsageError, match="set pack"):
        validated(Resources, {"side_by_side": 2}, "resources")
