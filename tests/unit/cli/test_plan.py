"""`lvjobs plan`: the verdict first, one convention, plans that are applied; and its older names."""

import json

import pytest
from remedy_scenes import PRICED, STAGES, typed_scene
from remedy_tasks import scene_task

TIGHT = f"{PRICED}\n[budget]\nlimit = 5.5e7\n{STAGES}"


@pytest.fixture
def study(tmp_path, monkeypatch):
    scene = typed_scene(tmp_path, monkeypatch, TIGHT)
    scene_task(scene)
    return scene


def test_the_verdict_comes_first_and_tables_have_one_convention(study, typed):
    code, out, err = typed("plan")
    assert (code, err) == (0, "")
    first, second, *_ = out.splitlines()
    assert first.startswith("Does not fit: needs ")
    assert "available (limit 5.5e7; official convention)" in first
    assert second.startswith("The largest is stage first, which needs ")
    assert "published-formula" not in out
    assert "published-formula" in typed("plan", "--conventions")[1]


@pytest.mark.parametrize("words", [["estimate"], ["sweep", "plan"]], ids=" ".join)
def test_older_names_work(study, typed, words):
    assert typed(*words)[:2] == typed("plan")[:2]
    shown = json.loads(typed(*words, "--json")[1])
    assert shown == json.loads(typed("plan", "--json")[1])
    assert shown["schema"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--apply", "9"], "there is no plan 9; the last one is plan"),
        (["first", "--apply", "1"], "leave STAGE and the settings out"),
        (["--apply", "1", "--steps", "3"], "leave STAGE and the settings out"),
        (["frist"], "did you mean 'first'?"),
    ],
)
def test_what_cannot_be_applied_changes_nothing(study, typed, words, said):
    before = (study.root / "study.toml").read_bytes()
    code, _, err = typed("plan", *words)
    assert (code, said in err) == (2, True)
    assert (study.root / "study.toml").read_bytes() == before


def test_without_stages_in_study_toml_there_is_no_plan_to_apply(study, typed):
    (study.root / "study.toml").write_text(PRICED)
    code, _, err = typed("plan", "--apply", "1")
    assert (code, "study.toml declares no [[stage]]" in err) == (2, True)


def test_a_dry_run_counts_no_evaluation_that_nobody_wants(tmp_path, monkeypatch, typed):
    from lvjobs.forecasting.data import make_dataset

    scene = typed_scene(tmp_path, monkeypatch, 'profile = "lab"\nstage = []\n[driver]\njob = false\n')
    make_dataset(scene.root / "data.h5", systems=20, seed=0)
    shown = json.loads(typed("submit", "train", "--steps", "12", "--dry-run", "--json")[1])["estimate"]
    assert shown["total"]["series"] == 0
    assert {*shown["stages"][0]["evaluation"].values()} == {0}
    more = json.loads(typed("submit", "train", "--steps", "13", "--evaluate", "--dry-run", "--json")[1])["estimate"]
    assert min(more["stages"][0]["evaluation"].values()) > 0


def test_sizes_that_no_task_declares_are_left_out(study, typed):
    shown = json.loads(typed("plan", "--json")[1])
    assert not any(stage.get("checkpoint_bytes") or stage["kept_bytes"] for stage in shown["stages"])
    out = typed("plan")[1]
    assert "kept" in out
    assert "0.0 B" not in out
