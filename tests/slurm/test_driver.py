"""A study goes on with nobody there: no command of lvjobs runs while these tests wait, only what stands in the queue."""

import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from driving import Study

from lvjobs.lab import LabConfig, LabError

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

TWO = """
[[stage]]
name = "first"
steps = 60
grid = { learning_rate = [1e-3, 4e-3] }

[[stage]]
name = "second"
from = "first"
steps = 60
grid = { lora_rank = [2, 4] }
"""

WHOLE = """
[evaluation]
series = 2

[[stage]]
name = "first"
steps = 200
set = { checkpoint_every = 40 }
grid = { lora_rank = [2, 4], learning_rate = [1e-3, 4e-3] }

[[stage]]
name = "second"
from = "first"
steps = 200
set = { checkpoint_every = 40 }
grid = { context_length = [48, 64] }

[[stage]]
name = "last"
from = "second"
steps = 400
set = { checkpoint_every = 40 }

[[stage]]
name = "table"
zero_shot = ["raw"]
evaluate = ["first", "last"]
"""


def declare(study, stages):
    path = study.root / "study.toml"
    path.write_text(path.read_text() + stages)


def summary(study):
    """What the last pass left, whoever made it."""
    return json.loads((study.root / ".lvjobs" / "summary.json").read_text())


def stands(study):
    return {stage["name"]: stage["state"] for stage in summary(study)["stages"]}


def story(study):
    shown = summary(study)
    rows = [{key: run[key] for key in ("name", "state", "cause", "step", "reason")} for run in shown["runs"]]
    logs = [path.read_text()[-3000:] for path in study.root.glob("logs/driver/*")]
    return "\n".join([*map(str, shown["stages"]), *map(str, rows), *logs])


def until(study, condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, story(study)
        time.sleep(0.5)


def drivers(lab):
    """The drivers' job ids, the one that drives first."""
    rows = [line.split() for line in lab.run("squeue", "-h", "-o", "%i %j").splitlines()]
    return sorted((job_id for job_id, name in rows if name.startswith("driver.")), key=int)


@pytest.fixture
def driven(tmp_path, series, lab_for):
    """A study whose driver is on, for the lab that the test asks for."""
    return Study(tmp_path, series, driver=True)


@pytest.mark.parametrize("lost", ["the one that drives", "both"])
def test_stages_follow_one_another_also_when_the_driver_is_cancelled(driven, lab, lost):
    declare(driven, TWO)
    driven.type("sweep", "all")
    before = drivers(lab)
    assert len(before) == 2
    until(driven, lambda: any(driven.executed(run["name"]) for run in summary(driven)["runs"]), 180)
    lab.run("scancel", *(before if lost == "both" else before[:1]))
    if lost == "both":
        two = [driven.start("driver", "run"), driven.start("driver", "run")]  # by hand, at once, what its job does
        for process in two:
            out, err = process.communicate(timeout=120)
            assert process.returncode in (0, 75), out + err
        assert len(drivers(lab)) == 2
        assert not set(drivers(lab)) & set(before)
    until(driven, lambda: set(stands(driven).values()) == {"completed"}, 600)
    until(driven, lambda: not lab.run("squeue", "-h", "-o", "%i"), 60)
    runs = summary(driven)["runs"]
    assert len(runs) == 3, "the second stage has a run in common with the first"
    assert {run["state"] for run in runs} == {"completed"}
    assert {len(driven.claims(run["name"])) for run in runs} == {1}


def test_a_run_that_ends_wakes_the_driver(driven, lab_for):
    """Slurm holds a job that requeued itself for two minutes, as on a usual site; what follows does not wait for that."""
    lab = lab_for(LabConfig(hold=121, message_timeout=5))
    declare(driven, TWO.replace("[1e-3, 4e-3]", "[1e-3]"))
    driven.type("sweep", "all")
    until(driven, lambda: "driver: job" in driven.type("driver", "status"), 60)
    until(driven, lambda: stands(driven)["second"] == "running", 300)
    (first,) = [run["name"] for run in summary(driven)["runs"] if run["stage"] == "first"]
    done = json.loads((driven.files(first) / "done.json").read_text())["time"]
    assert summary(driven)["time"] - done < 60
    lab.run("scancel", f"--user={os.getuid()}")


def test_a_site_that_refuses_the_driver_is_told_of_and_the_study_goes_on_by_hand(tmp_path, series, lab):
    study = Study(tmp_path, series, driver=True)
    text = (tmp_path / "study.toml").read_text()
    (tmp_path / "study.toml").write_text(text.replace("[driver]\n", '[driver]\npartition = "nowhere"\n'))
    said = study.submit("run", "--steps", "20", "--checkpoint-every", "10")
    assert "no driver job, for the site refuses it" in said
    assert "nowhere" in said or "partition" in said
    assert "refuse" not in study.type("status")
    assert drivers(lab) == []
    assert "the site refused it" in study.type("driver", "status")
    assert study.until("run", "completed", "held")["state"] == "completed"


def test_scrontab_makes_passes_where_a_site_offers_it(tmp_path, series, lab_for):
    """An entry of the user's own stays as it is."""
    lab = lab_for(LabConfig(extra=("ScronParameters=enable",), message_timeout=5))
    if shutil.which("scrontab") is None:
        pytest.skip("this Slurm has no scrontab")
    study = Study(tmp_path, series)
    own = "# mine\n0 0 1 1 * true\n"
    (tmp_path / "own").write_text(own)
    lab.run("scrontab", str(tmp_path / "own"))
    assert "a pass every minute" in study.type("driver", "install", "--scrontab", "--every", "1")
    assert "a pass every minute" in study.type("driver", "install", "--scrontab", "--every", "1"), "again: one entry"
    assert lab.run("scrontab", "-l").count("lvjobs driver run") == 1
    study.submit("run", "--steps", "20", "--checkpoint-every", "10")
    until(study, lambda: summary(study)["runs"][0]["state"] == "completed", 240)
    assert "run: completed at step 20" in (tmp_path / "logs" / "driver" / "cron.out").read_text()
    assert "scrontab: the study's entry is gone" in study.type("driver", "uninstall")
    assert lab.run("scrontab", "-l").split() == own.split()
    assert "there was no entry" in study.type("driver", "uninstall")
    lab.run("scrontab", "-r")


@pytest.mark.timeout(1800)
def test_a_study_that_is_disturbed_again_and_again_ends_as_an_undisturbed_one(
    driven, tmp_path_factory, series, lab_for
):
    """Every few seconds a run preempted, or a worker killed, a node lost, slurmctld restarted: the same winners, bit for bit."""
    alone = Study(tmp_path_factory.mktemp("alone"), series, profile="local")
    declare(alone, WHOLE)
    alone.type("sweep", "all", "--wait", timeout=900)
    assert set(stands(alone).values()) == {"completed"}
    # a cluster of its own: other tests count on nodes that nobody has failed
    lab = lab_for(LabConfig(accounting=True, hold=7, grace=3, kill_wait=2, message_timeout=5))
    declare(driven, WHOLE)
    driven.type("sweep", "all")
    chaos = Chaos(driven, lab, every=10)
    until(driven, lambda: chaos.go_on() or set(stands(driven).values()) == {"completed"}, 1200)
    assert 3 <= sum(chaos.done.values()) <= len(EVENTS), chaos.done
    assert results(driven) == results(alone)
    for run in summary(driven)["runs"]:
        assert run["state"] == "completed"


def results(study):
    """Winners, final weights, and what the evaluations' tables say: all that must not depend on what died."""
    shown = summary(study)
    trained = [run["name"] for run in shown["runs"] if run["stage"] != "table"]
    tables = json.loads(study.type("evaluate", "--table", "--json"))["tables"]
    assert [row["mae"]["value"] for table in tables for row in table["rows"]]
    winners = {stage["name"]: (stage["winner"], stage["because"]) for stage in shown["stages"]}
    return winners, {name: study.adapter(name) for name in trained}, tables


EVENTS = ("preempted", "nodes", "killed", "restarts", "preempted", "killed", "preempted")


class Chaos:
    """What happens to the jobs of a study: the next of the events every few seconds, to a job drawn from a seed."""

    def __init__(self, study, lab, *, every):
        self.study, self.lab = study, lab
        self.done = dict.fromkeys(("preempted", "killed", "nodes", "restarts"), 0)
        self._every = every
        self._random = random.Random(0)
        self._next = time.monotonic() + 5
        self._turn = 0

    def go_on(self):
        """Do the next thing, if it is time and there is somebody to do it to."""
        if self._turn == len(EVENTS) or time.monotonic() < self._next or not (running := self._running()):
            return
        job_id, what = self._random.choice(running), EVENTS[self._turn]
        with suppress(LabError, ProcessLookupError, StopIteration):  # it ended just then, or has not begun
            getattr(self, f"_{what}")(job_id)
            self.done[what] += 1
            self._turn += 1
            self._next = time.monotonic() + self._every

    def _running(self):
        rows = [line.split() for line in self.lab.run("squeue", "-h", "-r", "-t", "R", "-o", "%i %j").splitlines()]
        return [job_id for job_id, name in rows if not name.startswith(("driver.", "lab-"))]

    def _preempted(self, job_id):
        self.lab.preempt(job_id)

    def _killed(self, job_id):
        os.kill(next(claim["pid"] for claim in self._claims() if claim["job_id"] == job_id), signal.SIGKILL)

    def _claims(self):
        names = [path.name for path in Path(self.study.root / "checkpoints").iterdir()]
        return [claim for name in names for claim in reversed(self.study.claims(name))]

    def _nodes(self, job_id):
        node = self.lab.run("squeue", "-h", "-r", "-j", job_id, "-o", "%N").strip()
        self.lab.fail(node)
        self.lab.restore(node)

    def _restarts(self, _job_id):
        self.lab.kill_controller()
        self.lab.start_controller()
