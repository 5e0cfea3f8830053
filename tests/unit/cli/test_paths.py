"""Studies in directories whose names mean something else in a URL, a shell or a batch script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from driving import Study, until

import lvjobs

URL_LIKE = "q?mode=memory&x=1#%zz"


def completed(study, name):
    """Return whether the run is completed, by a status command that reconciles first."""
    runs = json.loads(study.type("status", "--json"))["runs"]
    return {run["name"]: run["state"] for run in runs}[name] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a%20b", URL_LIKE])
def test_a_study_keeps_its_ledger_in_its_own_directory(tmp_path, name):
    neighbour, study = Study(tmp_path / "a b", profile="local"), Study(tmp_path / name, profile="local")
    neighbour.submit("theirs")
    study.type("init", "--force", "--profile", "local")
    (study.root / "study.toml").write_text((neighbour.root / "study.toml").read_text())
    study.submit("ours")
    for one, run in ((neighbour, "theirs"), (study, "ours")):
        until(lambda one=one, run=run: completed(one, run))
        assert [run["name"] for run in json.loads(one.type("status", "--json"))["runs"]] == [run]
    study.type("ledger", "backup", str(study.root / "copy.db"))
    assert "1 run, 1 attempt" in study.type("ledger", "check")
    assert (study.root / "copy.db").stat().st_size == (study.root / "runs.db").stat().st_size > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a b", name])


@pytest.mark.parametrize("name", ["100%", "a%20b", "%(here)s"])
def test_lvjobs_makes_a_ledger_where_it_is_installed_under_a_percent_sign(tmp_path, name):
    """Alembic takes the path of the migrations from a configuration in which a percent sign has a meaning."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "lvjobs").symlink_to(Path(lvjobs.__file__).parent)
    code = "import pathlib; from lvjobs.ledger.database import open_ledger; open_ledger(pathlib.Path('runs.db'), 1)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / name)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "runs.db").stat().st_size > 0
