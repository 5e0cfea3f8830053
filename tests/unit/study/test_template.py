"""The study.toml that `lvjobs init` writes: it has every key of the models, and says what is so by default."""

import re
import sys

import pytest

from lvjobs.study.config import StudyConfig, load_study
from lvjobs.study.presets import STUDIES
from lvjobs.study.settings import ProgramSettings, RunSettings
from lvjobs.study.template import sections, study_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EITHER = {"[train]": ProgramSettings.model_fields.keys() - RunSettings.model_fields.keys()}
"""Keys that go with no other keys of their table: those of a user's own function, and of a program."""


def loaded(root, text):
    (root / "study.toml").write_text(text)
    return load_study(root).config


def uncommented(text):
    """All keys and tables that stand in comments, set."""
    return re.sub(r"(?m)^# (\w+ = |\[)", r"\1", text)


def keys_of(values):
    """The keys of a study.toml by the table in which they stand, those of all stages together."""
    found = {"": {key for key, value in values.items() if key == "extra" or not isinstance(value, (dict, list))}}
    found |= {f"[{name}]": set(table) for name, table in values.items() if isinstance(table, dict)}
    found["[[stage]]"] = set().union(*values["stage"])
    for key in ("search", "select", "prune"):
        found[f"[stage.{key}]"] = set().union(*(stage.get(key, {}) for stage in values["stage"]))
    ranges = [each for stage in values["stage"] for each in stage.get("space", {}).values()]
    found["[stage.space]"] = set().union(*ranges)
    return found


@pytest.mark.parametrize("preset", STUDIES)
def test_what_init_writes_is_the_preset(tmp_path, preset):
    found = loaded(tmp_path, study_toml("local", {}, {}, preset))
    train, stages = STUDIES[preset]
    assert found.stage == list(stages)
    assert {key: getattr(found.train, key) for key in train} == dict(train)
    assert found.train.model_dump(exclude=set(train)) == StudyConfig().train.model_dump(exclude=set(train))
    assert found.model_dump(exclude={"stage", "train"}) == StudyConfig().model_dump(exclude={"stage", "train"})


@pytest.mark.parametrize("preset", STUDIES)
def test_every_key_of_every_table_is_shown_and_all_of_them_set_are_a_study(tmp_path, preset):
    text = uncommented(study_toml("local", {}, {}, preset))
    found = keys_of(tomllib.loads(text))
    known = {section.header: set() for section in sections()}
    for section in sections():
        known[section.header] |= set(section.keys) - EITHER.get(section.header, set())
    tables = {name for name in known if name.startswith("[train.")}
    assert tables == {"[train.container]", "[train.flops]", "[train.snapshot]"}
    assert found == {name: keys for name, keys in known.items() if name not in tables}
    assert "`task`" in text
    assert "`command`" in text
    loaded(tmp_path, text)


def test_commented_values_are_the_defaults(tmp_path):
    """But for examples, whose comments name the default."""
    text = study_toml("local", {}, {}, "study-tiny")
    begins, ends = text.index("[resources]"), text.index("# Stages:")
    said = text[begins:ends] + text[text.index("[evaluation]") :]
    shown = loaded(tmp_path, uncommented(said)).model_dump()
    for name, table in StudyConfig().model_dump(exclude={"stage", "train", "profile", "local_slots"}).items():
        for key, value in table.items():
            assert shown[name][key] == value or value is None, (name, key)
    train, _ = STUDIES["study-tiny"]
    for key, value in StudyConfig().train.model_dump(exclude=set(train)).items():
        assert shown["train"][key] == value or value is None, key


def test_the_profile_s_own_resources_stand_in_the_comments():
    defaults = {"partition": "ampere", "time_limit_minutes": 90, "account": None, "modules": ["rhel8"]}
    lines = study_toml("csd3-ampere", {"account": "ME-GPU"}, defaults, "published").splitlines()
    for entry in ('# partition = "ampere"', '# time_limit = "01:30:00"', '# modules = ["rhel8"]', 'account = "ME-GPU"'):
        assert any(line.startswith(f"{entry} ") for line in lines), entry


def test_no_line_is_longer_than_a_screen_is_wide():
    assert max(map(len, study_toml("isambard-ai", {}, {}, "published").splitlines())) <= 120


def test_the_shape_of_the_data_is_in_the_comments():
    assert "/trajectories (systems, steps, variables)" in study_toml("local", {}, {}, "study-tiny")
