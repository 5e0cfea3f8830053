"""The examples that bring a training of their own, as somebody who copies them would run them."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from docs_blocks import ROOT, blocks_of
from driving import Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000)]

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def execute(pieces, directory):
    """Run pieces of code in their order in one process, as a notebook's kernel would; return what it printed."""
    code = "\n\n".join(pieces) + "\nimport sys\nprint('LOADED', *sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed, _, loaded = done.stdout.rpartition("LOADED")
    assert not {"torch", "click", "matplotlib"} & set(loaded.split())
    return printed


def test_the_notebook_runs(tmp_path):
    """Its cells in their order; without a kernel, so that nothing has to be installed for it."""
    for name in ("line.py", "line.toml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    notebook = json.loads((EXAMPLES / "study.ipynb").read_text())
    assert (notebook["nbformat"], len({cell["id"] for cell in notebook["cells"]})) == (4, len(notebook["cells"]))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"]] == []
    printed = execute(["".join(cell["source"]) for cell in cells], tmp_path)
    assert "submitted" in printed
    assert "long completed" in printed
    assert "completed at step 100" in printed


def test_the_code_of_the_page_on_the_api_runs(tmp_path):
    study = tmp_path / "my-study"
    study.mkdir()
    shutil.copy(EXAMPLES / "line.py", study)
    shutil.copy(EXAMPLES / "line.toml", study / "study.toml")
    pieces = [block.text for block in blocks_of(ROOT / "docs" / "api.md", "python")]
    assert len(pieces) >= 5
    printed = execute(pieces, tmp_path)
    assert printed.startswith("completed ")
    assert "raise the limit" in printed, "the budget refused a run"
    assert "not updated" not in printed


@pytest.mark.parametrize("name", ["classifier", pytest.param("trainer", marks=pytest.mark.storm)])
def test_an_example_trains_and_survives_its_rehearsal(tmp_path, name):
    study = Study(tmp_path, tmp_path / "none", profile="local")
    shutil.copy(EXAMPLES / f"{name}.toml", study.root / "study.toml")
    shutil.copy(EXAMPLES / f"{name}.py", study.root)
    begun = time.monotonic()
    said = study.type("submit", "run", "--name", "one", "--wait", timeout=600)
    assert "one: completed at step 300" in said
    final = {path.relative_to(study.root / "checkpoints" / "one").as_posix() for path in study.root.rglob("final/*/*")}
    assert ("final/trainer/model.safetensors" in final) == (name == "trainer")
    # Long enough for an attempt to begin, however busy this machine is.
    minutes = max(0.3, (time.monotonic() - begun) / 60)
    for seed in range(5):  # a machine that stalls may be late for all of it
        asked = ("--local", f"--minutes={minutes}", "--rehearsed-steps=60", f"--seed={seed}")
        out, err, code = study.outcome(study.start("rehearse", *asked), "rehearse", *asked, timeout=900)
        if "verdict: nothing was tested" not in out:
            assert code == 0, out + err
            assert "verdict: resumed bit for bit" in out
            break
    else:
        pytest.fail("nothing interrupted it")
