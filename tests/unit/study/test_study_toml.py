"""study.toml, read by a process that lives longer than the file's content."""

import pytest

from lvjobs.control.budget.limit import reread_budget
from lvjobs.errors import UsageError
from lvjobs.study import config
from lvjobs.study.config import load_study


@pytest.fixture
def reads(monkeypatch):
    """The paths that are read, each time."""
    found, read = [], config.read_toml
    monkeypatch.setattr(config, "read_toml", lambda path: (found.append(path), read(path))[1])
    return found


def test_a_command_reads_study_toml_once_and_again_only_when_it_changed(tmp_path, reads):
    path = tmp_path / "study.toml"
    path.write_text("[budget]\nlimit = 1e15\n")
    study = load_study(tmp_path)
    assert reread_budget(study).config.budget.limit == 10**15
    assert reads == [path]
    path.write_text("[budget]\nlimit = 2e16 # raised\n")
    assert reread_budget(study).config.budget.limit == 2 * 10**16
    assert len(reads) == 2


def test_a_study_toml_that_is_taken_away_is_not_remembered(tmp_path, reads):
    path = tmp_path / "study.toml"
    path.write_text('profile = "generic"\n')
    assert load_study(tmp_path).config.profile == "generic"
    path.unlink()
    assert load_study(tmp_path).config.profile == "local"
    path.write_text("profile = 3\n")
    for _ in range(2):
        with pytest.raises(UsageError, match="profile"):
            load_study(tmp_path)
