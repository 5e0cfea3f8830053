"""Options and variables of sbatch by which jobs would be lost."""

import pytest
from driving import Study

pytestmark = pytest.mark.slurm

VARIABLES = {
    "SBATCH_CLUSTERS": "elsewhere",
    "SLURM_CLUSTERS": "elsewhere",
    "SBATCH_JOB_NAME": "mine",
    "SBATCH_ARRAY_INX": "0-3",
    "SBATCH_OUTPUT": "/dev/null",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_SIGNAL": "KILL@600",
    "SBATCH_OPEN_MODE": "t",
    "SBATCH_WAIT": "1",
    "SBATCH_TEST_ONLY": "1",
    "SQUEUE_PARTITION": "nowhere",
    "SQUEUE_STATES": "FAILED",
}


@pytest.mark.parametrize("option", ["--clusters=gpu", "-M gpu", "--job-n=x", "-a0-3", "--output=x", "--wrap=true"])
def test_an_option_that_would_lose_jobs_is_refused_and_leaves_none(study: Study, lab, option):
    said = study.type("submit", study.submits, "--name", "run", "--set", f'resources.extra_sbatch=["{option}"]', code=2)
    assert f"extra_sbatch has '{option}'" in said
    assert lab.run("squeue", "-h", "-a", "-o", "%i") == ""
    assert not study.files("run").exists()


def test_variables_that_would_lose_jobs_are_left_out(study: Study, lab, undisturbed):
    study.environment |= VARIABLES
    study.submit("run")
    run = study.until("run", "completed")
    assert run["attempts"] == 1
    assert study.weights("run") == undisturbed
    assert list((study.root / "logs").glob("*/*.out"))
