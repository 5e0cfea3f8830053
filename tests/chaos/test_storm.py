"""The storm's short version: two minutes of it (tests/chaos/storm.py has the hour)."""

import os
import shutil
import tempfile

import pytest
from driving import Study
from storm import LEAST, Weather, declare, leave_alone, results, weather

from lvjobs.errors import UsageError
from lvjobs.forecasting.data import make_dataset
from lvjobs.lab import Lab, LabConfig, require_packages

SIZE = (4, 600, 100)
"""Runs of the first stage, their steps, and steps between checkpoints."""


@pytest.fixture
def lab(monkeypatch):
    """A cluster of its own: other tests count on nodes that nobody has failed."""
    try:
        require_packages(accounting=True)
    except UsageError as error:
        pytest.skip(str(error))
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "SRUN_", "SUBMITIT_"))]:
        monkeypatch.delenv(name)
    lab = Lab(tempfile.mkdtemp(prefix="lvlab"))  # not tmp_path, which is too long for sockets
    try:
        lab.up(LabConfig(gpus=1, accounting=True, hold=7, grace=3, kill_wait=2, message_timeout=30))
        for name, value in lab.environment().items():
            monkeypatch.setenv(name, value)
        yield lab
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.storm
@pytest.mark.timeout(2400)
def test_two_minutes(tmp_path, lab, fault):
    data = tmp_path / "data.h5"
    make_dataset(data, systems=40, seed=0)
    alone = leave_alone(tmp_path / "alone", data, SIZE)
    study = Study(tmp_path / "storm", data, resources="gpus = 1", driver=True)
    declare(study, *SIZE)
    met = weather(study, lab, Weather(minutes=2, every=10), SIZE, 1800)
    assert met.total() >= LEAST, met
    assert set(study.stands().values()) == {"completed"}
    assert results(study) == alone
    fault(
        "storm", study, times=met.total(), same_bits=True, saw="every stage completed; the winners, weights and tables"
    )
