"""No job is lost and none is submitted twice: what sbatch may answer, and a scheduler that is silent, late or forgetful."""

import pytest
from control_scenes import Scene, make_haste

from lvjobs.cluster.simulation import Manners
from lvjobs.control import loop
from lvjobs.errors import UsageError
from lvjobs.ledger.lease import LeaseLost


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: Scene(tmp_path, **more)


@pytest.fixture
def scene(make):
    return make()


def begun(scene, *names, taken=6):
    names = names or ("one",)
    scene.enter(*names)
    scene.make_pass()
    for name in names:
        scene.reach(taken, name)
    scene.make_pass()
    return scene


def hide(scene):
    """The scheduler knows of no job any more; returns what it knew."""
    hidden = list(scene.cluster.jobs)
    scene.cluster.jobs.clear()
    return hidden


# -- a reply that is lost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["one"], ["one", "two", "three"]])
@pytest.mark.parametrize("wait", [0, 8, 60])
def test_a_job_whose_reply_was_lost_is_adopted_and_trains_to_its_end(scene, names, wait):
    scene.cluster.submit_faults.append("lost")
    assert scene.enter(*names).outcome == "unclear"
    assert {row["state"] for row in scene.rows("runs")} == {"submitting"}
    scene.cluster.advance(wait)
    told = scene.make_pass()
    assert sum("adopted" in line for line in told) == (0 if wait == 60 else 1), "found finished, or adopted"
    scene.go(60)
    for name in names:
        assert scene.state(name) == "completed"
        assert len(scene.jobs(name)) == 1


def test_a_job_that_only_its_claim_tells_of_is_adopted(scene):
    scene.cluster.submit_faults.append("lost")
    scene.enter("one")
    scene.cluster.advance(4)
    scene.cluster.accounting = "dead"
    hidden = hide(scene)
    scene.make_pass()
    assert scene.rows("submissions")[0]["job_id"] == "1"
    scene.cluster.jobs += hidden
    scene.go(30)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


def test_a_submission_that_made_no_job_is_tried_again_once_after_two_looks(scene):
    scene.cluster.submit_faults.append("vanished")
    scene.enter("one")
    scene.make_pass()
    assert scene.state() == "submitting"
    scene.cluster.advance(29)
    scene.make_pass()
    assert not scene.jobs()
    scene.cluster.advance(1)
    scene.one_pass()
    assert (scene.state(), scene.jobs()) == ("planned", [])
    scene.make_pass()
    assert len(scene.jobs()) == 1
    scene.go(60)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


def test_an_unclear_submission_waits_for_as_long_as_the_scheduler_is_silent(scene):
    scene.cluster.silent = True
    scene.enter("one")
    scene.go(300, every=60)
    assert scene.state() in ("submitting", "completed")
    scene.cluster.silent = False
    scene.go(60)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


def test_an_unclear_submission_waits_for_accounting_too(scene):
    """The job may have come and gone: only accounting can tell."""
    scene.cluster.submit_faults.append("vanished")
    scene.cluster.accounting = "dead"
    scene.enter("one")
    scene.go(300, every=60)
    assert scene.state() == "submitting"
    scene.cluster.accounting = "on"
    scene.one_pass()
    scene.go(60)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


def test_an_unclear_resubmission_that_made_no_job_keeps_its_cause(make):
    scene = begun(make())
    scene.cluster.kill(scene.job().id)
    scene.cluster.submit_faults.append("vanished")
    scene.make_pass()
    scene.cluster.advance(40)
    scene.one_pass()
    scene.cluster.advance(40)
    scene.one_pass()
    assert (scene.state(), scene.run()["cause"]) == ("interrupted", "killed")
    scene.go(60)
    assert scene.causes() == ["killed", "completed"]


# -- not now, and never --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_a_deferred_submission_is_made_by_a_later_pass_once(scene, names):
    scene.cluster.submit_faults += ["deferred"] * 4
    assert scene.enter(*names).outcome == "deferred"
    for _ in range(3):
        scene.cluster.advance(30)
        assert any("QOSMaxSubmitJobPerUserLimit" in line for line in scene.one_pass())
        assert {row["state"] for row in scene.rows("runs")} == {"planned"}
    assert len(scene.rows("events")) == len(names), "told once each"
    assert scene.rows("submissions") == []
    scene.go(60)
    for name in names:
        assert scene.state(name) == "completed"
        assert len(scene.jobs(name)) == 1


def test_a_deferred_resubmission_is_interrupted_not_planned(make):
    scene = begun(make())
    scene.cluster.kill(scene.job().id)
    scene.cluster.submit_faults.append("deferred")
    scene.one_pass()
    assert (scene.state(), scene.run()["cause"]) == ("interrupted", "killed")
    assert "QOSMaxSubmitJobPerUserLimit" in scene.run()["reason"]
    scene.go(60)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 2


def test_a_run_that_is_refused_at_once_leaves_nothing_behind(scene):
    scene.cluster.submit_faults.append("refused")
    with pytest.raises(UsageError, match="Invalid account"):
        scene.enter("one", "two")
    assert scene.dump() == {table: [] for table in scene.dump()}
    assert list(scene.study.layout.checkpoints.iterdir()) == []
    assert list(scene.study.layout.logs.iterdir()) == []
    assert scene.enter("one").outcome == "submitted"


def test_a_run_that_is_refused_later_is_held(make):
    scene = begun(make())
    scene.cluster.kill(scene.job().id)
    scene.cluster.submit_faults.append("refused")
    scene.make_pass()
    assert scene.state() == "held"
    assert "Invalid account" in scene.run()["reason"]
    scene.go(120)
    assert len(scene.jobs()) == 1
    scene.take_up("one", account="other")
    scene.go(60)
    assert scene.state() == "completed"


# -- lost ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accounting", ["on", "off"])
def test_a_job_that_nobody_knows_is_submitted_anew_after_two_looks(make, accounting):
    scene = begun(make())
    scene.cluster.accounting = accounting
    [old] = hide(scene)
    scene.make_pass()
    assert scene.state() == "running"
    scene.cluster.advance(119)
    scene.make_pass()
    assert not scene.jobs()
    scene.cluster.advance(1)
    scene.make_pass()
    assert scene.is_revoked(old)
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.causes() == ["lost", "completed"]
    assert len(scene.jobs()) == 1


def test_an_accounting_outage_is_not_a_death(make):
    scene = begun(make())
    scene.cluster.accounting = "dead"
    hidden = hide(scene)
    scene.go(600, every=100)
    assert scene.state() == "running"
    scene.cluster.jobs += hidden
    scene.go(30)
    assert scene.causes() == ["completed"]


def test_late_accounting_says_how_it_ended(make):
    """The queue forgot the job before accounting heard of its end."""
    scene = begun(make(manners=Manners(min_job_age=5, accounting_lag=90)))
    scene.cluster.cancel(scene.job().id)
    scene.go(60)
    assert scene.state() == "running"
    scene.go(45)
    assert scene.state() == "cancelled"


def test_accounting_that_still_calls_an_earlier_run_running_makes_it_no_kill(make):
    scene = begun(make(steps=60, manners=Manners(accounting_lag=20)), taken=30)
    scene.cluster.fail_node(scene.job().id)
    scene.make_pass()
    assert scene.causes() == ["node_fail"]


def test_nothing_follows_from_a_scheduler_that_is_silent(make):
    """Least of all from accounting, which calls a job ended that waits in the queue to go on."""
    scene = begun(make())
    scene.cluster.preempt(scene.job().id)
    scene.cluster.silent = True
    scene.cluster.advance(2)
    scene.one_pass()
    settled = scene.dump()
    scene.cluster.rows = [row for row in scene.cluster.rows if row[1].state != "PENDING"]  # it is late, too
    for _ in range(3):
        scene.cluster.advance(20)
        scene.make_pass()
    assert scene.dump() == settled
    scene.cluster.silent = False
    scene.go(120)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


# -- a scheduler that counts from one again ------------------------------------------------------------------------


def test_a_job_with_the_number_of_an_old_one_is_not_taken_for_it(make):
    scene = begun(make(steps=300))
    scene.cluster.forget()
    scene.enter("two")
    scene.reach(3, "two")
    assert scene.job("two").id == "1"
    scene.make_pass()
    assert scene.state("two") == "running"
    scene.go(150)
    assert scene.causes("one")[0] == "lost"
    assert scene.causes("two") == [None]
    scene.go(480, every=60)
    assert scene.state("one") == scene.state("two") == "completed"
    assert len(scene.jobs("two")) == 1


# -- jobs that may train no more -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_revoked_job_that_turns_up_late_is_cancelled_and_spends_nothing(make, seconds):
    scene = begun(make(steps=300))
    scene.cluster.accounting = "off"
    [old] = hide(scene)
    scene.go(135)
    assert scene.is_revoked(old)
    scene.go(seconds)
    old.state = "PENDING"
    old.eligible = scene.clock.now + 1000
    scene.cluster.jobs.append(old)
    scene.make_pass()
    assert old.state == "CANCELLED"
    scene.go(300, every=60)
    assert scene.state() == "completed"


def test_a_revoked_job_that_slurm_runs_again_spends_nothing(make):
    scene = begun(make(steps=300))
    old = scene.job()
    scene.cluster.kill(old.id)
    scene.make_pass()
    scene.reach(5)
    scene.cluster.put_back(old)
    scene.cluster.advance(130)
    assert old.state == "COMPLETED"
    scene.go(240, every=60)
    assert scene.state() == "completed"
    assert {job_id for job_id, _ in scene.worker.trained["one"]} == {"1", "2"}


# -- a holder that slept -------------------------------------------------------------------------------------------


def test_a_pass_whose_lease_was_taken_writes_nothing_and_submits_nothing(make, monkeypatch):
    scene = begun(make())
    scene.cluster.kill(scene.job().id)
    with scene.session() as sleeper:
        decide = loop.decide

        def sleep_and_decide(*args):
            monkeypatch.undo()
            make_haste(monkeypatch)
            loop.open_ledger(scene.study.layout.database, sleeper.ledger._epoch + 1).close()
            return decide(*args)

        before = scene.dump()
        monkeypatch.setattr(loop, "decide", sleep_and_decide)
        with pytest.raises(LeaseLost):
            sleeper.make_pass()
    assert scene.dump() == before
    assert len(scene.jobs()) == 1
    assert not scene.is_revoked(scene.job())
