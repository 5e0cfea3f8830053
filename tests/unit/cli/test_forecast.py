"""`lvjobs forecast` and `lvjobs figures`: what they refuse, in one line; and what they write from the command line."""

import csv
import json

import numpy as np
import pytest
from report_helpers import read_forecast

from lvjobs.forecasting.data import load_dataset, make_dataset
from lvjobs.forecasting.models import add_adapter, load_base, save_adapter
from lvjobs.study.params import TrainingConfig

pytestmark = pytest.mark.heavy


@pytest.fixture
def lvjobs(tmp_path, monkeypatch, typed):
    """Types a command in a study with data; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    make_dataset(tmp_path / "data.h5", systems=20, seed=0)
    (tmp_path / "study.toml").write_text("[train]\nsteps = 4\nhorizon_steps = 3\n")
    return typed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["forecast", "--series", "3"], ["RUN", "--zero-shot", "--adapter"]),
        (["forecast", "one", "--zero-shot", "raw", "--series", "3"], ["RUN", "--zero-shot", "--adapter"]),
        (["forecast", "one", "--series", "3"], ["no run 'one'", "lvjobs status"]),
        (["forecast", "--zero-shot", "raw", "--series", "20"], ["--series 20", "series 0 to 19"]),
        (["forecast", "--adapter", "nowhere", "--series", "3"], ["nowhere", "adapter_config.json"]),
        (["forecast", "--zero-shot", "raw", "--series", "3", "--samples", "2", "--temperature", "0"], ["same"]),
        (["evaluate", "--table"], ["nothing", "lvjobs evaluate RUN"]),
        (["evaluate", "--table", "one"], ["no run 'one'", "lvjobs status"]),
        (["evaluate", "--table", "--zero-shot", "raw"], ["--table"]),
        (["figures", "--study", "/nowhere"], ["/nowhere"]),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(tmp_path, lvjobs, arguments, words):
    code, out, err = lvjobs(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert {path.name for path in tmp_path.iterdir()} <= {"data.h5", "study.toml"}


def flops(lvjobs):
    return json.loads(lvjobs("budget", "--json")[1])["generation"]


def test_a_series_that_trained_is_forecast_and_loudly_said_to_be_one(tmp_path, lvjobs):
    training = TrainingConfig(data="data.h5")
    save_adapter(add_adapter(load_base(training)[0], training), tmp_path / "mine")
    code, out, err = lvjobs("forecast", "--adapter", "mine", "--series", "3", "--samples", "2", "--wait", "--json")
    assert code == 0, err
    assert json.loads(out)["outcome"] == "submitted"
    assert "series 3 is TRAINING DATA of mine" in err
    made = tmp_path / "forecasts" / "mine-series-3"
    assert {path.name for path in made.iterdir()} == {f"forecast.{end}" for end in ("csv", "h5", "json", "png", "svg")}
    found = read_forecast(made / "forecast.h5")
    assert np.array_equal(found.truth, load_dataset(tmp_path / "data.h5").trajectories[3, :83].astype(np.float64))
    assert found.samples.shape == (2, 3, 2)
    assert found.evidence["trained_on"] is True
    with (made / "forecast.csv").open() as stream:
        ahead = [row for row in csv.DictReader(stream) if row["part"] == "horizon" and row["variable"] == "1"]
    assert [float(row["forecast"]) for row in ahead] == found.forecast[:, 1].tolist()
    assert [float(row["persistence"]) for row in ahead] == found.baselines["persistence"][:, 1].tolist()
    spent = flops(lvjobs)
    assert spent > 0

    before = {path.name: path.read_bytes() for path in made.iterdir()}
    again = lvjobs("forecast", "--adapter", "mine", "--series", "3", "--samples", "2", "--json")
    assert json.loads(again[1])["trained_on"] is True
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert flops(lvjobs) == spent

    (tmp_path / "mine" / "adapter_model.safetensors").write_bytes(b"retrained")
    code, _, err = lvjobs("forecast", "--adapter", "mine", "--series", "3", "--samples", "2")
    assert code == 2
    assert "was changed since" in err


def test_an_evaluation_that_holds_the_series_gives_its_forecast_for_nothing(tmp_path, lvjobs):
    code, _, err = lvjobs("evaluate", "--zero-shot", "raw", "--wait")
    assert code == 0, err
    spent = flops(lvjobs)
    code, out, err = lvjobs("forecast", "--zero-shot", "raw", "--series", "18", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["series"], answer["trained_on"]) == (18, False)
    assert "analogue" in answer["errors"]
    assert flops(lvjobs) == spent
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1

    code, out, err = lvjobs("forecast", "--zero-shot", "raw", "--series", "18", "--dry-run", "--json")
    assert json.loads(out)["outcome"] == "exists"

    # Another way of decoding is another forecast: it would be a job, and its place is taken.
    code, out, err = lvjobs("forecast", "--zero-shot", "raw", "--series", "18", "--samples", "2", "--dry-run")
    assert "-m lvjobs.worker" in out
    code, _, err = lvjobs(
        "forecast", "--zero-shot", "raw", "--series", "17", "--out", "forecasts/zero-shot-raw-tiny-series-18"
    )
    assert code == 2
    assert "holds something else (series differs)" in err

    code, out, err = lvjobs("figures", "--json")
    assert code == 0, err
    index = json.loads(out)
    drawn = {each["stem"] for each in index["drawn"]}
    assert drawn == {
        "figure-1-example-series",
        "figure-5-forecast-typical",
        "figure-5-forecast-worst",
        "figure-6-error-by-step",
        "figure-7-error-distribution",
    }
    assert {each["stem"] for each in index["missing"]} == {"figure-2-loss", "figure-3-heatmap", "figure-4-context"}
    code, out, _ = lvjobs("evaluate", "--table")
    assert code == 0
    assert "| zero-shot raw" in out
    assert "\\toprule" in out
    table, _ = json.loads(lvjobs("evaluate", "--table", "--json")[1])["tables"]
    assert table["rows"][0]["mae"]["value"] > 0
