"""A worker loads numpy and torch only where its task does, and seeds them however late that is."""

import json
import subprocess
import sys

import pytest
from worker_helpers import entries, environment, executed, make_run

from lvjobs.worker.checkpoints import published
from lvjobs.worker.environment import DONE
from lvjobs.worker.stored import open_checkpoint

HEAVY = ["numpy", "torch", "transformers", "safetensors", "sqlalchemy", "click"]

TASK = """
import json, random, sys

def draw(library, step):
    if library == "numpy" and step > 12:  # after the first checkpoint
        import numpy as np
        return float(np.random.rand())
    if library == "torch":
        import torch
        assert torch.are_deterministic_algorithms_enabled()
        assert (torch.get_num_threads(), torch.get_num_interop_threads()) == (1, 1)
        return float(torch.rand(()))
    return random.random()

def train(run):
    resumed = run.resume()
    total = resumed.state["sum"]["total"] if resumed else 0.0
    for step in range(run.step + 1, run.config.steps + 1):
        total += draw(run.config.params["library"], step)
        run.log(step, loss=total)
        if step == run.config.params["fails_at"] and not resumed:
            raise ValueError("stopped on purpose")
        if run.due(step):
            run.checkpoint(step, {"sum": {"total": total}})
    loaded = [name for name in run.config.params["heavy"] if name in sys.modules]
    (run.directory / "loaded.json").write_text(json.dumps(loaded))
"""


def work(layout):
    """An attempt's exit code, and what it printed."""
    (layout.root.parent / "own.py").write_text(TASK)
    variables = environment()
    variables["PYTHONPATH"] += f":{layout.root.parent}"
    command = [sys.executable, "-m", "lvjobs.worker", str(layout.root)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, done.stdout + done.stderr


def trained(directory, library, fails_at=0):
    """The run, completed: at its second attempt where it fails at a step."""
    params = {"library": library, "fails_at": fails_at, "heavy": HEAVY}
    layout = make_run(directory, task="own:train", params=params)
    if fails_at:
        code, said = work(layout)
        assert "stopped on purpose" in said
    code, said = work(layout)
    assert code == DONE, said
    return layout


def losses(layout):
    return {line["step"]: line["loss"] for line in entries(layout, "step")}


def test_a_task_in_plain_python_loads_nothing_heavy(tmp_path):
    layout = trained(tmp_path / "run", "")
    assert json.loads((layout.root / "loaded.json").read_text()) == []
    (checkpoint, *_) = published(layout).values()
    with open_checkpoint(checkpoint) as stored:
        assert stored.manifest.files == {}


def test_a_task_in_numpy_loads_no_torch(tmp_path):
    layout = trained(tmp_path / "run", "numpy")
    assert json.loads((layout.root / "loaded.json").read_text()) == ["numpy"]


@pytest.mark.slow
@pytest.mark.parametrize(("library", "failures"), [("", [25]), ("numpy", [15, 25]), ("torch", [25])])
def test_a_library_that_the_task_imports_late_is_seeded_and_restored(tmp_path, library, failures):
    """Before and after the first checkpoint that knows of it: numpy is imported in step 13, torch in the first."""
    alone = trained(tmp_path / "alone", library)
    for fails_at in failures:
        layout = trained(tmp_path / f"run{fails_at}", library, fails_at)
        since = fails_at - fails_at % 10 + 1
        assert executed(layout) == [*range(1, fails_at + 1), *range(since, 41)]
        assert losses(layout) == losses(alone)
