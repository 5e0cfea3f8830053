"""The budget binds: what does not fit does not start, what runs goes on, and what was held goes on when it fits.

A run here takes 12 steps of 100 FLOPs and checkpoints every 4: 1600 are reserved for it, one interval of replay included.
"""

import pytest
from control_scenes import Scene, begun, make_haste
from simulator.engine import Manners

from lvjobs.control.budget.accounts import Terms
from lvjobs.control.stages import submit_runs
from lvjobs.control.stages.submit_runs import OverBudget
from lvjobs.control.submission import declare
from lvjobs.control.submission.send import prepare_job, send
from lvjobs.records.journal import Entry

RUN = 1600


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    manners = Manners(slots=1)
    return lambda limit, **budget: Scene(tmp_path, manners=manners, budget={"limit": limit, **budget})


def kill(scene, taken, name="one"):
    """Its worker is killed when this execution has taken so many steps; then its job runs again, without any pass."""
    scene.cluster.fail_node(scene.reach(taken, name).id)


def test_a_worker_that_ends_before_its_first_line_takes_nothing_from_what_was_done(make):
    """Whatever it began from: until its journal says so, the run stands where it stood, and needs no more FLOPs."""
    scene = make(RUN + 200)  # with room for the two steps that the kill costs
    scene.enter("one")
    scene.cluster.kill(scene.reach(10).id)
    scene.worker.mute.add("one")
    scene.go(45)
    done = scene.worker.executed["one"]
    (claimed,) = [row for row in scene.rows("attempts") if row["generation"] == 2]
    assert (claimed["journal_offset"], claimed["cause"]) == (0, None)
    for ends in (False, True):
        if ends:
            scene.cluster.kill(scene.job().id)
            scene.one_pass()
        assert scene.state() in (("interrupted", "queued") if ends else ("running",))
        assert scene.spent() == {"useful": done}
        with scene.session() as session:
            assert session.make_pass()["runs"][0]["step"] == done
    scene.worker.mute.clear()
    scene.go(600)
    assert scene.state() == "completed"
    assert scene.spent() == {"useful": 12, "replayed": done - 8}


# -- what may start ------------------------------------------------------------------------------------------------


def test_what_fits_exactly_starts(make):
    scene = make(RUN)
    assert scene.enter("one").outcome == "submitted"
    assert scene.money() == (0, RUN, 0)


def test_what_does_not_fit_is_refused_and_leaves_nothing(make):
    scene = make(2 * RUN - 1)
    scene.enter("one")
    before = scene.dump()
    with pytest.raises(OverBudget, match=r"needs 1600 FLOPs .* 1 more than the 1599 available .limit 3199."):
        scene.enter("two")
    assert scene.dump() == before
    assert len(list(scene.study.layout.submissions.glob("*.jsonl"))) == 1


def test_a_sweep_is_refused_as_a_whole(make):
    scene = make(2 * RUN)
    with pytest.raises(OverBudget):
        scene.enter("one", "two", "three")
    assert scene.rows("runs") == []
    assert scene.enter("one", "two").outcome == "submitted"


def test_a_finished_run_gives_back_what_it_did_not_spend(make):
    scene = make(RUN + 1200)
    scene.enter("one")
    with pytest.raises(OverBudget):
        scene.enter("two")
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.money() == (1200, 0, RUN)
    assert scene.enter("two").outcome == "submitted"


def test_a_run_that_ends_early_is_completed_and_gives_back_what_it_did_not_spend(make):
    scene = make(RUN)
    scene.worker.ending["one"] = 7
    scene.enter("one")
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.money() == (700, 0, RUN - 700)
    with scene.session() as session:
        (row,) = session.make_pass()["runs"]
    assert (row["step"], row["steps"], row["state"]) == (7, 12, "completed")


def test_a_cancelled_run_gives_back_what_it_did_not_spend_once_its_job_is_gone(make):
    scene = begun(make(2 * RUN), taken=6)
    spent = 100 * scene.worker.executed["one"]
    scene.cancel("one")
    assert scene.money() == (spent, RUN - spent, RUN)  # its worker may be at it still
    scene.go(30)
    spent = 100 * scene.worker.executed["one"]
    assert scene.money() == (spent, 0, 2 * RUN - spent)


def test_a_deferred_submission_keeps_its_reservation(make):
    scene = make(2 * RUN - 1)
    scene.cluster.submit_faults.append("deferred")
    assert scene.enter("one").outcome == "deferred"
    with pytest.raises(OverBudget):
        scene.enter("two")
    scene.go(60)
    assert scene.state() == "completed"


def test_a_task_that_declares_no_cost_needs_no_reservation(make, monkeypatch):
    scene = make(1)
    monkeypatch.setattr(declare, "rates_of", lambda _config: {})
    scene.enter("one")
    kill(scene, 3)
    kill(scene, 3)
    scene.go(300)
    assert scene.state() == "completed"
    assert scene.money() == (0, 0, 1)


def test_a_submission_is_checked_in_its_own_transaction_whatever_was_decided_before(make):
    scene = make(RUN)
    scene.cluster.submit_faults.append("deferred")
    scene.enter("one")
    with scene.session() as session:
        with session.ledger.transaction() as transaction:
            (run,) = transaction.runs()
        job = prepare_job(scene.study, [run], [{}])
        sent = send(scene.study, session.ledger, scene.cluster, job, Terms(RUN - 1), scene.clock())
    assert sent.outcome == "over_budget"
    assert "1 more than" in sent.said
    assert scene.rows("submissions") == []
    assert scene.cluster.jobs == []


def test_a_budget_that_is_used_up_between_the_check_and_the_submission_is_reported_as_that(make, monkeypatch):
    """The first check finds room. The check in the transaction of the submission row does not."""
    scene = make(RUN - 1)
    monkeypatch.setattr(submit_runs, "reservations_for", lambda *_: ({}, None))
    with pytest.raises(
        OverBudget, match=r"^needs 1600 FLOPs .*, 1 more than the .*; nothing was submitted: see lvjobs budg"
    ):
        scene.enter("one")
    assert scene.rows("runs") == scene.rows("submissions") == scene.rows("reservations") == []
    assert scene.cluster.jobs == []
    assert not scene.study.layout.run("one").root.exists()


# -- replays -------------------------------------------------------------------------------------------------------


def test_replays_within_an_interval_are_provided_for(make):
    scene = make(RUN)
    scene.enter("one")
    kill(scene, 3)
    scene.go(300)
    assert scene.state() == "completed"
    assert scene.spent()["useful"] == 12


def test_no_worker_spends_more_than_was_reserved_though_nobody_makes_a_pass(make):
    scene = make(RUN)
    scene.enter("one")
    for _ in range(2000):  # Slurm requeues it every time, and each execution loses three steps
        scene.cluster.advance(1)
        if scene.job().state == "RUNNING" and scene.job().step > 3:
            scene.cluster.fail_node(scene.job().id)
    assert scene.job().restart_count >= 5
    assert scene.worker.executed["one"] == 16
    scene.make_pass()
    assert scene.state() == "held"
    spent, reserved, free = scene.money()
    assert (reserved, free) == (0, RUN - spent)


def test_a_run_whose_replays_used_up_its_reservation_is_held_at_a_checkpoint_and_goes_on_when_there_is_more(make):
    scene = make(RUN)
    scene.enter("one")
    scene.make_pass()
    kill(scene, 3)
    kill(scene, 3)
    scene.go(200)
    run = scene.run()
    assert (run["state"], run["held_for"]) == ("held", "budget")
    assert "repeated steps used up its reservation" in run["reason"]
    assert "lvjobs budget set" in run["reason"]
    assert not scene.alive()
    assert scene.money()[0] <= RUN
    scene.bind(limit=2 * RUN)
    scene.go(200)
    assert scene.state() == "completed"
    assert scene.spent()["useful"] == 12


def test_where_flops_are_free_a_reservation_is_renewed(make):
    scene = make(3 * RUN)
    scene.enter("one")
    scene.make_pass()
    kill(scene, 3)
    kill(scene, 3)
    scene.make_pass()
    (reservation,) = scene.rows("reservations")
    assert reservation["training"] > 16
    assert scene.orders_for(scene.job().request.token) == (False, reservation["training"])
    scene.go(200)
    assert scene.state() == "completed"
    with scene.session() as session, session.ledger.transaction() as transaction:
        assert any("its reservation was renewed" in event.text for event in transaction.events())


def test_renewal_can_be_forbidden_and_the_user_may_allow_it_once(make):
    scene = make(3 * RUN, renew=False)
    scene.enter("one")
    scene.make_pass()
    kill(scene, 3)
    kill(scene, 3)
    scene.go(200)
    run = scene.run()
    assert (run["state"], run["held_for"]) == ("held", "replays")
    assert "lvjobs resume one" in run["reason"]
    scene.resume_runs("one")
    scene.go(200)
    assert scene.state() == "completed"


def test_what_an_orphan_executes_after_its_run_was_completed_and_settled_is_charged(make):
    scene = make(2 * RUN)
    scene.enter("one")
    scene.make_pass()
    kill(scene, 5)
    scene.go(200)
    assert scene.state() == "completed"
    before = scene.spent()
    assert before["estimated"] == 3  # of 5 steps that were seen, the next checkpoint is at 8
    with scene.files().journal(1).open("a") as stream:
        stream.write(Entry("step", scene.clock(), {"step": 6}).to_line())
    scene.make_pass()
    assert scene.spent() == {**before, "estimated": 2}  # of what it may have done, one step is now known
    with scene.files().journal(1).open("a") as stream:
        stream.write(Entry("step", scene.clock(), {"step": 7}).to_line())
        stream.write(Entry("leave", scene.clock(), {"cause": "superseded", "step": 7}).to_line())
    scene.make_pass()
    assert scene.spent() == {"useful": 12, "replayed": 3}
    assert scene.money()[0] == 1500


# -- a limit that changes --------------------------------------------------------------------------------------------


def test_what_runs_goes_on_and_what_waits_is_held_until_the_limit_is_raised(make):
    scene = make(3 * RUN)
    scene.enter("one")
    scene.make_pass()
    scene.reach(2)
    scene.make_pass()
    scene.enter("two")
    scene.enter("three")
    scene.make_pass()
    scene.bind(limit=2 * RUN)
    scene.make_pass()
    states = {name: scene.state(name) for name in ("one", "two", "three")}
    assert states == {"one": "running", "two": "queued", "three": "held"}
    assert "FLOPs more than is available (limit 3200)" in scene.run("three")["reason"]
    scene.bind(limit=100)
    scene.make_pass()
    scene.go(60)
    assert {name: scene.state(name) for name in states} == {"one": "completed", "two": "held", "three": "held"}
    spent, reserved, free = scene.money()
    assert (spent, reserved, free) == (1200, 0, -1100)
    scene.bind(limit=1200 + RUN)
    scene.go(120)
    assert {name: scene.state(name) for name in states} == {"one": "completed", "two": "completed", "three": "held"}
    scene.bind(limit=2400 + RUN)
    scene.go(120)
    assert scene.state("three") == "completed"


def test_held_runs_give_up_their_reservations_before_waiting_jobs_do(make):
    scene = make(2 * RUN)
    scene.worker.failing["one"] = 7
    scene.enter("one")
    scene.go(60)
    assert scene.state() == "held"
    assert scene.money()[1] > 0
    scene.cluster.submit_faults.append("deferred")
    scene.enter("two")
    scene.bind(limit=700 + RUN)
    scene.go(120)
    assert scene.state("two") == "completed"
    assert scene.rows("reservations") == []
    scene.worker.failing.clear()
    scene.bind(limit=5 * RUN)
    scene.resume_runs("one")
    scene.go(120)
    assert scene.state("one") == "completed"
