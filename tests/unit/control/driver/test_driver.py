"""The driver's job is kept by every pass: on a simulated cluster, whose queue has room for drivers beside its jobs."""

import os
import subprocess
from dataclasses import replace

import pytest
from click.testing import CliRunner
from control_scenes import begun, check, make_haste
from driver_scenes import Driven
from simulator.engine import Manners

from lvjobs.cli import cli
from lvjobs.cluster.protocol import DRIVER, Job, JobRequest, SubmitDeferred, SubmitRefused, SubmitUnclear
from lvjobs.cluster.templates import DRIVER_PROFILE
from lvjobs.control import loop
from lvjobs.control.backends import cluster_for, driver_name, driver_token
from lvjobs.control.driver import driver
from lvjobs.control.driver.driver import change
from lvjobs.control.driver.status import cron_entry
from lvjobs.control.loop import open_session
from lvjobs.errors import UsageError
from lvjobs.study.config import StudyConfig, StudyContext
from lvjobs.study.tables import Driver, Resources


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: Driven(tmp_path, **more)


def test_one_drives_and_one_stands_by_however_many_passes_are_made(make):
    scene = begun(make())
    scene.go(60)
    assert scene.shown.live() == ["900", "901"]
    request = scene.shown.requests[0]
    assert request.job_name == driver_name(scene.study)
    assert request.run_directories == [scene.study.root]
    assert request.log_directory.is_dir()


@pytest.mark.parametrize("lost", [["900"], ["901"], ["900", "901"]])
def test_the_next_pass_replaces_one_that_is_lost(make, lost):
    scene = begun(make())
    for job_id in lost:
        scene.shown.set(job_id, "CANCELLED")
    told = scene.make_pass()
    assert len(scene.shown.live()) == 2
    assert any(line.startswith("driver: submitted") for line in told) == (len(lost) == 2)


def test_it_ends_with_what_it_drives_and_comes_back_with_it(make):
    scene = begun(make())
    scene.shown.set("900", "RUNNING")
    scene.cancel("one")
    scene.make_pass()
    assert scene.shown.live() == ["900"], "one that runs may be who asks: it ends by itself"
    scene.shown.set("900", "COMPLETED")
    scene.make_pass()
    assert scene.shown.live() == []
    scene.enter("two")
    scene.make_pass()
    assert len(scene.shown.live()) == 2


def test_a_scheduler_that_does_not_say_is_sent_none(make):
    scene = begun(make())
    scene.shown.drivers.clear()
    scene.cluster.silent = True
    scene.one_pass()
    assert scene.shown.live() == []
    assert scene.lines()[0] == "Slurm did not answer whether a driver job exists"
    scene.cluster.silent = False
    scene.make_pass()
    assert len(scene.shown.live()) == 2


@pytest.mark.parametrize("error", [SubmitDeferred("too many"), SubmitUnclear("no reply")])
def test_no_room_for_it_or_no_answer_is_nobodys_trouble(make, error):
    scene = make()
    scene.shown.error = error
    begun(scene)
    assert scene.shown.live() == []
    assert not any(line.startswith("no driver") for line in scene.make_pass())
    scene.shown.error = None
    scene.make_pass()
    assert len(scene.shown.live()) == 2


def test_a_site_that_refuses_it_is_told_of_once_and_asked_again_when_that_may_help(make):
    scene = make()
    scene.shown.error = SubmitRefused("Invalid partition name specified")
    scene.enter("one")
    told = scene.one_pass()
    assert [line for line in told if "Invalid partition name" in line and "lvjobs watch" in line]
    asked = len(scene.shown.requests)
    scene.go(60)
    assert len(scene.shown.requests) == asked
    assert "the site refused it: Invalid partition name" in scene.lines()[0]
    scene.declare(partition="cpu")
    scene.one_pass()
    assert len(scene.shown.requests) == asked + 1
    scene.shown.error = None
    scene.stop(stopped=False)
    assert len(scene.shown.live()) == 2


def test_a_refusal_is_not_held_against_the_site_for_ever(make):
    scene = begun(make(steps=5000))
    scene.shown.drivers.clear()
    scene.shown.error = SubmitRefused("no")
    scene.one_pass()
    scene.shown.error = None
    scene.cluster.advance(3500)
    scene.one_pass()
    assert scene.shown.live() == []
    scene.cluster.advance(200)
    scene.one_pass()
    assert len(scene.shown.live()) == 2


def test_one_that_runs_is_stopped_too(make, monkeypatch):
    """It would go on for as long as the study does: it may be waiting for what is due, and has the lease not now."""
    scene = begun(make())
    scene.shown.set("900", "RUNNING")
    monkeypatch.setattr(loop, "open_session", lambda *_, **__: scene.session())
    monkeypatch.setattr("lvjobs.study.config.load_study", lambda _: scene.study)
    done = CliRunner().invoke(cli, ["driver", "stop"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "no driver: it was stopped" in done.output
    assert scene.shown.live() == []


def test_stopped_by_the_user(make):
    scene = begun(make())
    scene.stop(stopped=True)
    assert scene.shown.live() == []
    scene.make_pass()
    assert scene.shown.live() == []
    assert scene.lines()[0] == "no driver: it was stopped; type: lvjobs driver start"
    scene.stop(stopped=False)
    assert len(scene.shown.live()) == 2


@pytest.mark.parametrize(("job", "told"), [(True, True), (False, False)])
def test_workers_know_whom_to_wake(make, job, told):
    scene = make()
    scene.declare(job=job)
    begun(scene)
    environment = scene.job().request.environment
    assert environment == ({"LVJOBS_DRIVER": driver_name(scene.study)} if told else {})
    assert bool(scene.shown.live()) == job


def test_two_directories_have_drivers_of_their_own(tmp_path):
    studies = [StudyContext(root=tmp_path / name, config=StudyConfig()) for name in "ab"]
    assert len({driver_token(study.root) for study in studies}) == 2


def test_two_drivers_one_with_a_clock_of_its_own_do_no_double_work(make):
    """The other's host is five minutes behind, or ahead: each pass leaves the invariants, and all ends."""
    scene = make(steps=60)
    begun(scene, "one", "two")
    for second in range(0, 800, 10):
        scene.cluster.advance(10)
        if second in (20, 200, 400):
            for job in scene.cluster.jobs:
                if job.state == "RUNNING":
                    scene.cluster.preempt(job.id)
        offset = (-300, 0, 300)[second // 10 % 3]
        clock = lambda offset=offset: scene.clock() + offset  # noqa: E731
        with open_session(scene.study, wait=5, factory=lambda *_: scene.shown, clock=clock) as session:
            session.make_pass()
        check(scene)
    assert {row["state"] for row in scene.rows("runs")} == {"completed"}
    assert len(scene.jobs("one")) == 1
    assert len(scene.shown.drivers) == 2


@pytest.fixture
def scarce(make):
    """One run trains, and another is held until it gives back some of its FLOPs."""
    scene = make(steps=12, manners=Manners(slots=1), budget={"limit": 3200})
    begun(scene, "one", taken=2)
    scene.enter("two")
    scene.make_pass()
    scene.bind(limit=2800)
    scene.make_pass()
    assert (scene.state("one"), scene.run("two")["held_for"]) == ("running", "budget")
    return scene


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_it_stays_until_who_waits_for_flops_was_offered_those_that_come_back(scarce, end):
    """Nothing else goes on then: every run has ended, or is held."""
    if end == "cancelled":
        scarce.cancel("one")
    seen = []
    while scarce.state("two") == "held":
        assert len(scarce.shown.live()) == 2
        scarce.cluster.advance(1)
        scarce.one_pass()
        seen.append(scarce.state("one"))
        assert len(seen) < 100
    assert seen[-1] == end
    while scarce.shown.live():
        scarce.cluster.advance(1)
        scarce.one_pass()
    assert scarce.state("two") == "completed"


def test_it_does_not_stay_for_flops_that_are_not_to_come(scarce):
    scarce.bind(limit=2000)
    scarce.go(60)
    assert (scarce.state("one"), scarce.state("two")) == ("completed", "held")
    with scarce.session() as session:
        session.make_pass()
        assert not session.awaits_flops, "it ends by itself"


def job(job_id, state="PENDING", reason=""):
    return Job(str(job_id), "0" * 12, 0, state, reason, partition="low")


def moved(job_id, reason):
    """One that the site put into another partition."""
    return replace(job(job_id, reason=reason), partition="never")


@pytest.mark.parametrize(
    ("jobs", "wanted", "expected"),
    [
        ([], True, (2, [])),
        ([], False, (0, [])),
        ([job(1, "RUNNING")], True, (1, [])),
        ([job(9), job(10)], True, (0, [])),
        ([job(10), job(9), job(11, "RUNNING")], True, (0, [])),
        ([job(10), job(9), job(8, "RUNNING")], True, (0, ["10"])),
        ([job(1, "COMPLETED"), job(2, "FAILED"), job(3)], True, (1, [])),
        ([job(1, reason="launch failed requeued held"), job(2)], True, (1, ["1"])),
        ([job(1, reason="JobHeldUser"), job(2)], True, (0, [])),
        ([moved(1, "PartitionDown"), job(2, reason="Dependency")], True, (1, ["1"])),
        ([moved(1, "AccountNotAllowed"), job(2, reason="Dependency")], True, (1, ["1"])),
        ([moved(1, "Priority"), job(2, reason="Dependency")], True, (0, [])),
        ([job(1, reason="PartitionDown"), job(2, reason="Dependency")], True, (0, [])),
        ([moved(1, "PartitionDown"), moved(2, "Dependency")], True, (0, [])),
        ([job(1, "RUNNING"), job(2)], False, (0, ["2"])),
    ],
)
def test_what_is_changed(jobs, wanted, expected):
    assert change(jobs, wanted=wanted) == expected


def test_where_it_runs(make):
    scene = make()
    scene.enter("one", partition="low,urgent", qos="short,long", account="me")
    with scene.session() as session, session.ledger.transaction() as transaction:
        run = transaction.runs()[0]

    def asked():
        return driver.resources(scene.study, driver.requested_by(scene.study, run))

    assert asked() == {"partition": "low,urgent", "qos": "short", "account": "me"}
    scene.declare(partition="cpu", memory_mb=300)
    assert asked() == {"partition": "cpu", "account": "me", "memory_mb": 300}


def test_an_entry_for_cron(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", "/etc/a b.conf")
    root = tmp_path / "it's"
    root.mkdir()
    study = StudyContext(
        root=root, config=StudyConfig(profile="lab", resources=Resources(partition="low"), driver=Driver())
    )
    name, lines = cron_entry(study, 5, of_slurm=True)
    assert name == driver_name(study)
    assert "#SCRON --partition=low" in lines
    assert lines[-1].startswith("*/5 * * * * cd / && env ")
    assert "'SLURM_CONF=/etc/a b.conf'" in lines[-1]
    assert cron_entry(study, 5, of_slurm=False)[1] == lines[-1:]
    with pytest.raises(UsageError, match="%"):
        cron_entry(StudyContext(root=tmp_path / "50%", config=StudyConfig()), 5, of_slurm=False)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_driver_goes_back_to_the_queue_only_where_its_study_is(is_there, tmp_path):
    """Slurm makes the directory of a job's log anew where a study was moved away: that is no study."""
    root = tmp_path / "a study"
    (root / "logs" / "driver").mkdir(parents=True)
    if is_there:
        (root / ".lvjobs").mkdir()
        (root / ".lvjobs" / "study.json").touch()
    for name, text in {"python": "exit 75", "scontrol": f"echo \"$@\" >>'{tmp_path}/calls'"}.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    request = JobRequest(
        token="0" * 12,
        name=DRIVER,
        run_directories=[root],
        log_directory=root / "logs" / "driver",
        code_directory=root,
        python=str(tmp_path / "python"),
        resources={},
    )
    script = cluster_for(StudyContext(root=root, config=StudyConfig()), DRIVER_PROFILE).script(request)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    ended = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    calls = tmp_path / "calls"
    assert (calls.read_text() if calls.exists() else "") == ("requeue 7\n" if is_there else "")
