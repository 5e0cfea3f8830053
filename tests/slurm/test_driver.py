"""A study goes on with nobody there: no command of lvjobs runs while these tests wait, only what stands in the queue."""

import contextlib
import json
import os
import shutil
import time

import psutil
import pytest
from driving import BUSY, Study, kill_worker

from lvjobs import remedies
from lvjobs.lab import LabConfig, LabError

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(3000)]

TWO = """
[[stage]]
name = "first"
steps = 60
grid = { learning_rate = [1e-3, 4e-3] }

[[stage]]
name = "second"
from = "first"
steps = 60
grid = { width = [2, 4] }
"""


def declare(study, stages):
    path = study.root / "study.toml"
    path.write_text(path.read_text() + stages)


def story(study):
    shown = study.summary()
    rows = [{key: run[key] for key in ("name", "state", "cause", "step", "reason")} for run in shown["runs"]]
    logs = [path.read_text()[-3000:] for path in study.root.glob("logs/driver/*")]
    return "\n".join([*map(str, shown["stages"]), *map(str, rows), *logs])


def until(study, condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, story(study)
        time.sleep(0.5)


def driver_name_in(lab):
    names = {name for name in lab.run("squeue", "-h", "-o", "%j").split() if name.startswith("driver.")}
    (name,) = names
    return name


def drivers(lab):
    """The drivers' job ids, the one that drives first."""
    rows = [line.split() for line in lab.run("squeue", "-h", "-o", "%i %j").splitlines()]
    return sorted((job_id for job_id, name in rows if name.startswith("driver.")), key=int)


@pytest.fixture
def driven(tmp_path, lab_for):
    """A study whose driver is on, for the lab that the test asks for."""
    return Study(tmp_path, driver=True)


@pytest.mark.parametrize("lost", ["the one that drives", "both"])
def test_stages_follow_one_another_also_when_the_driver_is_cancelled(driven, lab, lost):
    declare(driven, TWO)
    driven.gate("any", 1)  # the study is not over before its drivers have been looked at
    driven.type("sweep", "all")
    before = drivers(lab)
    assert len(before) == 2
    until(driven, lambda: any(map(driven.claims, [run["name"] for run in driven.summary()["runs"]])), 180)
    lab.run("scancel", *(before if lost == "both" else before[:1]))
    if lost == "both":
        until(driven, lambda: not set(drivers(lab)) & set(before), 300)  # cancelled jobs take a while to leave
        two = [driven.start("driver", "run"), driven.start("driver", "run")]  # by hand, at once, what its job does
        there = set()

        def have_ended():
            """Return whether both have; `there` gathers the drivers seen in the queue meanwhile."""
            ended = all(process.poll() is not None for process in two)
            there.update(drivers(lab))
            return ended

        until(driven, have_ended, 240)
        for process in two:
            out, err = process.communicate()
            assert process.returncode in (0, 75) or BUSY[1] in err, out + err  # one that stalled is overtaken
        assert len(there) == 2
        assert not there & set(before)
    driven.open_gates("any")
    until(driven, lambda: set(driven.stands().values()) == {"completed"}, 600)
    until(driven, lambda: not lab.run("squeue", "-h", "-o", "%i"), 300)
    runs = driven.summary()["runs"]
    assert len(runs) == 3, "the second stage has a run in common with the first"
    assert {run["state"] for run in runs} == {"completed"}
    assert {len(driven.claims(run["name"])) for run in runs} == {1}


def test_a_driver_that_was_moved_where_nothing_starts_is_replaced_by_the_next_update(driven, lab_for):
    lab = lab_for(LabConfig(hold=6, message_timeout=60, extra=("PartitionName=never Nodes=n1 State=DOWN",)))
    declare(driven, TWO)
    driven.gate("any", 1)
    driven.type("sweep", "first")
    first, standby = drivers(lab)

    def reason_of(job_id):
        return lab.run("squeue", "-h", "-a", "-j", job_id, "-o", "%r").strip()

    def is_stranded():
        with contextlib.suppress(LabError):  # it runs: a job that does so stays where it is
            lab.run("scontrol", "update", f"jobid={first}", "partition=never")
        return reason_of(first) == "PartitionDown"

    until(driven, is_stranded, 300)
    assert reason_of(standby) == "Dependency", "it waits for one that cannot start"
    driven.type("status")
    until(driven, lambda: first not in drivers(lab), 120)
    until(driven, (driven.root / "logs" / "driver" / f"{standby}.out").exists, 300)
    driven.open_gates("any")
    until(driven, lambda: {run["state"] for run in driven.summary()["runs"]} == {"completed"}, 600)


def test_a_run_that_ends_wakes_the_driver(driven, lab_for):
    """Slurm holds a job that requeued itself, as on a usual site, but for longer; what follows does not wait for that."""
    lab = lab_for(LabConfig(hold=901, message_timeout=60))
    longer = TWO.replace("steps = 60\ngrid = { width = [2, 4] }", "steps = 90\ngrid = { width = [2] }")
    declare(driven, longer.replace("[1e-3, 4e-3]", "[1e-3]"))
    driven.gate("any", 50, 80)
    driven.type("sweep", "all")
    until(driven, lambda: "driver: job" in driven.type("driver", "status"), 300)
    held = f"{driver_name_in(lab)} BeginTime"
    until(driven, lambda: held in lab.run("squeue", "-h", "-o", "%j %r"), 300)  # it has looked, and waits
    driven.open_gates("any", 50)
    until(driven, lambda: driven.stands()["second"] == "running", 800)
    (first,) = [run["name"] for run in driven.summary()["runs"] if run["stage"] == "first"]
    done = json.loads((driven.files(first) / "done.json").read_text())["time"]
    assert driven.summary()["time"] - done < 300
    # one that is killed cannot wake it: its job's script does
    (victim,) = [run["name"] for run in driven.summary()["runs"] if run["stage"] == "second"]
    until(driven, lambda: driven.is_at_gate("any", 80), 600)
    killed = time.time()
    kill_worker(driven.claims(victim)[-1])
    until(driven, lambda: len(driven.claims(victim)) > 1, 800)
    assert driven.claims(victim)[-1]["time"] - killed < 300
    lab.run("scancel", f"--user={os.getuid()}")


def test_a_driver_that_waits_for_a_silence_to_end_is_woken_by_a_worker_that_ends(driven, lab_for):
    lab = lab_for(LabConfig(hold=601, message_timeout=60))
    path = driven.root / "study.toml"
    path.write_text(path.read_text().replace("[policy]\n", "[policy]\nhung_seconds = 120\n"))
    for name in ("stuck", "other"):
        driven.submit(name, "--steps", "20000", "--checkpoint-every", "100")
    stuck, other = (driven.reach(name, 150) for name in ("stuck", "other"))
    psutil.Process(stuck["pid"]).suspend()
    silent = time.time()
    kill_worker(other)
    until(driven, lambda: len(driven.claims("other")) > 1, 300)

    def is_waiting():
        """The driver has been running for some seconds, and makes no pass."""
        runs = f"{driver_name_in(lab)} RUNNING" in lab.run("squeue", "-h", "-o", "%j %T")
        return runs and time.time() - driven.summary()["time"] > 6

    until(driven, is_waiting, 300)
    killed = time.time()
    if killed - silent > 75:
        pytest.skip("a machine that stalls for as long as the silence is to last")
    kill_worker(driven.claims("other")[-1])
    until(driven, lambda: len(driven.claims("other")) > 2, 300)
    assert driven.claims("other")[-1]["time"] < silent + 120, "it was not woken, and waited for the silence to end"
    until(driven, lambda: len(driven.claims("stuck")) > 1, 600)
    assert 115 < driven.claims("stuck")[-1]["time"] - silent < 230, "not at the end of Slurm's hold"
    lab.run("scancel", f"--user={os.getuid()}")


def test_a_site_that_refuses_the_driver_is_told_of_and_the_study_goes_on_by_hand(tmp_path, lab):
    study = Study(tmp_path, driver=True)
    text = (tmp_path / "study.toml").read_text()
    (tmp_path / "study.toml").write_text(text.replace("[driver]\n", '[driver]\npartition = "nowhere"\n'))
    lab.run("scontrol", "update", "partitionname=low", "state=down")  # the run is not over before all this is typed
    try:
        said = study.submit("run", "--steps", "20", "--checkpoint-every", "10")
        assert "no driver job, because the site refused it" in said
        assert "nowhere" in said or "partition" in said
        assert "refuses it" not in study.type("status")
        assert drivers(lab) == []
        assert "the site refused it" in study.type("driver", "status")
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=up")
    assert study.until("run", "completed", "held")["state"] == "completed"


@pytest.mark.remedy("DRIVER_INSTALL_SCRONTAB", "DRIVER_UNINSTALL")
def test_scrontab_makes_passes_where_a_site_offers_it(tmp_path, lab_for, patient_doctor, monkeypatch, typed, take):
    """An entry of the user's own stays as it is."""
    lab = lab_for(LabConfig(extra=("ScronParameters=enable",), message_timeout=60))
    if shutil.which("scrontab") is None:
        pytest.skip("this Slurm has no scrontab")
    study = Study(tmp_path)
    own = "# mine\n0 0 1 1 * true\n"
    (tmp_path / "own").write_text(own)
    lab.run("scrontab", str(tmp_path / "own"))
    monkeypatch.chdir(tmp_path)
    code, told, _ = take(remedies.DRIVER_INSTALL_SCRONTAB, typed("doctor")[1])
    assert (code, "updates the study every 5 minutes" in told) == (0, True)
    assert "updates the study every minute" in study.type("driver", "install", "--scrontab", "--every", "1"), (
        "again: one entry"
    )
    assert lab.run("scrontab", "-l").count("lvjobs driver run") == 1
    study.submit("run", "--steps", "20", "--checkpoint-every", "10")
    told = tmp_path / "logs" / "driver" / "cron.out"
    until(study, lambda: told.exists() and "run: completed at step 20" in told.read_text(), 600)
    found = typed("doctor")[1]
    assert "scrontab updates the study" in found
    assert "scrontab: removed the study's entry" in take(remedies.DRIVER_UNINSTALL, found)[1]
    assert lab.run("scrontab", "-l").split() == own.split()
    assert "no entry of this study" in study.type("driver", "uninstall")
    lab.run("scrontab", "-r")


def test_a_driver_finishes_a_study_whose_directory_reads_like_a_url(tmp_path, lab):
    study = Study(tmp_path / "q?x=1#%20 %zz", driver=True)
    (tmp_path / "q").mkdir()
    study.submit("run", "--set", "steps=60")
    until(study, lambda: [run["state"] for run in study.summary()["runs"]] == ["completed"], 600)
    assert json.loads(study.type("status", "--json"))["runs"][0]["state"] == "completed"
    assert not list((tmp_path / "q").iterdir()), "another directory than the study's was written to"
