"""A study that was moved finds its data, and knows its runs."""

import shutil
from dataclasses import replace

import pytest
from control_scenes import Scene, make_haste

from lvjobs.control.recovery.place import relocate, translated
from lvjobs.control.stages.submit_runs import enter
from lvjobs.study.run import RunFile, with_values
from lvjobs.worker.submission import Submission


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    (tmp_path / "here").mkdir()
    return Scene(tmp_path / "here")


def wanted(scene, **changes):
    """A run whose data lie in the study, as a command declares it."""
    made = scene.wanted("one")
    params = {
        "data": f"{scene.study.root}/d.csv",
        "others": [f"{scene.study.root}/e", f"{scene.study.root.parent}/here2/f"],
    }
    (config,) = made.configs
    return replace(made, configs=[with_values(config.model_dump(), {"params": params})], **changes)


def test_a_moved_study_finds_its_data_and_trains_nothing_anew(scene, tmp_path):
    with scene.session() as session:
        enter(session, wanted(scene))
    Submission(scene.files(), scene.job().request.token).read_run()
    before = RunFile.model_validate_json(scene.files().config.read_text())
    former, root = scene.study.root, tmp_path / "there"
    shutil.move(former, root)
    scene.study = replace(scene.study, root=root)
    with scene.session() as session, session.ledger.transaction() as transaction:
        assert relocate(transaction, scene.study, former) == 0, "the session has done it"
    after = RunFile.model_validate_json(scene.files().config.read_text())
    assert (after.id, after.fingerprint) == (before.id, before.fingerprint)
    config = Submission(scene.files(), "").read_run()
    assert config.params == {"data": f"{root}/d.csv", "others": [f"{root}/e", f"{tmp_path}/here2/f"]}
    with scene.session() as session:
        again = enter(session, wanted(scene, names=["other"], is_named=False))
    assert [run.name for run in again.existing] == ["one"]


def test_only_paths_in_the_study_are_translated(tmp_path):
    old, new = tmp_path / "a", tmp_path / "b"
    value = {f"{old}/x": [str(old), f"{old}x", 1, None], "y": {"z": f"see {old}/x"}}
    assert translated(value, old, new) == {f"{new}/x": [str(new), f"{old}x", 1, None], "y": {"z": f"see {old}/x"}}
