"""The lines that `lvjobs rehearse` prints of a report."""

import json

import pytest
from click.testing import CliRunner

from lvjobs.cli import cli, rehearse
from lvjobs.rehearsal.conduct import RehearsalReport
from lvjobs.rehearsal.differences import Difference
from lvjobs.rehearsal.verdict import FinalMetric, Judgement

ROW = {"state": "completed", "steps": 60}


def test_the_json_of_a_loss_that_is_no_number_is_json(tmp_path, monkeypatch):
    (tmp_path / "study.toml").touch()
    differences = [Difference("step's loss", 3, float("nan"), 1.0)]
    judgement = Judgement("differs", differences=differences, metric=FinalMetric("loss", 0.0, 0.5))
    monkeypatch.setattr(rehearse, "conduct", lambda *_arguments, **_options: RehearsalReport(judgement, ROW))
    found = json.loads(
        CliRunner().invoke(cli, ["rehearse", "--study", str(tmp_path), "--json"]).stdout, parse_constant=pytest.fail
    )
    assert (found["differences"][0]["alone"], found["metric"]["apart"]) == (None, None)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_refused(tmp_path, minutes):
    (tmp_path / "study.toml").touch()
    done = CliRunner().invoke(cli, ["rehearse", "--study", str(tmp_path), "--minutes", minutes])
    assert done.exception is not None
    assert "--minutes" in done.output + str(done.exception)
