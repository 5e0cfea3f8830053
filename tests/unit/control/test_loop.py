"""The whole loop on a simulated cluster: runs die of everything there is, go on, and end."""

from dataclasses import replace

import pytest
from control_scenes import Scene, begun, make_haste
from simulator.engine import Manners
from sqlalchemy import Engine, event

from lvjobs.control.stages import submit_runs


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: Scene(tmp_path, **more)


@pytest.fixture
def scene(make):
    return make()


# -- undisturbed ---------------------------------------------------------------------------------------------------


def test_a_run_is_queued_runs_and_ends(scene):
    assert scene.enter("one").outcome == "submitted"
    scene.make_pass()
    assert scene.state() == "queued"
    scene.cluster.advance(5)
    scene.make_pass()
    assert scene.state() == "running"
    scene.cluster.advance(20)
    assert scene.make_pass() == ["one: completed at step 12"]
    assert scene.spent() == {"useful": 12}
    assert scene.causes() == ["completed"]


def test_the_members_of_an_array_have_fates_of_their_own(make):
    scene = begun(make(), "one", "two", "three", "four")
    scene.cluster.kill(scene.job("two").id)
    scene.cluster.cancel(scene.job("three").id)
    scene.worker.failing["four"] = 8
    scene.cluster.advance(3)
    scene.make_pass()
    states = [scene.state(name) for name in ("one", "two", "three", "four")]
    assert states == ["running", "interrupted", "cancelled", "held"]
    scene.go(60)
    states = [scene.state(name) for name in ("one", "two", "three", "four")]
    assert states == ["completed", "completed", "cancelled", "held"]
    assert [len(scene.jobs(name)) for name in ("one", "two", "three", "four")] == [1, 2, 1, 1]


def test_a_pass_puts_no_more_statements_to_the_ledger_for_more_runs(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    counts = []
    for number in (3, 30):
        (tmp_path / str(number)).mkdir()
        scene = Scene(tmp_path / str(number), manners=Manners(slots=number))
        scene.enter(*(f"run{index}" for index in range(number)))
        scene.make_pass()
        for seconds in (5, 20):
            scene.cluster.advance(seconds)
            counts.append(statements_of(scene.one_pass))
        assert {row["state"] for row in scene.rows("runs")} == {"completed"}
    assert counts[2:] == counts[:2], "of the passes that see the runs begin, and end"


def statements_of(call):
    """The number of SQL statements that ledgers execute meanwhile."""
    found = []

    def note(*_):
        found.append(1)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        call()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return len(found)


# -- killed --------------------------------------------------------------------------------------------------------


def test_a_killed_run_is_resubmitted_and_its_old_token_revoked(make):
    scene = begun(make())
    old = scene.job()
    scene.cluster.kill(old.id)
    told = scene.make_pass()
    assert any("killed" in line for line in told)
    assert scene.is_revoked(old)
    assert len(scene.jobs()) == 2
    scene.go(30)
    assert scene.state() == "completed"
    assert scene.spent() == {"useful": 12, "replayed": 2}


def test_a_second_kill_backs_off(make):
    scene = begun(make(steps=40))
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    scene.cluster.kill(scene.reach(6).id)
    scene.make_pass()
    assert scene.state() == "interrupted"
    scene.cluster.advance(29)
    scene.make_pass()
    assert not scene.alive()
    scene.cluster.advance(1)
    scene.make_pass()
    assert len(scene.alive()) == 1


def test_three_kills_without_a_checkpoint_hold_it_until_it_is_taken_up(make):
    scene = begun(make(backoff_seconds=1), taken=2)
    for _ in range(3):
        scene.cluster.kill(scene.reach(2).id)
        scene.make_pass()
    assert scene.state() == "held"
    assert "3 times in a row without a new checkpoint" in scene.run()["reason"]
    scene.go(120)
    assert len(scene.jobs()) == 3
    scene.resume_runs("one")
    assert scene.state() == "interrupted"
    scene.cluster.kill(scene.reach(2).id)
    scene.make_pass()
    assert scene.state() != "held", "what the user forgave no longer counts"
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.spent() == {"useful": 12, "replayed": 8}


def test_a_code_error_is_held_not_retried(make, fault):
    scene = make()
    scene.worker.failing["one"] = 6
    scene.enter("one")
    scene.go(60)
    assert scene.state() == "held"
    assert "ValueError: no such thing" in scene.run()["reason"]
    assert len(scene.jobs()) == 1
    fault("code_error", scene)
    scene.worker.failing.clear()
    scene.resume_runs("one")
    scene.go(30)
    assert scene.state() == "completed"


def test_a_worker_that_shows_no_life_is_hung(make, fault):
    scene = make(hung_seconds=60)
    scene.worker.dumb.add("one")
    scene.enter("one")
    scene.go(90)
    assert scene.calls("cancel") == [scene.jobs()[0].id]
    scene.worker.dumb.clear()
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.causes()[0] == "hung"
    fault("hung", scene)


# -- the end -------------------------------------------------------------------------------------------------------


def test_scancel_is_final(make):
    scene = begun(make())
    scene.cluster.cancel(scene.job().id)
    scene.go(60)
    assert scene.state() == "cancelled"
    assert len(scene.jobs()) == 1


def test_scancel_of_a_job_that_waits_to_go_on_is_final(make):
    """The journal's last word is that it was preempted; Slurm's, that somebody meant it."""
    scene = begun(make())
    scene.cluster.preempt(scene.job().id)
    scene.cluster.advance(2)
    scene.cluster.cancel(scene.job().id)
    scene.go(60)
    assert scene.state() == "cancelled"
    assert len(scene.jobs()) == 1


def test_a_done_marker_completes_whatever_slurm_says(make):
    scene = begun(make(), taken=10)
    scene.cluster.advance(1)
    scene.cluster._on_step = lambda job: (scene.worker(job), 1)[1]  # it finishes, and then exits 1
    scene.cluster.advance(1)
    assert scene.job().state == "FAILED"
    scene.make_pass()
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1


def test_a_worker_that_finishes_while_a_pass_reads_is_charged_in_full(make, monkeypatch):
    """The journal's last lines and the done marker are written between two of the pass's looks."""
    from lvjobs.control.reconcile import observe

    scene = begun(make(), taken=10)
    read = observe.read_attempts

    def read_and_let_it_finish(*args):
        found = read(*args)
        scene.cluster.advance(5)
        return found

    monkeypatch.setattr(observe, "read_attempts", read_and_let_it_finish)
    with scene.session() as session:
        session.make_pass()
    monkeypatch.undo()
    with scene.session() as session:
        session.make_pass()
    assert scene.state() == "completed"
    assert scene.spent() == {"useful": 12}


@pytest.mark.parametrize("damage", ["000001.jsonl", "done.json"])
def test_one_runs_damaged_records_are_not_the_others_trouble(make, damage):
    scene = begun(make(), "one", "two")
    (scene.files("one").root / damage).write_text('{"generation": 1')
    if damage != "done.json":  # a claim that is not known yet
        scene.files("one").generation(1).rename(scene.files("one").generation(2))
    scene.cluster.advance(30)
    with scene.session() as session:
        summary = session.make_pass()
    assert "one: what its worker left in" in summary["problems"][0]
    assert (scene.state("one"), scene.state("two")) == ("running", "completed")


# -- lvjobs cancel -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [None, 3])
def test_a_cancelled_run_is_over(make, taken):
    scene = make(manners=Manners(slots=0 if taken is None else 1))
    scene.enter("one")
    scene.make_pass()
    if taken is not None:
        scene.reach(taken)
    scene.cancel("one")
    assert scene.state() == "cancelled"
    assert not scene.alive()
    scene.go(60)
    assert scene.state() == "cancelled"
    assert len(scene.jobs()) == 1
    assert {row["state"] for row in scene.rows("members")} == {"settled"}


def test_a_run_that_is_cancelled_while_slurm_is_silent_trains_no_more(make):
    scene = begun(make(steps=100))
    scene.cluster.silent = True
    scene.cancel("one")
    scene.cluster.advance(5)
    taken = scene.worker.executed["one"]
    scene.cluster.advance(20)
    assert scene.worker.executed["one"] == taken, "the revocation alone reached the worker"
    scene.cluster.silent = False
    scene.make_pass()
    scene.go(30)
    assert scene.state() == "cancelled"
    assert scene.causes() == ["cancelled"]
    assert not scene.alive()


def test_a_cancelled_run_whose_job_is_nowhere_ends_its_attempt_too(make):
    scene = begun(make(steps=100))
    scene.cluster.accounting = "off"
    scene.cluster.silent = True
    scene.cancel("one")
    scene.cluster.forget()
    scene.cluster.silent = False
    scene.go(180)
    assert scene.state() == "cancelled"
    assert scene.causes() == ["cancelled"]


def test_cancelling_spares_a_job_that_has_the_number_of_an_old_one(make):
    """The scheduler lost its state and counts from one again: the id that we remember is somebody else's."""
    scene = begun(make(steps=100))
    scene.cluster.forget()
    scene.enter("two")
    scene.cluster.advance(5)
    assert scene.job("two").id == "1"
    scene.cancel("one")
    assert scene.job("two").state == "RUNNING"
    scene.go(30)
    assert scene.state("one") == "cancelled"
    assert scene.state("two") == "running"


def test_a_job_that_takes_long_to_end_is_told_of_once(make):
    scene = begun(make(steps=100))
    scene.cluster._on_step = lambda job: None
    scene.cluster.cancel = lambda job_id: None  # heard, and not yet done
    scene.cancel("one")
    for _ in range(5):
        scene.cluster.advance(1)
        scene.one_pass()
    texts = [row["text"] for row in scene.rows("events")]
    assert texts.count("cancelled job 1") == 1


# -- one run after another -----------------------------------------------------------------------------------------


def comes_after(scene, name, first):
    with scene.session() as session, session.ledger.transaction() as transaction:
        transaction.update_run(scene.run(name)["id"], after=scene.run(first)["id"])


def deferred(scene, name):
    """A run that is planned, and has no job yet."""
    scene.cluster.submit_faults.append("deferred")
    scene.enter(name)


def test_a_run_that_comes_after_another_is_submitted_when_that_is_completed(scene):
    scene.enter("one")
    deferred(scene, "two")
    comes_after(scene, "two", "one")
    scene.make_pass()
    assert (scene.state("two"), scene.run("two")["reason"]) == ("planned", "depends on one")
    assert scene.jobs("two") == []
    scene.go(120)
    assert (scene.state("one"), scene.state("two")) == ("completed", "completed")
    assert scene.job("two").start >= scene.job("one").end


def test_a_run_that_comes_after_a_held_one_waits_and_after_a_cancelled_one_is_cancelled(scene):
    scene.worker.failing["one"] = 3
    scene.enter("one")
    deferred(scene, "two")
    comes_after(scene, "two", "one")
    scene.go(60)
    assert (scene.state("one"), scene.state("two")) == ("held", "planned")
    scene.cancel("one")
    scene.make_pass()
    assert scene.state("two") == "cancelled"
    assert scene.jobs("two") == []


def with_evaluation(scene, name):
    """Return the request of `submit train --evaluate`."""
    wanted = scene.wanted(name)
    (config,) = wanted.configs
    evaluation = config.model_copy(update={"steps": 3, "params": {"of": name}})
    return replace(wanted, evaluations=[(evaluation, f"eval-{name}")])


def test_an_evaluation_is_reserved_with_its_run_and_follows_it(make):
    scene = make(budget={"limit": 1600 + 600})  # 12 + 4 and 3 + 3 steps
    with scene.session() as session:
        entered = submit_runs.enter(session, with_evaluation(scene, "one"))
    assert [run.name for run in entered.new] == ["one", "eval-one"]
    assert entered.sent.outcome == "submitted"
    assert scene.money() == (0, 2200, 0)
    assert scene.jobs("eval-one") == []
    scene.go(120)
    assert (scene.state("one"), scene.state("eval-one")) == ("completed", "completed")
    assert scene.run("eval-one")["stage"] == "evaluate"
    assert scene.money() == (1500, 0, 700)


def test_a_run_whose_evaluation_does_not_fit_is_refused_with_it(make):
    scene = make(budget={"limit": 1600 + 599})
    with scene.session() as session, pytest.raises(submit_runs.OverBudget):
        submit_runs.enter(session, with_evaluation(scene, "one"))
    assert scene.rows("runs") == []


def test_evaluations_of_runs_that_are_there_wait_for_them_or_start_at_once(scene):
    scene.enter("one")
    with scene.session() as session:
        assert submit_runs.enter(session, with_evaluation(scene, "one")).sent.outcome == "planned"
    assert scene.state("eval-one") == "planned"
    assert scene.jobs("eval-one") == []
    scene.go(120)
    assert scene.state("eval-one") == "completed"
    wanted = with_evaluation(scene, "one")
    again = replace(wanted, evaluations=[(wanted.evaluations[0][0], "again")])
    with scene.session() as session:
        assert submit_runs.enter(session, again).sent.outcome == "submitted"


def test_a_completed_runs_job_is_followed_until_accounting_tells_what_it_held(scene):
    scene.enter("one")
    scene.make_pass()
    scene.reach(11)
    scene.cluster.accounting = "dead"
    scene.cluster.advance(5)
    scene.make_pass()
    assert scene.state() == "completed"
    assert scene.rows("reservations") == []
    scene.cluster.accounting = "on"
    scene.go(30)
    (attempt,) = scene.rows("attempts")
    assert attempt["allocated_seconds"] is not None
    assert [member["state"] for member in scene.rows("members")] == ["settled"]
