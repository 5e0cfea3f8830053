"""Scenarios of remedies that need a real Slurm: what the doctor says of one, and a lab's own troubles."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from driving import Study, until

from lvjobs import remedies
from lvjobs.doctor import errand
from lvjobs.forecasting.data import make_dataset
from lvjobs.lab import Lab, tools
from lvjobs.lab.processes import is_alive

pytestmark = pytest.mark.slurm


# -- what the doctor says of a real Slurm --------------------------------------------------------------------------------


@pytest.fixture
def here(study: Study, patient_doctor, monkeypatch):
    """A study in whose directory one is."""
    monkeypatch.chdir(study.root)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    return study


def declare(study: Study, *changes):
    """Edit study.toml: pairs of what is there and what takes its place."""
    path = study.root / "study.toml"
    text = path.read_text()
    for before, after in zip(changes[::2], changes[1::2], strict=True):
        assert before in text
        text = text.replace(before, after)
    path.write_text(text)


@pytest.mark.remedy("DOCTOR")
def test_a_controller_that_does_not_answer(here, impatient, typed, take):
    impatient.freeze()
    code, shown, _ = typed("doctor")
    assert (code, "slurmctld does not answer" in shown) == (1, True)
    impatient.thaw()
    code, shown, _ = take(remedies.DOCTOR, shown)
    assert (code, "does not answer" in shown) == (0, False)


@pytest.mark.remedy("DOCTOR_SLURM", "DOCTOR_JOB", "DOCTOR_PATIENT")
def test_what_only_a_test_job_can_tell(here, lab, typed, take):
    declare(here, 'profile = "lab"', 'profile = "local"', "job = false", "job = true")
    _, shown, _ = typed("doctor")
    code, shown, err = take(remedies.DOCTOR_SLURM, shown)
    assert code == 0, shown + err
    assert "slurmctld of cluster lab answers" in shown

    # the options that were typed are typed again: without them the job would be another, of this machine
    typed_with = ("--profile", "generic", "--partition", "low")
    _, shown, _ = typed("doctor", *typed_with)
    lab.run("scontrol", "update", "partitionname=low", "state=down")
    try:
        code, shown, _ = typed("doctor", *typed_with, "--job", "--timeout", "1")
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=up")
    assert "did not begin in time" in shown
    code, found, err = take(remedies.DOCTOR_PATIENT, shown, *typed_with, seconds=3600)
    assert "ran after" in found, found + err
    _, shown, _ = typed("doctor", *typed_with)
    _, found, err = take(remedies.DOCTOR_JOB, shown, *typed_with)
    assert "a job may submit jobs" in found, found + err
    assert "only a job can show" not in found


@pytest.mark.remedy("SCANCEL")
def test_a_test_job_that_is_left_in_the_queue(here, impatient, typed, take, monkeypatch):
    def fall_silent(*_):
        impatient.freeze()

    monkeypatch.setattr(errand, "_wait", fall_silent)
    monkeypatch.setattr(errand, "_LEAVING_SECONDS", 1.0)
    declare(here, "[train]", 'extra_sbatch = ["--hold"]\n[train]')
    _, shown, _ = typed("doctor", "--job")
    impatient.thaw()
    left = impatient.run("squeue", "-h", "-o", "%j").split()
    assert len(left) == 1
    code, _, err = take(remedies.SCANCEL, shown, job=left[0])
    assert code == 0, err
    until(lambda: impatient.run("squeue", "-h", "-o", "%j") == "")


@pytest.mark.remedy("SCONTROL_RELEASE")
def test_a_job_that_is_held(here, lab, typed, take):
    declare(here, "[train]", 'extra_sbatch = ["--hold"]\n[train]', "steps = 1000", "steps = 20")
    typed("submit", "run", "--name", "one")
    (job,) = lab.run("squeue", "-h", "-o", "%i").split()
    _, shown, _ = typed("why", "one")
    code, _, err = take(remedies.SCONTROL_RELEASE, shown, job=job)
    assert code == 0, err
    assert here.until("one", "completed", "held")["state"] == "completed"


@pytest.mark.remedy("DRY_RUN", "DRY_RUN_TASK")
def test_a_script_that_the_site_refuses(here, lab, tmp_path_factory, typed, take, monkeypatch):
    wrong = 'extra_sbatch = ["--constraint=nosuch"]\n[train]'
    declare(here, "[train]", wrong)
    code, shown, _ = typed("doctor")
    assert (code, "it refuses such a job" in shown) == (1, True)
    code, script, _ = take(remedies.DRY_RUN_TASK, shown)
    assert (code, "--constraint=nosuch" in script) == (0, True)
    declare(here, wrong, "[train]")
    assert typed("doctor")[0] == 0

    data = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(data, systems=20, seed=0)
    forecasting = Study(tmp_path_factory.mktemp("forecasting"), data)
    declare(forecasting, "[train]", wrong)
    monkeypatch.chdir(forecasting.root)
    code, script, err = take(remedies.DRY_RUN, typed("doctor")[1])
    assert (code, "--constraint=nosuch" in script) == (0, True), err


# -- a lab's own troubles ------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A directory on PATH; `lvjobs` is in it, and an apt-get that asks no server."""
    directory = tmp_path / "programs"
    directory.mkdir()
    real = shutil.which("apt-get")
    install = f'exec {real} "$@"' if real and os.geteuid() == 0 else "exit 0"
    _program(
        directory / "apt-get",
        f'[ "$1" = install ] || exit 0\nfor name; do touch "{directory}/$name.here"; done\n{install}',
    )
    _program(directory / "sudo", 'exec "$@"')
    _program(directory / "lvjobs", f'exec {sys.executable} -m lvjobs "$@"')
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    return directory


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def missing(programs, monkeypatch):
    """Lets a program be missing until its package is installed."""
    gone = {}
    find_program = tools.find_program

    def find(name):
        package = gone.get(name)
        return None if package and not (programs / f"{package}.here").exists() else find_program(name)

    monkeypatch.setattr(tools, "find_program", find)
    return gone


@pytest.fixture
def place():
    """Return the lab's directory to be; at the end, nothing of the lab runs."""
    directory = tempfile.mkdtemp(prefix="lvlab")  # not tmp_path, which is too long for sockets
    yield Path(directory)
    if Path(directory).exists():
        Lab(directory).down(purge=True)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.remedy(
    "INSTALL_DEBIAN",
    "LAB_UP_INSTALL",
    "LAB_ENVIRONMENT",
    "LAB_DOWN",
    "LAB_RESTORE",
    "LAB_STATUS",
    "LAB_THAW",
    "LAB_UP",
    "LAB_PURGE",
)
def test_a_lab_and_its_troubles(place, missing, typed, take, monkeypatch):
    where = ("--dir", str(place))
    up = ("lab", "up", *where, "--hold", "6", "--message-timeout", "5")
    install_it(Lab(place), missing, up, typed, take, monkeypatch)
    lose_its_parts(Lab(place), where, typed, take, monkeypatch)
    damage_its_record(Lab(place), where, typed, take)
    assert not place.exists()


def install_it(lab, missing, up, typed, take, monkeypatch):
    where = up[2:4]

    # programs are missing, and who types is not root
    missing["munged"] = "munge"
    with monkeypatch.context() as ordinary:
        ordinary.setattr(tools.os, "geteuid", lambda: 1000)
        code, _, err = typed(*up, "--nodes", "1")
        assert code == 2
        assert "--install works for root only" in typed(*up, "--nodes", "1", "--install")[2]
    code, out, err = take(remedies.INSTALL_DEBIAN, err, packages=["munge"])
    assert code == 0, out + err
    assert tools.missing_packages(accounting=False) == ()

    # programs are missing, and who types is root
    missing["slurmd"] = "slurmd"
    with monkeypatch.context() as root:
        root.setattr(tools.os, "geteuid", lambda: 0)
        root.setattr(tools, "_POLICY", lab.directory.with_suffix(".policy"))
        code, _, err = typed(*up, "--nodes", "1")
        assert code == 2
        code, shown, err = take(remedies.LAB_UP_INSTALL, err, *up[2:], "--nodes", "1")
    assert (code, err) == (0, "")
    until(lambda: lab.status().healthy)
    assert len(states(lab)) == 1, "as it was typed first"

    # this shell does not use it
    code, out, err = take(remedies.LAB_ENVIRONMENT, shown, *where, then="sinfo -h -N -o %N")
    assert (code, set(out.split())) == (0, {"n1"}), err

    # it runs with other settings
    code, _, err = typed(*up, "--nodes", "2")
    assert code == 2
    assert take(remedies.LAB_DOWN, err, *where)[0] == 0
    assert typed(*up, "--nodes", "2")[0] == 0
    assert len(states(lab)) == 2


def lose_its_parts(lab, where, typed, take, monkeypatch):
    # a node is lost
    _, shown, _ = typed("lab", "fail", *where, "n2")
    assert "down" in states(lab)["n2"]
    assert take(remedies.LAB_RESTORE, shown, *where, node="n2")[0] == 0
    assert states(lab)["n2"] == "idle"

    # the controller is silent: whoever did not see why looks at the status
    _, frozen, _ = typed("lab", "freeze", *where)
    monkeypatch.setitem(tools.run_tool.__kwdefaults__, "timeout", 1.0)
    code, _, err = typed("lab", "preempt", *where, "1")
    monkeypatch.setitem(tools.run_tool.__kwdefaults__, "timeout", 120.0)
    assert code == 1
    _, shown, _ = take(remedies.LAB_STATUS, err, *where)
    assert remedies.LAB_THAW(*where) in shown
    assert take(remedies.LAB_THAW, frozen, *where)[0] == 0
    assert "no job 1 in" in typed("lab", "preempt", *where, "1")[2], "it answers"

    # the controller is gone
    lab.kill_controller()
    code, _, err = typed("lab", "freeze", *where)
    assert code == 1
    assert remedies.LAB_UP(*where) in typed("lab", "status", *where)[1]
    assert take(remedies.LAB_UP, err, *where)[0] == 0
    until(lambda: lab.status().healthy)
    assert len(states(lab)) == 2


def damage_its_record(lab, where, typed, take):
    daemons = [psutil.Process(pid) for pid in lab.status().daemons.values()]
    lab.layout.record.write_text("{")
    code, _, err = typed("lab", "status", *where)
    assert code == 2
    assert take(remedies.LAB_PURGE, err, *where)[0] == 0
    until(lambda: not any(map(is_alive, daemons)))
    assert remedies.LAB_UP(*where) in typed("lab", "status", *where)[1], "and a new one can be made"


def states(lab: Lab) -> dict[str, str]:
    """Return each node's state; a status that came too late for a machine that stalls is asked for again."""
    status = until(lambda: (each := lab.status()).controller == "up" and each)
    return {node.name: node.state for node in status.nodes}
