"""Scenes that are hard for the limit of GPU-hours: slow start-ups, hung jobs, clocks, no accounting, no renewal.

A job here asks for 2 GPUs; a step takes a second.
"""

from dataclasses import replace

import pytest
from gpu_hours_scenes import HOUR, SLOW, held, make_scene

from lvjobs.cluster.protocol import JobRequest
from lvjobs.control.inspect.why import why
from lvjobs.control.reconcile import run_commands
from lvjobs.control.stages.submit_runs import OverBudget
from lvjobs.control.submission.gpu_requests import check_gpu_requests
from lvjobs.errors import UsageError
from lvjobs.study.tables import Budget
from lvjobs.study.words import HeldFor


@pytest.fixture
def make(tmp_path, monkeypatch):
    return make_scene(tmp_path, monkeypatch)


def slow_start(scene, seconds):
    """Workers that claim their run so many seconds after their job began (a number, or a function of the job)."""
    begin = scene.worker._begin

    def later(key, job, files):
        wait = seconds(job) if callable(seconds) else seconds
        return None if scene.clock.now - job.start < wait else begin(key, job, files)

    scene.worker._begin = later


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
        except OverBudget:
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


def test_a_run_whose_start_up_was_measured_too_short_is_not_submitted_for_ever(make):
    scene = make(3)
    scene.params = {}
    scene.submit("zero")
    scene.go(60)
    slow_start(scene, 120)
    scene.submit("one")
    scene.go(3600)
    assert len(scene.jobs("one")) <= 5, (len(scene.jobs("one")), scene.state(), scene.hours(), scene.run()["reason"])


def test_passes_do_not_see_a_job_that_hangs_before_its_worker(make):
    scene = make(0.2)
    scene.params = {}
    scene.submit("zero", time_limit="00:05:00")
    scene.go(60)
    scene.worker.dumb.add("one")
    scene.submit("one")
    scene.go(3700, every=60)
    assert held(scene) <= 0.2 * HOUR + 2 * 60, held(scene)


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


def test_why_names_the_limit_that_holds_the_run(make):
    scene = make(60 / 3600 * 2, **SLOW)
    scene.submit("one", time_limit="00:01:00")
    scene.cluster.advance(300)
    scene.go(30)
    with scene.session() as session:
        row = next(row for row in session.make_pass()["runs"] if row["name"] == "one")
        found = str(why(session, row))
    assert "GPU-hours more than is available" in found
    assert "waits for FLOPs" not in found
    assert "--gpu-hours" in found.partition("remedies=")[2]


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


def test_a_job_that_has_only_just_begun_keeps_what_is_reserved_for_it(make):
    """The limit is exactly its time limit, and a pass sees the job before its worker has begun."""
    scene = make(120 / HOUR, steps=30, every=10)
    slow_start(scene, 10)
    scene.submit("one", time_limit="00:01:00")
    scene.go(120, every=2)
    assert (scene.state(), len(scene.jobs())) == ("completed", 1)


def test_a_run_alone_in_a_job_that_several_may_share_reserves_the_whole_job(make):
    scene = make(1.9)
    with pytest.raises(OverBudget, match="needs 2 GPU-hours"):
        scene.submit("one", pack=4, side_by_side=4)
    scene.bind(limit=10**17, gpu_hours=2)
    scene.steps, scene.every = 3000, 100
    scene.submit("one", pack=4, side_by_side=4)
    assert scene.hours()[1] == 2 * HOUR
    scene.cluster.advance(3700)
    assert held(scene) <= 2 * HOUR


@pytest.mark.parametrize("hours", [float("inf"), float("nan"), 0, -1, 1e-4])
def test_limits_that_are_no_limits_are_refused(hours):
    with pytest.raises(ValueError, match="gpu_hours"):
        Budget(gpu_hours=hours)


class Scripted:
    """A cluster with this batch script."""

    def __init__(self, *options):
        self.options = options

    def script(self, _request):
        return "".join(f"#SBATCH {option}\n" for option in ("--job-name=x", *self.options))


def check(scene, *options, gpus):
    (run,) = scene.enter("one", gpus=gpus, time_limit="01:00:00").runs
    request = JobRequest("t", "one", [], scene.root, scene.root, "python")
    check_gpu_requests(Scripted(*options), request, run, 3600, scene.study.layout)


@pytest.mark.parametrize(
    "option", ["--gres=gpu:4", "--gres gpu:ampere:4", "-n 1 --gpus=4", "--gpus-per-node=4", "-G 4"]
)
def test_gpus_that_no_key_names_are_refused(make, option):
    """A profile of the user's own has them in its text, or extra_sbatch adds them."""
    with pytest.raises(UsageError, match="which a limit of GPU-hours cannot count"):
        check(make(10), option, gpus=0)


def test_gpus_of_the_key_are_counted_once(make):
    check(make(10), "--gres=gpu:2", gpus=2)


def test_gpus_of_the_key_and_more_are_refused(make):
    with pytest.raises(UsageError, match="cannot count"):
        check(make(10), "--gres=gpu:2", "--gpus-per-node=4", gpus=2)


def test_a_profile_without_a_time_limit_is_refused(make, monkeypatch):
    scene = make(3)
    monkeypatch.setattr("lvjobs.control.budget.gpu_hours.defaults_of", lambda _: {"gpus": 2})
    with pytest.raises(UsageError, match="sets no time limit"):
        scene.submit("one", time_limit=None)
    assert scene.rows("runs") == []
    scene.submit("one")
