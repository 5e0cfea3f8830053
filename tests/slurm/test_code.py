"""The code that was submitted is the code that runs, and code that fails is not run again."""

import shutil
from pathlib import Path

import pytest
from driving import Study

import lvjobs

pytestmark = pytest.mark.slurm


@pytest.fixture
def package(tmp_path, study: Study):
    """A copy of the package that the study's commands import, to be edited."""
    copy = tmp_path / "src" / "lvjobs"
    shutil.copytree(Path(lvjobs.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    templates = Path(lvjobs.__file__).parents[1] / "slurm_templates"
    if templates.exists():
        shutil.copytree(templates, copy.parent / "slurm_templates")
    study.environment["PYTHONPATH"] = str(copy.parent)
    return copy


def break_training(path):
    """Let the training that lies there fail; returns the text that it was."""
    text = path.read_text()
    path.write_text(f"{text}\n\ndef train(run):\n    raise ValueError('an honest mistake')\n")
    return text


def test_a_code_error_is_held_and_told(study: Study, lab, fault):
    fixed = break_training(study.root / "toy_task.py")
    study.submit("run", "--steps", "20")
    run = study.until("run", "held")
    assert run["cause"] == "code_error"
    assert run["error"] == "ValueError: an honest mistake"
    assert "ValueError: an honest mistake" in study.type("status")
    assert study.run("run")["attempts"] == 1
    fault("code_error", study)

    # fixed, and resumed
    (study.root / "toy_task.py").write_text(fixed)
    assert "with the code as it is now" in study.type("resume", "run")
    study.until("run", "completed")


def test_code_edited_after_submit_does_not_run(study: Study, lab, package, fault):
    lab.run("scontrol", "update", "partitionname=low", "state=down")
    study.submit("run", "--steps", "20")
    break_training(study.root / "toy_task.py")
    (package / "worker" / "__main__.py").write_text("raise ValueError('an honest mistake')\n")
    lab.run("scontrol", "update", "partitionname=low", "state=up")
    assert study.until("run", "completed", "held")["state"] == "completed"
    fault("edited", study)
