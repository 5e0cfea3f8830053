"""The script of a dry run."""

from dataclasses import replace

import pytest
from control_scenes import Scene, make_haste

from lvjobs.control.stages.submit_runs import script


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return Scene(tmp_path)


def test_a_run_that_another_stage_has_is_shown_as_it_would_be_submitted(scene):
    """`lvjobs evaluate RUN --dry-run` of a run that a stage has evaluated."""
    scene.enter("one")
    again = replace(scene.wanted("one"), stage="evaluate")
    with scene.session() as session:
        text, _ = script(session, again)
    assert str(scene.files("one").root) in text
