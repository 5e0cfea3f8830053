"""Studies that the last release began are completed by this one, with the same weights."""

import os
import signal
import sqlite3
import subprocess
import sys
import sysconfig
from contextlib import closing
from pathlib import Path

import pytest
from driving import Study, kill_worker, until

from lvjobs.study.layout import RunLayout

REPOSITORY = Path(__file__).parents[2]

LAST_RELEASE = "381b243"
SCHEMAS = {"bed7bfb": "0009", "7d09df3": "0010", LAST_RELEASE: "0011"}
"""The newest commits whose ledgers have these schemas. Add one, and raise `SCHEMA`, with each release."""

OLDER_LAYOUT = ("bed7bfb",)
"""Those whose run directories have files of another form (`RunLayout.is_older`)."""

SCHEMA = "0013"


@pytest.fixture(scope="module", params=[LAST_RELEASE])
def release(request):
    """The commit of the earlier release."""
    return request.param


@pytest.fixture(scope="module")
def last_release(tmp_path_factory, release):
    """The Python of an environment that has the earlier release of lvjobs, and this one's dependencies."""
    root = tmp_path_factory.mktemp("last_release")
    code = root / "code"
    code.mkdir()
    archive = ("git", "-C", str(REPOSITORY), "archive", release, "lvjobs", "slurm_templates")
    archived = subprocess.run(archive, capture_output=True, check=False)
    if archived.returncode:
        pytest.skip(f"the last release is not in this checkout's history: {archived.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(code)], input=archived.stdout, check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "venv")], check=True)
    (site,) = (root / "venv").glob("lib/python*/site-packages")
    # Paths in a .pth file are searched in their order, and .pth files in these directories are not read: so the editable
    # installation of this checkout is not found.
    (site / "last_release.pth").write_text(f"{code}\n{sysconfig.get_path('purelib')}\n")
    return str(root / "venv" / "bin" / "python")


def schema(study):
    with closing(sqlite3.connect(f"file:{study.root}/runs.db?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def type_in(study, python, *arguments, code=0):
    """Type a command of the release that this Python has."""
    study.python = python
    try:
        return study.type(*arguments, code=code)
    finally:
        study.python = sys.executable


def begin(study, python, step, release):
    """Let the earlier release submit a run; return the claim of its worker, which waits at `step`."""
    study.gate("run", step)
    type_in(study, python, "submit", "run", "--name", "run")
    claim = study.halt("run", step)
    assert schema(study) == SCHEMAS[release]
    return claim


def refuse(study, python):
    """See the last release refuse the newer ledger in one line, and write nothing into it."""
    with closing(sqlite3.connect(study.root / "runs.db")) as connection:
        before = list(connection.iterdump())
        refused = type_in(study, python, "status", code=1)
        assert f"another release of lvjobs (schema {SCHEMA})" in refused
        assert len(refused.strip().splitlines()) == 1, refused
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize("release", SCHEMAS, indirect=True)
def test_a_local_study_of_an_earlier_release_is_completed(tmp_path, last_release, release, undisturbed):
    study = Study(tmp_path, profile="local")
    claim = begin(study, last_release, 300, release)
    os.kill(claim["pid"], signal.SIGKILL)
    run = study.until("run", "completed")
    assert schema(study) == SCHEMA
    assert study.weights("run") == undisturbed
    assert run["attempts"] == 2
    refuse(study, last_release)
    study.type("ledger", "check")
    layout = RunLayout(study.files("run"))
    assert layout.is_older == (release in OLDER_LAYOUT)
    if layout.is_older:
        assert sorted(path.name for path in layout.steps.iterdir() if path.is_dir()), "checkpoints of that release"
        assert sorted(path.name for path in layout.generations.iterdir()) == ["000001", "000002"]


@pytest.mark.slurm
@pytest.mark.slow
def test_live_jobs_of_the_last_release_are_preempted_and_completed(tmp_path, last_release, release, lab, undisturbed):
    """The first attempt is preempted and resumed by Slurm in the last release's job; the second is killed.

    A job of this release makes the third attempt. The last release's driver is alive when the ledger is migrated.
    """
    study = Study(tmp_path, driver=True)
    claim = begin(study, last_release, 300, release)
    study.gate("run", 600, generation=2)
    drivers = {row.split()[0] for row in lab.run("squeue", "-h", "-o", "%i %j").splitlines() if " driver." in row}
    assert drivers, "the last release submitted no driver"
    study.run("run")
    assert schema(study) == SCHEMA
    refuse(study, last_release)

    lab.preempt(claim["job_id"])
    second = until(lambda: study.is_at_gate("run", 600, generation=2) and study.claims("run")[1], seconds=600)
    assert second["job_id"] == claim["job_id"]
    assert study.executed("run") == list(range(1, 600)), "a step was lost, or repeated"
    kill_worker(second)
    run = study.until("run", "completed")
    assert study.weights("run") == undisturbed
    assert run["attempts"] == 3
    study.type("ledger", "check")

    def logs():
        paths = study.root.glob("logs/driver/*")
        return "\n".join(path.read_text() for path in paths if any(job in path.name for job in drivers))

    until(lambda: f"another release of lvjobs (schema {SCHEMA})" in logs())
    assert "Traceback" not in logs()
