"""Eight programs that know nothing of lvjobs, as jobs of a real Slurm: each is preempted and meets its time limit."""

import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.util import find_spec

import pytest
from driving import until
from program_studies import (
    BITWISE,
    SUBJECTS,
    Alone,
    ProgramStudy,
    are_stopped,
    beside_python,
    signal_all,
    tree,
    verdict,
)

from lvjobs.lab import LabConfig

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.heavy, pytest.mark.torch]

LEAD = 330
"""Seconds between SIGUSR2 and the time limit, so that a job whose limit is changed to LAST minutes gets it soon."""
LAST = 5

NAMES = [
    name
    for name, subject in SUBJECTS.items()
    if name != "counter" and (not subject.needs or find_spec(subject.needs) or shutil.which(subject.needs))
]

CHANGES = {
    **{name: {"pause": seconds} for name, seconds in (("nano", 0.4), ("trainer", 0.6), ("accelerated", 0.3))},
    **{name: {"pause": seconds} for name, seconds in (("snapshot", 0.6), ("lit", 0.5), ("imagenet", 0.3))},
    "heat": {"pause": 400},
    "trl": {"steps": 400},
}
"""Changes to [train], so that no program is at its end before the test has stopped it."""


@pytest.fixture
def lab(lab_for):
    """A lab with a node for each program, which logs the signals that it sends before a time limit."""
    usual = {"hold": 6, "grace": 60, "kill_wait": 10, "message_timeout": 60, "accounting": True}
    return lab_for(LabConfig(**usual, nodes=8, gpus=1, extra=("SlurmctldDebug=debug",)))


def stop(study, generation):
    """Wait until this generation has published a checkpoint; stop the program there, and return its processes."""
    until(lambda: len(study.claims("run")) >= generation and study.saved("run", generation))
    processes = tree(study.program("run"))
    assert are_stopped(processes), f"{study.root.name} has ended\n{study.story('run')}"
    return processes


def has_left(study, generation):
    """Return whether the worker of this generation has written its last line."""
    return any(line["kind"] == "leave" for line in study.journal("run", generation))


def preempt(lab, study):
    """Preempt the job after a checkpoint of the first attempt. Slurm itself sends SIGCONT before SIGTERM."""
    stop(study, 1)
    lab.preempt(study.claims("run")[0]["job_id"])
    until(lambda: has_left(study, 1))


def reach_the_time_limit(lab, study):
    """Let the time limit come near after a checkpoint of the second attempt; remove it for the third."""
    processes, job = stop(study, 2), study.claims("run")[1]["job_id"]
    elapsed = lab.run("squeue", "-h", "-j", job, "-o", "%M").strip().split(":")
    lab.run("scontrol", "update", f"jobid={job}", f"timelimit={int(elapsed[-2]) + LAST}")
    log, said = lab.layout.log / "slurmctld.log", re.compile(rf"warning signal \d+ to .*JobId={job}\b")
    until(lambda: said.search(log.read_text()))
    lab.run("scontrol", "update", f"jobid={job}", "timelimit=60")  # before a third attempt can begin
    signal_all(processes, signal.SIGCONT)
    until(lambda: has_left(study, 2))


FEW = ["heat", "snapshot"]
"""The programs of the usual suite: eight programs took a worker of pytest 19 minutes."""


@pytest.mark.parametrize(
    "names", [pytest.param(FEW, id="two_of_them"), pytest.param(NAMES, id="each", marks=pytest.mark.storm)]
)
def test_programs_are_preempted_and_meet_their_time_limit(names, tmp_path, lab, monkeypatch, fault):
    beside_python(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # eight programs share the machine; jobs get it from who submits
    resources = {"signal_lead_seconds": LEAD, "time_limit": "1h"}
    studies, alone, disturbed = {}, Alone(tmp_path / "alone"), []

    def disturb(name):
        preempt(lab, studies[name])
        reach_the_time_limit(lab, studies[name])

    with ThreadPoolExecutor(len(names)) as pool:
        for name in names:
            own = {"resources": resources, "profile": "lab", **CHANGES[name]}
            studies[name] = ProgramStudy(tmp_path / name, SUBJECTS[name], **own)
            studies[name].submit("run")
            disturbed.append(pool.submit(disturb, name))
        rest = [name for name in names if name in BITWISE or name == "nano"]
        while wait(disturbed, timeout=20).not_done:
            for study in studies.values():
                study.runs()  # a pass renews what a run may spend
            if rest:  # meanwhile most jobs wait for Slurm
                alone.final(rest[0], **CHANGES[rest.pop(0)])
        for each in disturbed:
            each.result()
    for name, study in studies.items():
        run = study.until("run", "completed", "held")
        assert run["state"] == "completed", study.story("run")
        causes = [line["cause"] for line in study.journal("run") if line["kind"] == "leave"]
        # A pass renews what a run may spend. If it comes late, the run exits, and is submitted again.
        causes = [cause for cause in causes if cause != "exhausted"]
        assert causes == ["preempted", "timeout"]
        begun = [line["resumed_from"] for line in study.journal("run") if line["kind"] == "start"]
        assert [bool(each) for each in begun] == [False, *(True for _ in begun[1:])]
        assert run["attempts"] == len(study.claims("run"))
        verdict(name, study, alone, **CHANGES[name])
        fault("program_both", study, times=len(causes), same_bits=name in BITWISE or None)
