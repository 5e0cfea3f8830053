"""Real Slurm for tests: private clusters, each brought up once a session, at the first test that asks for it.

`lab` is the usual one (accounting, requeue). `lab_for(LabConfig(...))` gives any other; equal configurations share a
cluster. Either way SLURM_CONF of the test points at the cluster asked for last, and what a test broke or left in the
queue is put right after it.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from driving import SHORT, Study

from lvjobs.doctor import examine
from lvjobs.errors import UsageError
from lvjobs.forecasting.data import make_dataset
from lvjobs.lab import Lab, LabConfig, LabError, require_packages

LabFactory = Callable[[LabConfig], Lab]

USUAL = {"accounting": True, "hold": 6, "grace": 60, "kill_wait": 30, "message_timeout": 60}
"""Long bounds cost nothing: a worker that leaves, and a controller that answers, end the wait at once."""


MOST_LABS = 4
"""Clusters that a worker of pytest keeps: 50 idle ones took a quarter of a core, and each look at /proc reads theirs."""


@pytest.fixture(scope="session")
def lab_configs() -> dict[str, LabConfig]:
    """The configurations that tests share, so that few clusters serve many tests."""
    return {
        "requeue": LabConfig(**USUAL),
        "impatient": LabConfig(**USUAL | {"message_timeout": 5}),
        "user_signal": LabConfig(**USUAL | {"user_signal": True, "accounting": False}),
        "grace_0": LabConfig(**USUAL | {"grace": 0, "kill_wait": 60, "accounting": False}),
        "qos": LabConfig(**USUAL | {"preempt_by": "qos"}),
        "cancel": LabConfig(**USUAL | {"preempt_mode": "cancel"}),
        "no_accounting": LabConfig(**USUAL | {"accounting": False}),
    }


@pytest.fixture(scope="session")
def _labs() -> Iterator[dict[LabConfig, Lab]]:
    labs: dict[LabConfig, Lab] = {}
    yield labs
    for lab in labs.values():
        _remove(lab)


def _remove(lab: Lab) -> None:
    lab.down(purge=True)
    shutil.rmtree(lab.directory, ignore_errors=True)


def _heal(lab: Lab) -> None:
    """Put right what a test broke, and empty the queue."""
    status = lab.status()
    if status.controller == "frozen":
        lab.thaw()
    if not status.healthy or any(node.state not in {"idle", "mixed", "allocated"} for node in status.nodes):
        lab.up()
    lab.run("scontrol", "update", "partitionname=low", "state=up")  # a test that failed may have closed it
    lab.run("scancel", "--quiet", "--signal=KILL", "--full", f"--user={os.getuid()}")
    lab.run("scancel", "--quiet", f"--user={os.getuid()}")
    deadline = time.monotonic() + 600
    while lab.run("squeue", "-h", "-a", "-o", "%i"):
        if time.monotonic() > deadline:
            raise LabError(f"jobs do not leave the queue of the lab in {lab.directory}")
        time.sleep(0.1)


@pytest.fixture
def lab_for(_labs: dict[LabConfig, Lab], monkeypatch: pytest.MonkeyPatch) -> Iterator[LabFactory]:
    """A factory of clusters; the same configuration gives the same cluster."""
    used: list[Lab] = []
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "SRUN_", "SUBMITIT_"))]:
        monkeypatch.delenv(name)

    def give(config: LabConfig) -> Lab:
        if config not in _labs:
            idle = [other for other, lab in _labs.items() if lab not in used]
            for other in idle[: max(0, len(_labs) - MOST_LABS + 1)]:  # the longest idle first
                _remove(_labs.pop(other))
            try:
                require_packages(accounting=config.accounting)
            except UsageError as error:
                pytest.skip(str(error))
            lab = Lab(tempfile.mkdtemp(prefix="lvlab"))  # not tmp_path, which is too long for sockets
            try:
                lab.up(config)
            except BaseException:
                lab.down(purge=True)
                raise
            _labs[config] = lab
        lab = _labs[config] = _labs.pop(config)  # the last used comes last
        if lab not in used:
            used.append(lab)
        for name, value in lab.environment().items():
            monkeypatch.setenv(name, value)
        return lab

    yield give
    for lab in used:
        _heal(lab)


@pytest.fixture
def lab(lab_for: LabFactory, lab_configs: dict[str, LabConfig]) -> Lab:
    """The usual cluster."""
    return lab_for(lab_configs["requeue"])


@pytest.fixture
def impatient(lab_for: LabFactory, lab_configs: dict[str, LabConfig]) -> Lab:
    """One whose commands soon give up on a controller that is dead or silent."""
    return lab_for(lab_configs["impatient"])


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small input file, made as `lvjobs data make` makes it."""
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=40, seed=0)
    return path


@pytest.fixture
def patient_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A doctor in this process that waits for a machine that stalls: as a rule it takes a silence of 6 s for an answer."""
    monkeypatch.setattr(examine, "ask_site", partial(examine.ask_site, seconds=60.0))


def _left_alone(study: Study, *arguments: str, steps: int = 1000) -> str:
    """The final weights (SHA-256) of the study's usual run, trained in one go by the worker with no cluster at all."""
    study.type("submit", study.submits, "--name", "alone", *arguments, "--wait", timeout=1200)
    assert study.executed("alone") == list(range(1, steps + 1))
    return study.weights("alone")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The final weights of a run that nothing disturbed."""
    return _left_alone(Study(tmp_path_factory.mktemp("undisturbed"), profile="local"))


@pytest.fixture(scope="session")
def undisturbed_forecaster(tmp_path_factory: pytest.TempPathFactory, series: Path) -> str:
    """The same of the bundled training, which is `SHORT`."""
    study = Study(tmp_path_factory.mktemp("undisturbed"), series, profile="local")
    return _left_alone(study, *SHORT, steps=240)


@pytest.fixture
def study(tmp_path: Path, lab_for: LabFactory) -> Study:
    """A study for the lab that the test asks for; `lab_for` sets the environment that its commands see."""
    return Study(tmp_path)


@pytest.fixture
def forecasting(tmp_path: Path, series: Path, lab_for: LabFactory) -> Study:
    """The same, of the bundled training: for what has to be seen of torch."""
    return Study(tmp_path, series)
