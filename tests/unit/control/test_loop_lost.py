"""The whole loop under a scheduler that is silent, late or forgetful; jobs that turn up late; a holder that slept."""

import pytest
from control_scenes import Scene, begun, make_haste
from simulator.engine import Manners

from lvjobs.control import loop
from lvjobs.ledger.lease import LeaseLost
from lvjobs.ledger.transaction import Transaction


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: Scene(tmp_path, **more)


def hide(scene):
    """The scheduler knows of no job any more; returns what it knew."""
    hidden = list(scene.cluster.jobs)
    scene.cluster.jobs.clear()
    return hidden


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


def test_an_accounting_outage_is_not_a_death(make, fault):
    scene = begun(make())
    scene.cluster.accounting = "dead"
    hidden = hide(scene)
    scene.go(600, every=100)
    assert scene.state() == "running"
    scene.cluster.jobs += hidden
    scene.go(30)
    assert scene.causes() == ["completed"]
    fault("accounting_dead", scene)


def test_late_accounting_says_how_it_ended(make, fault):
    """The queue forgot the job before accounting heard of its end."""
    scene = begun(make(manners=Manners(min_job_age=5, accounting_lag=90)))
    scene.cluster.cancel(scene.job().id)
    scene.go(60)
    assert scene.state() == "running"
    scene.go(45)
    assert scene.state() == "cancelled"
    fault("accounting_late", scene)


def test_accounting_that_still_calls_an_earlier_run_running_makes_it_no_kill(make):
    scene = begun(make(steps=60, manners=Manners(accounting_lag=20)), taken=30)
    scene.cluster.fail_node(scene.job().id)
    scene.make_pass()
    assert scene.causes() == ["node_fail"]


def test_nothing_follows_from_a_scheduler_that_is_silent(make, fault):
    """Least of all from accounting, which calls a job ended that is queued to continue."""
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
    fault("silent", scene)


# -- a scheduler that counts from one again ------------------------------------------------------------------------


def test_a_job_with_the_number_of_an_old_one_is_not_taken_for_it(make, fault):
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
    fault("job_id_reused", scene)


# -- jobs that may train no more -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_revoked_job_that_turns_up_late_is_cancelled_and_spends_nothing(make, seconds, fault):
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
    fault("late_job", scene)


def test_a_revoked_job_that_slurm_runs_again_spends_nothing(make, fault):
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
    fault("late_job", scene)


# -- a holder that slept -------------------------------------------------------------------------------------------


def test_a_pass_whose_lease_was_taken_writes_nothing_and_submits_nothing(make, monkeypatch):
    scene = begun(make())
    scene.cluster.kill(scene.job().id)
    with scene.session() as sleeper:
        decide = loop.decide

        def sleep_and_decide(*args):
            monkeypatch.undo()
            make_haste(monkeypatch)
            later = loop.open_ledger(scene.study.layout.database, sleeper.ledger._epoch + 1)
            later.call(Transaction.set_setting, "a", "b")
            later.close()
            return decide(*args)

        before = scene.dump()
        monkeypatch.setattr(loop, "decide", sleep_and_decide)
        with pytest.raises(LeaseLost):
            sleeper.make_pass()
    assert scene.dump() == before
    assert len(scene.jobs()) == 1
    assert not scene.is_revoked(scene.job())
