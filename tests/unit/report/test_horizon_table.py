"""Errors over the first steps, by variable, and scaled: each figure from the forecasts themselves."""

import json

import numpy as np
import pytest
from report_helpers import HORIZON, Finished, data

from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.results import read_forecasts
from lvjobs.report import horizon_table
from lvjobs.report.evaluated import evaluated
from lvjobs.report.horizon_table import HORIZONS, horizon_tables

pytestmark = pytest.mark.heavy

__all__ = ["data"]


@pytest.fixture
def finished(tmp_path, data):
    return Finished(tmp_path, data)


def table_of(finished, chosen=()):
    (table,) = horizon_tables(evaluated(finished.layout, finished.runs), chosen)
    return table


@pytest.mark.parametrize("few", [3, HORIZON], ids=["fewer than the horizon", "the horizon"])
def test_each_figure_is_that_of_the_forecasts(finished, data, monkeypatch, few):
    monkeypatch.setattr(horizon_table, "SCALED_STEPS", few)
    run = finished.trained("a")
    done = finished.evaluated(run, noise=0.3)
    finished.evaluated(noise=0.5)
    table = table_of(finished, ["a"])
    row = table.values[0]
    made = read_forecasts(finished.layout.run(done.name).final / "result/forecasts.h5")
    history, horizon = made.systems and done.config["params"]["training"]["history_steps"], made.samples.shape[2]
    values = load_dataset(data).trajectories[made.systems].astype(np.float64)
    errors = np.abs(made.samples[0] - values[:, history : history + horizon])
    steps = [count for count in HORIZONS if count <= horizon]
    assert steps
    assert [row[f"mae_{count}"] for count in steps] == pytest.approx([errors[:, :count].mean() for count in steps])
    assert [row["mae_prey"], row["mae_predator"]] == pytest.approx(errors.mean(axis=(0, 1)))
    past = values[:, :history]
    low = past.min(axis=1)
    offset = low - 0.3 * (past.max(axis=1) - low)
    unit = np.quantile(past - offset[:, None], 0.99, axis=1)
    scaled = errors / unit[:, None]
    if few == HORIZON:  # columns of the same figures twice
        assert "scaled_mae_5" not in row
        assert len(table.headers) == 1 + len(steps) + 2 + 2
    else:
        expected = [scaled[:, :3].mean(), (scaled[:, :3] ** 2).mean()]
        assert [row["scaled_mae_3"], row["scaled_mse_3"]] == pytest.approx(expected)
        assert "scaled MAE, 3 steps" in table.headers
    assert len(table.headers) == len(table.rows[0])
    assert [row["scaled_mae"], row["scaled_mse"]] == pytest.approx([scaled.mean(), (scaled**2).mean()])
    assert table.marked == {0}
    assert [each["name"] for each in table.values[:2]] == ["a", "zero-shot raw"]
    assert "sparse-growth" in {each["name"] for each in table.values}
    assert table.values[-1]["name"] == "ode (knows the law)"


def test_an_evaluation_of_an_earlier_release_has_no_scaled_errors(finished):
    done = finished.evaluated(finished.trained("a"))
    path = finished.layout.run(done.name).final / "result/scores.json"
    kept = json.loads(path.read_text())
    for scores in (kept["scores"], *kept["baselines"].values()):
        scores.pop("scaled", None)
    path.write_text(json.dumps(kept | {"schema": 2}))
    table = table_of(finished)
    assert "scaled_mae" not in table.values[0]
    assert all(row["mae_1"] for row in table.values)
    assert any("evaluate these runs again" in note for note in table.notes)
    assert not any("scaled" in header for header in table.headers)
    finished.evaluated(noise=0.5)
    table = table_of(finished)
    assert table.rows[0][-1] == ""
    assert table.values[0]["scaled_mae"] is None
    assert table.values[1]["scaled_mae"] > 0
