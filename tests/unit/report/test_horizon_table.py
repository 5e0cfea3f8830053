"""Errors over the first steps, by variable, and scaled: each figure from the forecasts themselves."""

import json

import numpy as np
import pytest
from report_helpers import Finished, data

from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.results import read_forecasts
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


def test_each_figure_is_that_of_the_forecasts(finished, data):
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
    assert [row["scaled_mae_5"], row["scaled_mse_5"]] == pytest.approx(
        [scaled[:, :5].mean(), (scaled[:, :5] ** 2).mean()]
    )
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
    assert {row["scaled_mae"] for row in table.values} == {None}
    assert all(row["mae_1"] for row in table.values)
    assert any("evaluate these runs again" in note for note in table.notes)
    assert table.rows[0][-1] == ""
