"""Scratch: scenes in which the limit of GPU-hours does not hold. Each test fails for a reason in the product."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("gpu_hours_scenes", Path(__file__).with_name("test_gpu_hours.py"))
_scenes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_scenes)
HOUR, SLOW, held, held_by_run, make = _scenes.HOUR, _scenes.SLOW, _scenes.held, _scenes.held_by_run, _scenes.make


def slow_start(scene, seconds):
    """Workers that claim their run so many seconds after their job began (a number, or a function of the job)."""
    begin = scene.worker._begin

    def later(key, job, files):
        wait = seconds(job) if callable(seconds) else seconds
        return None if scene.clock.now - job.start < wait else begin(key, job, files)

    scene.worker._begin = later


def test_a_run_alone_in_a_job_for_four_side_by_side_holds_all_gpus(make):
    scene = make(0.6, steps=3000, every=100)
    scene.submit("one", pack=4, side_by_side=4)
    scene.cluster.advance(3700)
    assert held(scene) <= 0.6 * HOUR + 60 * 2


def test_a_run_alone_in_a_pack_reserves_its_job(make):
    """It never reaches its worker: a node whose file system hangs."""
    scene = make(0.6)
    scene.worker.dumb.add("one")
    scene.submit("one", pack=4)
    scene.cluster.advance(3700)
    assert held(scene) <= 0.6 * HOUR + 60 * 2


def test_spent_has_what_a_job_holds_before_its_worker_claims_the_run(make):
    scene = make(1, steps=900, every=20)
    slow_start(scene, 600)
    scene.submit("one", time_limit="00:20:00")
    scene.go(300)
    assert scene.hours()[0] == pytest.approx(held(scene), abs=4)


def test_spent_has_the_start_up_of_a_job_that_trains(make):
    scene = make(1, steps=900, every=20)
    slow_start(scene, 600)
    scene.submit("one", time_limit="00:20:00")
    scene.reach(700)
    scene.one_pass()
    assert scene.hours()[0] == pytest.approx(held(scene), abs=4)


def test_without_accounting_start_up_counts_too(make):
    """Each of ten runs holds 2 GPUs for 5 minutes before its worker begins, and 12 s after that."""
    scene = make(1)
    scene.cluster.accounting = "off"
    slow_start(scene, 300)
    for number in range(10):
        try:
            scene.submit(f"run{number}", time_limit="00:08:00")
        except _scenes.OverBudget:
            break
        scene.go(360)
    assert held(scene) <= HOUR + 120, scene.hours()


def test_a_worker_is_not_stopped_for_start_up_that_passes_do_not_see(make):
    scene = make(3, **SLOW)
    scene.params = {}
    scene.submit("zero")
    scene.go(450)
    slow_start(scene, 120)
    scene.submit("one")
    scene.go(900)
    assert scene.state() == "completed"
    assert scene.causes() == ["completed"], "3 GPU-hours are free: its reservation could have been renewed"


def test_executions_that_end_before_their_worker_count_while_nobody_looks(make):
    scene = make(0.07, **SLOW)
    slow_start(scene, 50)
    scene.submit("one", time_limit="00:02:00")
    for _ in range(20):
        for _ in range(200):
            if scene.job().state == "RUNNING":
                break
            scene.cluster.advance(1)
        scene.cluster.advance(40)
        scene.cluster.fail_node(scene.job().id)
    scene.cluster.advance(600)
    assert held(scene) <= 0.07 * HOUR + 120, held(scene)


def test_a_refusal_is_by_the_time_limit_that_would_be_requested(make):
    """The site allows 30 minutes, so that a job for which "auto" is asked holds 1 GPU-hour at most."""
    scene = make(1.5)
    scene.cluster.manners = replace(scene.cluster.manners, max_minutes=30)
    assert scene.submit("one", time_limit="auto").outcome == "submitted"


def test_a_run_that_the_gate_admits_and_the_submission_refuses_is_held_with_a_reason(make):
    """Its time limit is computed anew for each job: twice as long after a timeout."""
    scene = make(3)
    scene.params = {"a": 1}
    scene.submit("zero")
    scene.go(60)
    scene.params = {"a": 2}
    slow_start(scene, 10_000)
    scene.submit("one", time_limit="auto")
    spent = scene.hours()[0]
    scene.bind(limit=10**17, gpu_hours=(spent + 120 + 180) / HOUR)
    for _ in range(40):
        scene.cluster.advance(15)
        told = scene.one_pass()
    assert scene.state() == "held", (scene.state(), scene.run()["reason"], told, scene.hours(), len(scene.jobs()))


def test_raising_the_limit_lets_a_run_of_a_profile_without_a_time_limit_go_on(make, monkeypatch):
    scene = make(3)
    monkeypatch.setattr("lvjobs.control.budget.gpu_hours.defaults_of", lambda _: {"gpus": 2})
    scene.submit("zero", time_limit=None)
    scene.go(60)
    assert scene.state("zero") == "completed"
    for hours in (3, 30, 3000):
        scene.bind(limit=10**17, gpu_hours=hours)
        try:
            scene.submit("one", time_limit=None)
        except _scenes.OverBudget as error:
            said = str(error)
        else:
            break
    else:
        raise AssertionError(said)


def test_a_run_whose_start_up_was_measured_too_short_is_not_submitted_for_ever(make):
    scene = make(3)
    scene.params = {}
    scene.submit("zero")
    scene.go(60)
    slow_start(scene, 120)
    scene.submit("one")
    scene.go(3600)
    assert len(scene.jobs("one")) <= 5, (len(scene.jobs("one")), scene.state(), scene.hours(), scene.run()["reason"])


def test_a_job_that_hangs_before_its_worker_holds_no_more_than_reserved(make):
    scene = make(0.2)
    scene.params = {}
    scene.submit("zero", time_limit="00:05:00")
    scene.go(60)
    scene.worker.dumb.add("one")
    scene.submit("one")
    scene.cluster.advance(3700)
    assert held(scene) <= 0.2 * HOUR + 2 * 60, held(scene)


def test_passes_do_not_see_a_job_that_hangs_before_its_worker(make):
    scene = make(0.2)
    scene.params = {}
    scene.submit("zero", time_limit="00:05:00")
    scene.go(60)
    scene.worker.dumb.add("one")
    scene.submit("one")
    scene.go(3700, every=60)
    assert held(scene) <= 0.2 * HOUR + 2 * 60, held(scene)


@pytest.mark.parametrize("gpus", [0, 1])
def test_what_was_spent_stays_when_gpus_change_at_resume(make, gpus):
    """The site does not account for GPUs."""
    scene = make(4, steps=400, every=10)
    scene.cluster.accounting = "off"
    scene.submit("one")
    scene.reach(100)
    with scene.session() as session:
        _scenes_pause(session)
    scene.go(60)
    assert scene.state() == "paused", scene.state()
    spent = scene.hours()[0]
    assert spent >= 200
    scene.resume_runs("one", gpus=gpus)
    assert scene.run()["resources"].count(f'"gpus": {gpus}'), scene.run()["resources"]
    assert scene.hours()[0] >= spent


def _scenes_pause(session):
    from lvjobs.control.reconcile import run_commands
    from lvjobs.study.words import HeldFor

    run_commands.pause(session, ["one"], "later", held_for=HeldFor.NOTHING)
    session.make_pass()


def test_without_renewal_a_run_that_never_started_is_not_held_for_what_it_used(make):
    scene = make(3, renew=False, slots=1, steps=100, every=10)
    scene.params = {}
    scene.submit("zero", time_limit="00:10:00")
    scene.go(150)
    scene.worker.dumb.add("two")
    scene.submit("two", time_limit="00:10:00")
    scene.cluster.advance(10)
    scene.cluster.kill(scene.job("two").id)
    scene.worker.dumb.clear()
    scene.go(300)
    assert scene.state("two") == "completed", (scene.run("two")["reason"], scene.hours())


@pytest.mark.parametrize("hours", [float("inf"), 1e-4])
def test_limits_at_the_edge(make, hours):
    from lvjobs.report.terminal.budget_lines import print_budget

    scene = make(hours)
    scene.submit("one", gpus=0)
    scene.go(60)
    with scene.session() as session:
        print_budget(session.make_pass()["budget"])


def test_a_worker_goes_on_when_the_limit_is_removed(make):
    scene = make(0.1, **SLOW)
    scene.submit("one", time_limit="00:02:00")
    scene.reach(20)
    scene.bind(limit=10**17)
    scene.go(30)
    assert scene.causes() == [None]
    scene.go(600)
    assert scene.state() == "completed"
    assert "cancelled" not in scene.causes(), scene.causes()


def test_completed_pack_members_and_one_that_trains_on(make):
    """Two runs side by side on 2 GPUs: when the short one is done, the long one holds both GPUs."""
    scene = make(1, steps=400, every=20)
    scene.worker.ending["one"] = 20
    scene.submit("one", "two", pack=2, side_by_side=2, time_limit="00:30:00")
    scene.go(200)
    assert scene.hours()[0] == pytest.approx(held(scene), abs=8), "two holds 2 GPUs now"


@pytest.mark.parametrize("lag", [60.0, 900.0])
def test_slow_accounting(make, lag):
    scene = make(2.1, **SLOW)
    scene.cluster.manners = replace(scene.cluster.manners, accounting_lag=lag)
    slow_start(scene, 100)
    scene.submit("one", time_limit="00:20:00")
    for _ in range(4):
        scene.go(200)
        if scene.alive():
            scene.cluster.kill(scene.job().id)
    scene.go(4000)
    assert held(scene) <= 2.1 * HOUR + 120
    assert scene.hours()[0] == pytest.approx(held(scene), abs=8)


@pytest.mark.parametrize("outage", [100, 1500])
def test_accounting_that_is_down_for_a_while(make, outage):
    scene = make(2.1, steps=100, every=10)
    slow_start(scene, 100)
    scene.submit("one", time_limit="00:20:00")
    scene.reach(120)
    scene.cluster.accounting = "dead"
    scene.cluster.kill(scene.job().id)
    scene.go(outage)
    scene.cluster.accounting = "on"
    scene.go(600)
    assert scene.state() == "completed"
    assert scene.hours()[0] == pytest.approx(held(scene), abs=8)


def test_a_suspended_job_is_not_charged_for_its_rest(make):
    scene = make(2.1, **SLOW)
    scene.submit("one", time_limit="01:00:00")
    job = scene.reach(50)
    scene.cluster.suspend(job.id)
    scene.go(5400, every=60)
    assert scene.state() == "running", scene.run()["reason"]
    scene.cluster.resume(job.id)
    scene.go(600)
    assert scene.causes() == ["completed"], scene.causes()


def test_two_programs_of_different_gpus_do_not_share_a_reservation(make):
    """The pace of 8 GPUs says little about 1 GPU: the run that asks for less is slower."""
    scene = make(20, steps=100, every=10)
    scene.params = {}
    scene.submit("zero", gpus=8)
    scene.go(150)
    before = scene.hours()[1]
    scene.submit("one", gpus=1)
    assert scene.hours()[1] - before >= 1000, "a ninth of what was reserved for 8 GPUs"


def test_why_names_the_limit_that_holds_the_run(make):
    from lvjobs.control.inspect.why import why

    scene = make(60 / 3600 * 2, **SLOW)
    scene.submit("one", time_limit="00:01:00")
    scene.cluster.advance(300)
    scene.go(30)
    with scene.session() as session:
        row = next(row for row in session.make_pass()["runs"] if row["name"] == "one")
        found = str(why(session, row))
    assert "GPU-hours more are needed" in found
    assert "waits for FLOPs" not in found
    assert "--gpu-hours" in str([each for each in found.split("remed")[-1:]]), found


def test_without_accounting_slow_starts_do_not_go_on_for_ever(make):
    """Start-up of 400 s, where 300 s are assumed: each job stops before its first step, and nothing is charged."""
    scene = make(3)
    scene.cluster.accounting = "off"
    scene.params = {}
    slow_start(scene, 400)
    scene.submit("zero")
    scene.go(600)
    assert scene.state("zero") == "completed"
    scene.submit("one")
    for _ in range(4 * 600):
        scene.cluster.advance(15)
        with scene.session() as session:
            session.make_pass()
        if scene.state() in ("completed", "held") or held(scene) > 3 * HOUR + 120:
            break
    assert held(scene) <= 3 * HOUR + 120, (len(scene.jobs("one")), scene.hours(), scene.state())


def test_a_paused_run_is_resumed_by_one_command_without_renewal(make):
    from lvjobs.control.reconcile import run_commands
    from lvjobs.study.words import HeldFor

    scene = make(5, renew=False, **SLOW)
    slow_start(scene, 30)
    scene.params = {}
    scene.submit("zero")
    scene.go(600)
    scene.submit("one")
    scene.reach(100)
    with scene.session() as session:
        run_commands.pause(session, ["one"], "later", held_for=HeldFor.NOTHING)
        session.make_pass()
    scene.go(60)
    assert scene.state() == "paused"
    scene.resume_runs("one")
    scene.go(30)
    assert scene.state() in ("running", "queued"), scene.run()["reason"]


def test_a_preempted_run_goes_on_without_renewal(make):
    """A preemption is no fault of the run: it needs a second start-up, and hours are free."""
    scene = make(5, renew=False, **SLOW)
    scene.cluster.manners = replace(scene.cluster.manners, preempt_mode="cancel")
    slow_start(scene, 30)
    scene.worker.requeues = False
    scene.params = {}
    scene.submit("zero")
    scene.go(600)
    scene.submit("one")
    scene.reach(100)
    scene.cluster.preempt(scene.job().id)
    scene.go(200)
    assert scene.state() in ("running", "queued"), scene.run()["reason"]


def test_the_words_of_a_stage_that_waits_do_not_change_in_each_pass(make):
    """They are the stage's reason: each change is an event, and a line of the pass."""
    from lvjobs.control.submission.declare import declare
    from lvjobs.control.submission.send import reservations_for

    scene = make(0.4, steps=400, every=20)
    scene.params = {}
    scene.submit("zero", time_limit="00:10:00")
    scene.reach(50, "zero")
    said = []
    for number in range(8):
        scene.cluster.manners = replace(scene.cluster.manners, step_seconds=1.0 + 0.05 * number)
        scene.cluster.advance(15)
        scene.one_pass()
        with scene.session() as session, session.ledger.transaction() as transaction:
            new = declare(transaction, scene.wanted("one", "two", **_scenes.ASKED)).new
            _, short = reservations_for(transaction, new, session.terms, scene.study.layout, scene.clock())
        said.append(str(short))
    assert len(set(said)) <= 2, said


def test_gpus_that_a_profile_names_itself_are_limited(make):
    """A profile of the user's own has --gres=gpu:4 in its text, and no variable of that name."""
    scene = make(0.5)
    scene.params = None
    account = scene.cluster._account

    def with_gpus(job):
        account(job)
        when, row = scene.cluster.rows[-1]
        scene.cluster.rows[-1] = when, replace(row, gpus=4 if job.start is not None else row.gpus)

    scene.cluster._account = with_gpus
    slow_start(scene, 600)
    for number in range(4):
        try:
            scene.submit(f"run{number}", gpus=0)  # as a profile without the variable
        except _scenes.OverBudget:
            break
        scene.go(660)
    spent, reserved, free = scene.hours()
    assert free >= -1, (spent, reserved, free)


def test_a_job_that_is_given_more_gpus_than_asked_stops_in_time(make):
    """A partition of whole nodes gives 4 GPUs to a job that asks for 2, and accounting says so."""
    scene = make(2, **SLOW)
    account = scene.cluster._account

    def with_gpus(job):
        account(job)
        when, row = scene.cluster.rows[-1]
        scene.cluster.rows[-1] = when, replace(row, gpus=4 if job.start is not None else row.gpus)

    scene.cluster._account = with_gpus
    scene.steps = 4000
    scene.submit("one")
    scene.go(4500, every=30)
    spent, reserved, free = scene.hours()
    assert spent <= 2 * HOUR + 4 * 60, (spent, reserved, free)


def test_extra_sbatch_may_not_ask_for_gpus_that_nobody_counts():
    from lvjobs.cluster.options import check_options
    from lvjobs.errors import UsageError

    for option in ("--gres=gpu:4", "--gpus=4", "--gpus-per-node=4"):
        with pytest.raises(UsageError):
            check_options([option], "study.toml", {"gpus", "time_limit"})


def test_a_node_whose_clock_is_ahead_does_not_make_jobs_for_ever(make):
    """Its clock is 10 minutes ahead of the controller's, from which a job's start is."""
    scene = make(3)
    scene.params = {}
    scene.submit("zero")
    scene.go(60)
    scene.worker._is_out_of_time_of = scene.worker._is_out_of_time

    def skewed(job, work):
        job.start -= 600
        try:
            return scene.worker._is_out_of_time_of(job, work)
        finally:
            job.start += 600

    scene.worker._is_out_of_time = skewed
    scene.submit("one")
    scene.go(900)
    assert len(scene.jobs("one")) <= 5, (len(scene.jobs("one")), scene.state())
