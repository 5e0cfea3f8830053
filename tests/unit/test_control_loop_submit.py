"""No job is lost and none is submitted twice: whatever sbatch may answer."""

import pytest
from control_scenes import Scene, begun, make_haste

from lvjobs.errors import UsageError


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: Scene(tmp_path, **more)


@pytest.fixture
def scene(make):
    return make()


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


def without_its_ledger(make):
    """A study whose runs.db is gone, and whose run trains no more."""
    scene = begun(make())
    scene.cluster.cancel(scene.job().id)
    return make()


def test_checkpoints_that_the_ledger_does_not_know_survive_a_refusal_and_are_gone_on_from(make):
    scene = without_its_ledger(make)
    scene.cluster.submit_faults.append("refused")
    with pytest.raises(UsageError, match="Invalid account"):
        scene.enter("one")
    assert list(scene.files().steps.iterdir())
    scene.enter("one")
    with scene.session() as session:
        session.make_pass()
    scene.cluster.advance(30)
    with scene.session() as session:
        session.make_pass()
    assert scene.state() == "completed"
    # the attempt that the ledger never saw ended on a node that gave no last word: up to two steps more, at most
    assert scene.spent() == {"useful": 12, "replayed": 4, "estimated": 2}


def test_checkpoints_of_another_run_are_not_gone_on_from(make):
    scene = without_its_ledger(make)
    before = scene.files().config.read_text()
    scene.steps = 24
    with pytest.raises(UsageError, match="checkpoints of another run"):
        scene.enter("one")
    assert scene.rows("runs") == []
    assert scene.files().config.read_text() == before


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
