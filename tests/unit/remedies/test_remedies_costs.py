"""Scenarios of remedies for what runs cost: the budget, and estimates of it."""

import pytest
from doctor_helpers import asked_of, told
from remedy_scenes import TOML, typed_scene
from remedy_tasks import GRID, beside, scene_task

from lvjobs import remedies
from lvjobs.doctor import places


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A directory with nothing in it, in which one is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    return tmp_path


@pytest.mark.remedy("BUDGET")
def test_runs_that_the_budget_has_no_room_for(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, f"{TOML}\n[budget]\nlimit = 1000\n", budget={"limit": 1000})
    scene_task(scene)
    code, _, err = typed("submit", "run")
    assert (code, scene.rows("runs")) == (2, [])
    _, shown, _ = take(remedies.BUDGET, err)
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("free")] == [["free", "1000"]]
    assert typed("submit", "run", "--steps", "4", "--checkpoint-every", "2")[0] == 0, "what is free is enough for that"
    scene.go(300)
    assert [run["state"] for run in scene.rows("runs")] == ["completed"]


@pytest.mark.remedy("BUDGET_SET")
def test_runs_of_which_not_even_an_interval_fits(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, f"{TOML}\n[budget]\nlimit = 100\n", budget={"limit": 100})
    scene_task(scene)
    code, _, err = typed("submit", "run", "--fit")
    assert (code, "not even one checkpoint interval" in err) == (2, True)
    scene.bind(limit=10**17)
    code, out, err = take(remedies.BUDGET_SET, err, choose={"FLOPS": "1e17", "REASON": "a second grant"})
    assert code == 0, err
    assert "1e+17 are free" in out
    assert typed("submit", "run")[0] == 0
    scene.go(300)
    assert [run["state"] for run in scene.rows("runs")] == ["completed"]


@pytest.mark.remedy("BUDGET_SET_HOURS")
def test_runs_that_need_more_gpu_hours(tmp_path, monkeypatch, typed, take):
    few = {"limit": 10**17, "gpu_hours": 0.5}
    scene = typed_scene(tmp_path, monkeypatch, f"{TOML}\n[budget]\ngpu_hours = 0.5\n", budget=few)
    scene_task(scene)
    code, _, err = typed("submit", "run")
    assert (code, scene.rows("runs")) == (2, [])
    assert "needs 1 GPU-hours" in err
    scene.bind(limit=10**17, gpu_hours=2)
    code, out, err = take(remedies.BUDGET_SET_HOURS, err, choose={"HOURS": "2", "REASON": "a second grant"})
    assert code == 0, err
    assert "the limit is 2 GPU-hours; 2 are free" in out
    assert "gpu_hours = 2" in (scene.root / "study.toml").read_text()
    assert "Fits: needs 1 GPU-hours" in " ".join(typed("estimate", "train")[1].split())
    assert typed("submit", "run")[0] == 0
    shown = typed("budget")[1]
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("reserved")][-1] == ["reserved", "1"]
    assert "of 2 GPU-hours spent" in typed("status")[1]
    scene.go(300)
    assert [run["state"] for run in scene.rows("runs")] == ["completed"]
    assert typed("budget", "set")[0] == 2, "no limit is named"
    assert typed("budget", "set", "--gpu-hours", "none")[0] == 2


@pytest.mark.remedy("ESTIMATE")
def test_whether_all_that_is_declared_fits(bare, typed, take):
    root = bare / "study"
    (found,) = places.check_budget(
        asked_of(root, "local", toml=f'[train]\ntask = "toy_task:priced"\nsteps = 12\n{GRID}')
    )
    beside(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        code, out, err = take(remedies.ESTIMATE, told([found])[0])
    assert code == 0, err
    assert out.startswith(("Does not fit: needs ", "Fits: needs "))


@pytest.mark.remedy("ESTIMATE_TRAIN")
@pytest.mark.parametrize("task", ["priced", "train"])
def test_a_study_that_declares_no_stage(bare, typed, take, task):
    (bare / "study.toml").write_text(f'profile = "local"\n[train]\ntask = "toy_task:{task}"\nsteps = 12\n')
    beside(bare)
    code, _, err = typed("estimate")
    assert code == 2
    code, out, err = take(remedies.ESTIMATE_TRAIN, err)
    assert code == 0, err
    assert out.startswith("Fits: needs ")
    assert ("are not counted" in out) == (task == "train")


@pytest.mark.parametrize("arguments", ["sweep all", "sweep all --dry-run"])
def test_stages_that_are_none_cannot_be_swept(bare, typed, arguments):
    (bare / "study.toml").write_text('profile = "local"\n[train]\ntask = "toy_task:priced"\nsteps = 12\n')
    beside(bare)
    code, out, err = typed(*arguments.split())
    assert (code, out) == (2, "")
    assert "declares no [[stage]]" in err
