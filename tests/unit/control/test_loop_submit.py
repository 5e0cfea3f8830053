"""No job is lost and none is submitted twice: whatever sbatch may answer."""

import os
from dataclasses import replace

import pytest
from control_scenes import Scene, begun, make_haste
from simulator.engine import Manners

from lvjobs.cluster.protocol import Cap, Limits, SubmitLimited, SubmitRefused, SubmitUnclear
from lvjobs.control.submission.dispatch import Queue, prepare_submission, send_in_turn
from lvjobs.errors import UsageError
from lvjobs.ledger import database
from lvjobs.records.submission import read_members


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


def test_runs_that_wait_have_one_file_for_all_of_them(scene):
    scene.enter("one", "two", "three")
    assert list(scene.study.layout.checkpoints.iterdir()) == []
    (path,) = scene.study.layout.submissions.glob("*.jsonl")
    with path.open("rb") as stream:
        members = read_members(stream)
    assert [(member.name, member.allowance) for member in members] == [("one", 16), ("three", 16), ("two", 16)]


@pytest.mark.parametrize("count", [1, 60])
def test_at_most_ten_syncs_before_sbatch_at_any_number_of_runs(scene, monkeypatch, count):
    """SQLite makes four more for each commit, and they are not seen here."""
    scene.enter("first")
    scene.make_pass()
    synced, fsync, directory, submit = [0], os.fsync, database.fsync_directory, scene.cluster.submit

    def counted(descriptor):
        synced[0] += 1
        fsync(descriptor)

    def committed(path):
        synced[0] += 4
        directory(path)

    def submitted(request):
        synced.append(synced[0])
        return submit(request)

    monkeypatch.setattr(os, "fsync", counted)
    monkeypatch.setattr(database, "fsync_directory", committed)
    monkeypatch.setattr(scene.cluster, "submit", submitted)
    scene.enter(*(f"run{number}" for number in range(count)))
    assert synced[1:] == [7]


@pytest.mark.parametrize("names", [["one"], ["one", "two", "three"]])
def test_the_job_that_was_checked_is_the_job_that_is_submitted(scene, names):
    checked, submitted = [], []
    check, submit = scene.cluster.check, scene.cluster.submit
    scene.cluster.check = lambda request: (checked.append(request), check(request))
    scene.cluster.submit = lambda request: (submitted.append(request), submit(request))[1]
    assert scene.enter(*names).outcome == "submitted"
    assert [id(request) for request in submitted] == [id(request) for request in checked]


# -- a reply that is lost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["one"], ["one", "two", "three"]])
@pytest.mark.parametrize("wait", [0, 8, 60])
def test_a_job_whose_reply_was_lost_is_adopted_and_trains_to_its_end(scene, names, wait, fault):
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
    fault("reply_lost", scene)


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


def test_a_submission_that_made_no_job_is_tried_again_once_after_two_looks(scene, fault):
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
    fault("reply_lost", scene)


def test_an_unclear_submission_waits_for_as_long_as_the_scheduler_is_silent(scene, fault):
    scene.cluster.silent = True
    scene.enter("one")
    scene.go(300, every=60)
    assert scene.state() in ("submitting", "completed")
    scene.cluster.silent = False
    scene.go(60)
    assert scene.state() == "completed"
    assert len(scene.jobs()) == 1
    fault("silent", scene)


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
        assert any("Unable to contact slurm controller" in line for line in scene.one_pass())
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
    assert "Unable to contact slurm controller" in scene.run()["reason"]
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


def test_a_run_that_is_refused_later_is_held(make, fault):
    scene = begun(make())
    scene.cluster.kill(scene.job().id)
    scene.cluster.submit_faults.append("refused")
    scene.make_pass()
    assert scene.state() == "held"
    assert "Invalid account" in scene.run()["reason"]
    scene.go(120)
    assert len(scene.jobs()) == 1
    scene.resume_runs("one", account="other")
    scene.go(60)
    assert scene.state() == "completed"
    fault("refused", scene)


# -- no more than the site allows ----------------------------------------------------------------------------------

NINE = tuple(f"r{number}" for number in range(9))


def in_queue(scene):
    return sum(job.end is None for job in scene.cluster.jobs)


def submitted(scene):
    """Return the number of members of each array that the cluster took."""
    return [row["size"] for row in scene.rows("submissions")]


def see_through(scene, names, most):
    for _ in range(60):
        scene.cluster.advance(5)
        scene.one_pass()
        assert in_queue(scene) + scene.cluster.foreign_jobs <= most
        if all(scene.state(name) == "completed" for name in names):
            break
    for name in names:
        assert scene.state(name) == "completed"
        assert len(scene.jobs(name)) == 1


@pytest.mark.parametrize("most", [1, 2, 4, 30])
@pytest.mark.parametrize("told", [True, False], ids=["told", "found out"])
def test_a_sweep_goes_through_a_limit_on_the_queue(make, most, told, fault):
    scene = make(manners=Manners(max_submit=most, tells_limits=told))
    sent = scene.enter(*NINE)
    assert sent.outcome == "submitted"
    room = max(1, most - 1) if told else most
    scene.make_pass()
    assert in_queue(scene) == min(9, room)
    names = [row["name"] for row in scene.rows("runs") if row["state"] == "planned"]
    assert names == list(NINE[room:]), "the oldest go first"
    assert all("waits for free slots in the queue" in scene.run(name)["reason"] for name in names)
    assert {row["kind"] for row in scene.rows("events")} == {"submitted"}, "waiting is no event"
    see_through(scene, NINE, most)
    fault("submit_limit", scene)


def test_jobs_that_are_not_ours_take_room_too(make):
    scene = make(manners=Manners(max_submit=4))
    scene.cluster.foreign_jobs = 3
    sent = scene.enter(*NINE)
    assert (sent.outcome, sent.runs) == ("limited", ())
    assert "QOS normal: MaxSubmitJobsPU=4" in sent.said
    scene.make_pass()
    assert in_queue(scene) == 0
    assert len(scene.rows("reservations")) == 9
    scene.cluster.foreign_jobs = 1
    scene.make_pass()
    assert in_queue(scene) == 2
    see_through(scene, NINE, 4)


def test_one_array_as_long_as_it_may_be(make):
    scene = make(manners=Manners(slots=9))
    scene.cluster.limits = lambda request: Limits(members=4)
    assert len(scene.enter(*NINE).runs) == 4
    scene.make_pass()
    assert sorted(submitted(scene)) == [1, 4, 4]


def test_an_unclear_sbatch_ends_the_halving_at_once(make):
    scene = make(manners=Manners(max_submit=4, tells_limits=False))
    asked = []

    def sbatch(request, submit=scene.cluster.submit):
        asked.append(len(request.run_directories))
        if len(asked) == 2:
            scene.cluster.submit_faults.append("vanished")
        return submit(request)

    scene.cluster.submit = sbatch
    assert scene.enter(*NINE).outcome == "unclear"
    assert asked == [9, 4], "9 were too many; of 4 nobody knows: no 2, no 1"
    assert [scene.state(name) for name in NINE] == ["submitting"] * 4 + ["planned"] * 5


def test_halving_is_short(make):
    scene = make(manners=Manners(max_submit=4, tells_limits=False))
    asked = []

    def sbatch(request, submit=scene.cluster.submit):
        asked.append(len(request.run_directories))
        return submit(request)

    scene.enter("zero")
    scene.cluster.submit = sbatch
    scene.enter(*NINE)
    assert asked == [9, 4, 2]
    scene.one_pass()
    assert asked[3:] == [7, 3, 1, 1]


def test_limits_are_asked_once_an_hour_and_anew_when_they_prove_wrong(make):
    scene = make(manners=Manners(max_submit=4))
    scene.enter(*NINE)
    for _ in range(5):
        scene.one_pass()
    assert len(scene.calls("limits")) == 1
    scene.cluster.manners = replace(scene.cluster.manners, max_submit=2)
    scene.cluster.cancel(scene.job("r0").id)
    scene.cluster.cancel(scene.job("r1").id)
    scene.one_pass()
    assert in_queue(scene) == 2, "sbatch had the last word"
    scene.one_pass()
    assert len(scene.calls("limits")) == 2
    for _ in range(5):
        scene.one_pass()
    assert len(scene.calls("limits")) == 2
    scene.clock.now += 3700
    scene.one_pass()
    assert len(scene.calls("limits")) == 3


def test_a_silent_scheduler_is_asked_for_no_limits(make):
    scene = make(manners=Manners(max_submit=4))
    scene.cluster.silent = True
    assert scene.enter(*NINE).outcome == "unclear"


def test_resubmissions_wait_for_room_with_their_cause(make):
    scene = begun(make(manners=Manners(max_submit=4)))
    scene.cluster.foreign_jobs = 3
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    assert (scene.state(), scene.run()["cause"]) == ("interrupted", "killed")
    assert "waits for free slots" in scene.run()["reason"]
    scene.cluster.foreign_jobs = 0
    scene.go(60)
    assert scene.state() == "completed"


# -- several partitions or QOS -------------------------------------------------------------------------------------


def refusing(scene, refuse):
    """An sbatch that says no where `refuse` has an answer; returns what was asked of it."""
    asked = []

    def sbatch(request, submit=scene.cluster.submit):
        wanted = (request.resources.get("qos"), request.resources.get("partition"))
        asked.append((request.token, len(request.run_directories), *wanted))
        if error := refuse(*wanted):
            raise error
        return submit(request)

    scene.cluster.submit = sbatch
    return asked


def test_the_next_qos_is_tried_where_one_is_refused_under_the_same_token(scene):
    asked = refusing(scene, lambda qos, _: SubmitRefused("Invalid qos specification") if qos == "a" else None)
    assert scene.enter("one", "two", qos=["a", "b"]).outcome == "submitted"
    assert [one[1:] for one in asked] == [(2, "a", None), (2, "b", None)]
    assert len({one[0] for one in asked}) == 1
    assert scene.job("two").request.resources["qos"] == "b"
    scene.go(60)
    assert len(scene.jobs()) == 1


def test_all_partitions_at_once_and_then_each_by_itself(scene):
    asked = refusing(scene, lambda _, partition: SubmitRefused("no such") if partition in ("p,q", "p") else None)
    scene.enter("one", partition=["p", "q"])
    assert [one[3] for one in asked] == ["p,q", "p", "q"]
    assert scene.job().view().partition == "q"


def test_what_every_choice_refuses_is_refused_with_all_reasons(scene):
    refusing(scene, lambda qos, _: SubmitRefused(f"no {qos}"))
    with pytest.raises(UsageError, match="no a; no b"):
        scene.enter("one", qos="a,b")
    assert scene.rows("runs") == []


def test_one_that_is_full_and_one_that_is_none_is_waiting(scene):
    refusing(scene, lambda qos, _: SubmitLimited("full") if qos == "a" else SubmitRefused("Invalid qos"))
    assert scene.enter("one", qos="a,b").outcome == "limited"
    assert scene.state() == "planned"


def test_nothing_else_is_tried_after_an_unclear_answer(scene):
    asked = refusing(scene, lambda qos, _: SubmitUnclear("timed out"))
    assert scene.enter("one", qos="a,b").outcome == "unclear"
    assert len(asked) == 1


def test_the_preferred_qos_is_filled_before_the_next(scene):
    """Two places in `a`, the rest goes to `b`."""
    caps = {"a": 3, "b": 99}
    scene.cluster.limits = lambda request: Limits(
        (Cap(("qos", request.resources["qos"]), caps[request.resources["qos"]], ""),)
    )
    scene.cluster.load = dict
    scene.cluster.observe = lambda *args, observe=scene.cluster.observe: replace(observe(*args), load=None)
    asked = refusing(scene, lambda *_: None)
    scene.enter(*NINE, qos="a,b")
    assert [one[1:3] for one in asked] == [(2, "a")]
    with scene.session() as session:
        queue = Queue(session.ledger, scene.clock())
        with session.ledger.transaction() as transaction:
            runs = [run for run in transaction.runs() if run.state.value == "planned"]
        prepared = prepare_submission(scene.study, queue, scene.cluster, runs)
        list(send_in_turn(scene.study, queue, scene.cluster, prepared, session.terms, scene.clock()))
    assert [one[1:3] for one in asked[1:]] == [(2, "a"), (5, "b")]
