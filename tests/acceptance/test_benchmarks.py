"""The benchmarks run: with as little work as they can do, and no look at their figures."""

import json
import os
import runpy
import subprocess
import sys

import pytest
from docs_blocks import ROOT

from lvjobs.errors import UsageError
from lvjobs.lab import require_packages

pytestmark = pytest.mark.slow

RUN = ROOT / "benchmarks" / "run"
NEED_A_LAB = {"submission", "passes", "queueing", "storm", "eligible", "scale", "nodes"}
DEAR = {"storm", "scale", "queueing", "training", "startup", "eligible", "stall", "gpu", "decoding"} | {
    "prompt",
    "submission",
    "nodes",
}
"""Many CPU seconds each, or peers that have to be installed."""
SUITE = runpy.run_path(str(RUN))["SUITE"]


@pytest.fixture(scope="session")
def peers(tmp_path_factory):
    """Install the peers from the package registry: once for all of pytest's workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "peers"


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.storm] * (name in DEAR)) for name in SUITE])
def test_it_runs(name, peers):
    if name in NEED_A_LAB:
        try:
            require_packages(accounting=True)
        except UsageError as error:
            pytest.skip(str(error))
    command = [sys.executable, str(RUN), "--smoke", name]
    environment = {**os.environ, "LVJOBS_PEERS": str(peers)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{name}: ")


def test_each_file_is_one_of_the_suite_and_says_how_it_is_run():
    files = {
        path.stem: path
        for path in RUN.parent.glob("*.py")
        if path.stem not in ("measuring", "recorded", "candidates", "science")
    }
    assert set(files) == set(SUITE)
    for name, path in files.items():
        assert f"    python benchmarks/{name}.py " in path.read_text(), name


OURS = "halving: the best 3 at 2/9"


@pytest.mark.parametrize("steps", [180, 90])
def test_halving_costs_a_third_and_finds_the_winner_as_often_as_the_grid(steps, monkeypatch):
    monkeypatch.syspath_prepend(str(RUN.parent))
    searching = runpy.run_path(str(RUN.parent / "searching.py"))
    cells = searching["read_curves"](searching["CURVES"] / f"{steps}-steps.json")
    assert (len(cells), {len(cell.curves) for cell in cells}) == (27, {5})
    ways = {name: way for name, way in searching["WAYS"].items() if name in ("the grid, repeated", OURS)}
    found = searching["searched"](cells, 4000, ways)
    assert max(draw.training for draw in found[OURS]) <= 1 / 3
    mean, half = searching["difference"](found[OURS], found["the grid, repeated"])
    assert mean - half >= -0.02


@pytest.mark.storm
def test_selecting_records_what_it_reads_and_trains_nothing_twice(tmp_path):
    script = [sys.executable, str(RUN.parent / "selecting.py")]
    study, file = tmp_path / "study", tmp_path / "recorded.json"
    command = [*script, "--record", str(study), "--smoke", "--seeds", "3", "--file", str(file)]
    for _ in range(2):
        subprocess.run(command, check=True)
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
        assert [run["seed"] for run in runs] == [3] * 6
        assert len(list((study / "checkpoints").iterdir())) == 2 * len(runs)  # each is trained and evaluated
    table = subprocess.run([*script, "--file", str(file)], capture_output=True, text=True, check=True).stdout
    assert "n = 1 training seeds, 6 candidates each" in table
