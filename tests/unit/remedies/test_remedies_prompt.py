"""Scenarios of remedies for what is typed at a prompt: a study's beginning, runs that enter, its report."""

import json
from pathlib import Path

import pytest
from control_scenes import begun
from doctor_helpers import asked_of, facts_of, told
from remedy_scenes import TOML, typed_scene
from remedy_tasks import GRID, beside, scene_task

from lvjobs import remedies
from lvjobs.cluster.enquiry import Reply
from lvjobs.control.summary_file import read_summary
from lvjobs.doctor import room
from lvjobs.forecasting.data import make_dataset
from lvjobs.records.summary import Summary
from lvjobs.report.terminal.console import new_console
from lvjobs.report.terminal.status_lines import print_status

FORECASTS = """\
profile = "lab"
stage = []

[train]
steps = 12
checkpoint_every = 4

[driver]
job = false
"""


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return typed_scene(tmp_path, monkeypatch)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A directory with nothing in it, in which one is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    return tmp_path


# -- a study begins -------------------------------------------------------------------------------------------------


@pytest.mark.remedy("INIT")
def test_a_directory_without_a_study(bare, typed, take):
    code, _, err = typed("status")
    assert code == 2
    code, out, _ = take(remedies.INIT, err)
    assert (code, (bare / "study.toml").is_file()) == (0, True)
    assert f"see the cost of its stages: {remedies.SWEEP_PLAN}" in out
    assert typed("status")[0] == 0


@pytest.mark.remedy("INIT_SCRIPT")
def test_a_batch_script_that_is_more_than_a_program(bare, typed, take):
    (bare / "job.sbatch").write_text("#!/bin/bash\nfor seed in 1 2; do\n  python train.py --seed $seed\ndone\n")
    code, _, err = typed("init", "--from", "job.sbatch")
    assert (code, (bare / "study.toml").exists()) == (2, False)
    shown = err.replace("bash job.sbatch", "bash SCRIPT")  # the message names the script
    assert shown != err
    code, _, _ = take(remedies.INIT_SCRIPT, shown, choose={"SCRIPT": "job.sbatch"})
    assert code == 0
    assert 'command = ["bash", "job.sbatch"]' in (bare / "study.toml").read_text()


@pytest.mark.remedy("STATUS")
def test_a_study_over_which_no_pass_was_made(scene, typed, take):
    begun(scene)
    scene.study.layout.summary.unlink()
    code, _, err = typed("status", "--no-pass")
    assert code == 2
    code, shown, _ = take(remedies.STATUS, err)
    assert (code, "one" in shown) == (0, True)
    code, again, _ = typed("status", "--no-pass")
    assert (code, "one" in again) == (0, True)


def test_no_pass_that_could_not_be_made_is_not_to_be_typed_again(scene, typed, monkeypatch):
    """The reason that prevented the pass would prevent the next one, so it is printed in its place."""
    begun(scene)
    scene.study.layout.summary.unlink()
    monkeypatch.setattr("lvjobs.api.updates.READ_WAIT_SECONDS", 0.0)
    with scene.session():
        code, _, err = typed("status")
    assert (code, "another lvjobs" in err or "process" in err, "was never updated" in err) == (1, True, False)


@pytest.mark.remedy("STATUS")
def test_a_run_that_is_not_known_by_that_name(scene, typed, take):
    begun(scene)
    code, _, err = typed("why", "zebra")
    assert code == 2
    _, shown, _ = take(remedies.STATUS, err)
    assert "one" in shown
    assert typed("why", "one")[0] == 0


@pytest.mark.remedy("STATUS_ALL")
def test_more_runs_than_lines(scene, typed, take, capsys):
    scene.enter(*(f"run{number}" for number in range(30)))
    scene.make_pass()
    console = new_console()
    console.height = 12
    print_status(Summary.from_dict(read_summary(scene.study.layout.summary)), console, whole=False)
    folded = capsys.readouterr().out
    assert "run29" not in folded
    _, whole, _ = take(remedies.STATUS_ALL, folded)
    assert all(f"run{number}" in whole for number in range(30))


# -- runs enter -----------------------------------------------------------------------------------------------------


@pytest.mark.remedy("SUBMIT_TRAIN", "DATA_MAKE")
def test_a_study_of_forecasts_without_runs_or_data(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, FORECASTS)
    code, shown, _ = typed("status")
    assert code == 0
    code, _, err = take(remedies.SUBMIT_TRAIN, shown)
    assert (code, scene.rows("runs")) == (2, [])
    assert take(remedies.DATA_MAKE, err, path=tmp_path / "data.h5")[0] == 0
    code, _, err = take(remedies.SUBMIT_TRAIN, shown)
    assert code == 0, err
    (run,) = scene.rows("runs")
    scene.go(300)
    assert scene.state(run["name"]) == "completed"


@pytest.mark.remedy("SUBMIT_TRAIN")
def test_a_report_of_a_study_without_runs(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, FORECASTS)
    (tmp_path / "data.h5").write_bytes(data_bytes(tmp_path))
    _, shown, _ = typed("report")
    assert "Not answered yet: nothing has run. Type: lvjobs submit train" in shown
    code, _, err = take(remedies.SUBMIT_TRAIN, shown)
    assert code == 0, err
    scene.go(300)
    _, shown, _ = typed("report")
    assert "no run has started" not in shown


@pytest.mark.remedy("SUBMIT_TASK")
@pytest.mark.parametrize("arguments", ["submit train", "status"])
def test_a_study_of_a_task_of_ones_own(scene, typed, take, arguments):
    scene_task(scene)
    _, out, err = typed(*arguments.split())
    code, out, err = take(remedies.SUBMIT_TASK, out + err)
    assert code == 0, err
    (run,) = scene.rows("runs")
    scene.go(300)
    assert scene.state(run["name"]) == "completed"


@pytest.mark.remedy("CONTINUE_RUN")
def test_a_completed_run_with_more_steps(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, FORECASTS)
    (tmp_path / "data.h5").write_bytes(data_bytes(tmp_path))
    assert typed("submit", "train", "--name", "one", "--steps", "12")[0] == 0
    scene.go(300)
    code, _, err = typed("submit", "train", "--name", "one", "--steps", "20")
    assert code == 2
    assert "run 'one' is completed at step 12, and stays as it is; to train on from it: " in err
    code, _, err = take(remedies.CONTINUE_RUN, err, run="one", steps=20)
    assert code == 0, err
    assert "note: continues one from step 12 of 12: 8 steps to train; both together are not one run of 20 steps" in err
    scene.go(300)
    one, more = scene.rows("runs")
    assert (scene.state(more["name"]), scene.worker.executed[more["name"]]) == ("completed", 8)
    assert json.loads(more["config"])["parent"]["run"] == one["name"] == "one"


@pytest.mark.remedy("CONTINUE_TASK")
def test_a_completed_run_of_a_task_of_ones_own_with_more_steps(scene, typed, take):
    scene_task(scene)
    assert typed("submit", "run", "--name", "one", "--steps", "12")[0] == 0
    scene.go(300)
    _, _, err = typed("submit", "run", "--name", "one", "--steps", "20")
    code, _, err = take(remedies.CONTINUE_TASK, err, run="one", steps=20)
    assert code == 0, err
    scene.go(300)
    more = scene.rows("runs")[-1]
    assert (scene.state(more["name"]), scene.worker.executed[more["name"]]) == ("completed", 8)


@pytest.mark.remedy("SUBMIT_NAMED_TASK")
def test_a_task_that_was_not_named(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, FORECASTS)
    beside(tmp_path)
    (tmp_path / "mine.toml").write_text("steps = 12\ncheckpoint_every = 4\n")
    code, _, err = typed("submit", "run")
    assert code == 2
    chosen = {"MODULE": "toy_task", "FUNCTION": "priced", "FILE": "mine"}
    code, _, err = take(remedies.SUBMIT_NAMED_TASK, err, choose=chosen)
    assert code == 0, err
    (run,) = scene.rows("runs")
    scene.go(300)
    assert scene.state(run["name"]) == "completed"
    code, _, err = typed("rehearse", "--config", "mine.toml")
    assert (code, err.strip()) == (2, 'lvjobs: mine.toml names no task; add task = "module:function" to it')


@pytest.mark.remedy("DRY_RUN")
def test_a_script_that_the_site_refuses(bare, typed, take):
    root = bare / "study"
    asked = asked_of(root, toml=FORECASTS.partition("\n")[2] + '\n[resources]\npartition = "lwo"\n')
    (root / "data.h5").write_bytes(data_bytes(bare))
    (found,) = room.check_submission(facts_of(asked, test=Reply(problem="invalid partition specified: lwo")), asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        code, script, err = take(remedies.DRY_RUN, told([found])[0])
        assert code == 0, err
        assert "#SBATCH --partition=lwo" in script
        (root / "study.toml").write_text((root / "study.toml").read_text().replace("lwo", "low"))
        assert "#SBATCH --partition=low" in typed("submit", "train", "--dry-run")[1]
    assert not (root / "checkpoints").exists(), "nothing was submitted"


@pytest.mark.remedy("RESUME_SETTINGS")
def test_settings_that_are_for_no_run(scene, typed, take):
    scene.enter("one")
    hold(scene, "one")
    code, _, err = typed("resume", "--time-limit", "12h")
    assert code == 2
    code, _, err = take(remedies.RESUME_SETTINGS, err, choose={"RUN": "one"})
    assert code == 0, err
    assert scene.job().request.resources["time_limit_minutes"] == 12 * 60
    scene.go(300)
    assert scene.state() == "completed"


@pytest.mark.remedy("RESUME_RUN")
def test_runs_that_a_pass_leaves_held(scene, typed, take):
    scene.enter("one", "two")
    hold(scene, "one", "two")
    code, out, _ = typed("resume")
    assert code == 0
    assert take(remedies.RESUME_RUN, out, run=["one", "two"])[0] == 0
    scene.go(300)
    assert {scene.state("one"), scene.state("two")} == {"completed"}


# -- what came of them ----------------------------------------------------------------------------------------------


@pytest.mark.remedy("REPORT", "SWEEP_ALL", "SWEEP_PLAN")
def test_a_study_that_is_looked_at_and_done_again(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, TOML.replace("\n[driver]", f"{GRID}\n[driver]"))
    scene_task(scene)
    assert typed("sweep", "all")[0] == 0
    scene.go(600)
    _, shown, _ = typed("sweep", "show", "grid")
    assert take(remedies.REPORT, shown)[0] == 0
    page = (tmp_path / "report" / "index.html").read_text()
    again = page[page.index("# the same study again") :].partition("</pre>")[0]
    other = tmp_path / "again"
    other.mkdir()
    toml, module = (tmp_path / "study.toml").read_text(), (tmp_path / "toy_task.py").read_text()
    scene = typed_scene(other, monkeypatch, toml)
    (other / "toy_task.py").write_text(module)
    for remedy in (remedies.SWEEP_PLAN, remedies.SWEEP_ALL):
        code, _, err = take(remedy, again.replace("the same study again", remedy.seen[0]))
        assert code == 0, err
    scene.go(600)
    assert {run["state"] for run in scene.rows("runs")} == {"completed"}
    take(remedies.REPORT, again)
    assert (other / "report" / "index.html").is_file()


# -- helpers --------------------------------------------------------------------------------------------------------


def hold(scene, *names):
    """Let the runs fail until they are held, and fix what they failed of."""
    scene.worker.failing.update(dict.fromkeys(names, 1))
    for _ in range(200):
        if {scene.state(name) for name in names} == {"held"}:
            break
        scene.cluster.advance(5)
        scene.one_pass()
    assert {scene.state(name) for name in names} == {"held"}
    scene.worker.failing.clear()


def data_bytes(directory) -> bytes:
    path = Path(directory, "made.h5")
    make_dataset(path, systems=20, seed=0)
    return path.read_bytes()
