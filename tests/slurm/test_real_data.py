"""The study's own input: `tiny` learns it on the lab, preempted."""

from pathlib import Path

import pytest
from driving import Study, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

REAL = Path(__file__).parents[3] / "shared" / "data" / "lotka_volterra_data.h5"
STAGE = """
[[stage]]
name = "seeds"
steps = 100
grid = { seed = [0] }
set = { context_length = 512, batch_size = 4, lora_rank = 8, lora_targets = "all-linear", learning_rate = 4e-3, \
checkpoint_every = 50, validation_limit = 8 }
"""


@pytest.mark.skipif(not REAL.exists(), reason="the study's real input is not part of the repository")
@pytest.mark.timeout(1200)
def test_lora_improves_on_the_untrained_model(tmp_path, lab):
    study = Study(tmp_path, REAL)
    (tmp_path / "study.toml").write_text((tmp_path / "study.toml").read_text() + STAGE)
    study.gate("any", 60)
    study.type("sweep", "seeds")
    (name,) = study.runs()
    until(lambda: study.is_at_gate("any", 60), 600)
    lab.preempt(study.claims(name)[-1]["job_id"])
    run = study.until(name, "completed", "held", timeout=900)
    assert run["state"] == "completed", run
    losses = {line["step"]: line["loss"] for line in study.journal(name) if line["kind"] == "validation"}
    assert losses[100] <= 0.97 * losses[0], losses
    assert study.runs()[name]["attempts"] == 2
    assert study.executed(name) == list(range(1, 101))
