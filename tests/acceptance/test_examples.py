"""The examples that bring a training of their own, as somebody who copies them would run them."""

import shutil
import time
from pathlib import Path

import pytest
from driving import Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000)]

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.parametrize("name", ["classifier", "trainer"])
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
        said = study.type("rehearse", *asked, timeout=900)
        assert "verdict: resumed bit for bit: 60 steps" in said
        if "it met: nothing" not in said:
            break
    else:
        pytest.fail("nothing interrupted it")
