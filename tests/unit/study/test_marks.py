"""Declarations beside the type of a key: paths, secrets, and names of something of a site."""

from typing import Annotated

import pytest

from lvjobs.control.submission.declare import check_profile_resources
from lvjobs.errors import UsageError
from lvjobs.study.config import load_study, validated
from lvjobs.study.fields import Mark, StudyPath, marked
from lvjobs.study.notify import Notify
from lvjobs.study.tables import Resources, SettingsTable


class Table(SettingsTable):
    image: Annotated[StudyPath | None, Mark.OF_A_SITE] = None
    key: Annotated[int | None, Mark.SECRET] = None


class Outer(SettingsTable):
    table: Table = Table()


def test_a_path_is_relative_to_the_study_or_to_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"table": {"image": "images/x.sif"}}
    assert validated(Outer, values, "study.toml", tmp_path / "study").table.image == f"{tmp_path}/study/images/x.sif"
    assert validated(Outer, values, "--set").table.image == f"{tmp_path}/images/x.sif"
    again = validated(Outer, {"table": {"image": "/images/x.sif"}}, "study.toml", tmp_path)
    assert again.table.image == "/images/x.sif"
    assert Table(image="~root/x").image.endswith("/x")
    assert Table().image is None


def test_no_message_quotes_a_secret(tmp_path):
    with pytest.raises(UsageError) as refused:
        validated(Outer, {"table": {"key": "s3cr3t"}}, "study.toml")
    assert "table.key" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)
    (tmp_path / "study.toml").write_text('[notify]\nwebhook = "chat.example/s3cr3t"\n')
    with pytest.raises(UsageError) as refused:
        load_study(tmp_path)
    assert "notify.webhook" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_marks_are_found_by_their_table():
    assert marked(Table, Mark.OF_A_SITE) == ["image"]
    assert marked(Notify, Mark.SECRET) == ["webhook"]
    assert marked(Resources, Mark.OF_A_SITE) == ["partition", "account", "qos"]


@pytest.mark.parametrize("key", marked(Resources, Mark.OF_A_SITE))
def test_what_names_something_of_a_site_is_refused_on_this_machine(key):
    resources = Resources.model_validate({key: "x"})
    check_profile_resources("generic", resources)
    with pytest.raises(UsageError, match=f"{key} has no effect with profile local"):
        check_profile_resources("local", resources)
