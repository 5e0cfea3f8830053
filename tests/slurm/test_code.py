"""The code that was submitted is the code that runs, and code that fails is not run again."""

import json
import shutil
from pathlib import Path

import pytest
from driving import Study

import lvjobs
from lvjobs.cluster.profiles import load_profile

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
    assert "with the current code" in study.type("resume", "run")
    study.until("run", "completed")


MODULE = """
module() {{ [ "$1" != load ] || export PYTHONPATH={site}/$2${{PYTHONPATH:+:$PYTHONPATH}}; }}
module load training
"""


def test_packages_of_a_module_are_found_behind_the_code_and_those_of_the_shell_are_not(study: Study, lab, tmp_path):
    """As at sites whose modules set PYTHONPATH, for a user with a profile of their own."""
    for place, where in (("training", "a module"), ("shell", "the shell")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "from_a_package.py").write_text(f"WHERE = {where!r}\n")
    (tmp_path / "training" / "lvjobs.py").write_text("raise SystemExit('not the code that was submitted')")
    template = load_profile("lab").source
    mark = "\n# -- what runs"
    assert template.count(mark) == 1
    mine = template.replace(mark, MODULE.format(site=tmp_path) + mark)
    (study.root / "mine.sh.j2").write_text(mine)
    settings = (study.root / "study.toml").read_text()
    (study.root / "study.toml").write_text(settings.replace('profile = "lab"', 'profile = "./mine.sh.j2"'))
    task = study.root / "toy_task.py"
    check = "import from_a_package\n\nif 'SLURM_JOB_ID' in os.environ:\n    assert from_a_package.WHERE == 'a module'\n"
    task.write_text(task.read_text().replace("import lvjobs\n", f"import lvjobs\n{check}", 1))
    study.environment["PYTHONPATH"] = str(tmp_path / "shell")
    study.submit("run", "--steps", "20")
    run = study.until("run", "completed", "held")
    assert (run["state"], run["error"]) == ("completed", "")
    journal = (study.root / "checkpoints" / "run" / "000001.jsonl").read_text()
    assert json.loads(journal.splitlines()[1])["python_path"] == str(tmp_path / "training")


def test_code_edited_after_submit_does_not_run(study: Study, lab, package, fault):
    lab.run("scontrol", "update", "partitionname=low", "state=down")
    study.submit("run", "--steps", "20")
    break_training(study.root / "toy_task.py")
    (package / "worker" / "__main__.py").write_text("raise ValueError('an honest mistake')\n")
    lab.run("scontrol", "update", "partitionname=low", "state=up")
    assert study.until("run", "completed", "held")["state"] == "completed"
    fault("edited", study)
