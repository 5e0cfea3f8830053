"""Fixtures of the tests of recovery."""

import pytest
from control_scenes import Scene, make_haste


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)

    def made(**more):
        (tmp_path / "study").mkdir(exist_ok=True)
        return Scene(tmp_path / "study", **more)

    return made
