"""One series' truth, history, forecast and baselines stay together, from the evaluation's file to CSV and HDF5."""

import csv
import io
import json

import h5py
import numpy as np
import pytest
from report_helpers import HISTORY, HORIZON, SYSTEMS, Finished, data, read_forecast

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.data import load_dataset, make_dataset
from lvjobs.forecasting.results import baselines_of, load_result, load_series
from lvjobs.forecasting.series_forecast import SeriesForecast
from lvjobs.study.run import RunConfig

pytestmark = pytest.mark.heavy

__all__ = ["data"]


@pytest.fixture
def finished(tmp_path, data):
    return Finished(tmp_path, data)


def stored(finished, run):
    return finished.layout.run(run.name).final, RunConfig.model_validate(run.config)


def reorder(path, rows, *, systems):
    """Swap the forecasts in the file, and maybe the systems' indices with them."""
    with h5py.File(path, "r+") as file:
        file["/forecasts"][:] = file["/forecasts"][()][:, rows]
        if systems:
            file["/systems"][:] = file["/systems"][()][rows]


def test_a_series_is_cut_out_by_its_index(finished, data):
    final, run = stored(finished, finished.evaluated(noise=0.0))
    whole = load_dataset(data).trajectories.astype(np.float64)
    for series in SYSTEMS:
        made = load_series(final, run, series)
        assert np.array_equal(made.truth, whole[series, : HISTORY + HORIZON])
        assert np.array_equal(made.forecast, whole[series, HISTORY : HISTORY + HORIZON])
        assert np.array_equal(
            made.baselines["persistence"], np.repeat(whole[series, HISTORY - 1][None], HORIZON, axis=0)
        )
        assert made.errors()["forecast"] == {"mae": 0.0, "mse": 0.0}
    with pytest.raises(LvjobsError, match="series 3 was not forecast"):
        load_series(final, run, 3)


@pytest.mark.parametrize("systems", [False, True], ids=["the forecasts alone", "with their indices"])
def test_a_shuffle_that_separates_a_series_from_its_truth_is_refused(finished, systems):
    final, run = stored(finished, finished.evaluated())
    assert load_result(final, run).systems == tuple(SYSTEMS)
    reorder(final / "result" / "forecasts.h5", [1, 2, 0], systems=systems)
    with pytest.raises(LvjobsError, match=r"do not belong together|does not hold the forecasts of the series"):
        load_result(final, run)


def test_other_data_under_the_same_name_are_refused(tmp_path, finished):
    finished.data = tmp_path / "other.h5"
    make_dataset(finished.data, systems=20, seed=1)
    final, run = stored(finished, finished.evaluated())
    make_dataset(finished.data, systems=20, seed=2)
    with pytest.raises(LvjobsError, match="no longer the file"):
        load_series(final, run, SYSTEMS[0])


def test_the_baselines_are_those_of_the_scores(finished):
    final, run = stored(finished, finished.evaluated())
    kept = json.loads((final / "result" / "scores.json").read_text())["baselines"]
    result, (made, problems) = load_result(final, run), baselines_of(run)
    assert made.keys() | problems.keys() == kept.keys()
    for name, values in made.items():
        assert result.errors_of(values).mean() == pytest.approx(kept[name]["overall"]["mae"], rel=1e-12)


def test_a_series_that_trained_is_forecast_and_no_baseline_learns_from_it(finished, data):
    """Were it among what `analogue-training` learns from, its own future would be the nearest analogue."""
    final, run = stored(finished, finished.evaluated(split="asked", systems=[3]))
    made = load_series(final, run, 3)
    assert np.array_equal(made.truth, load_dataset(data).trajectories[3, : HISTORY + HORIZON].astype(np.float64))
    assert made.errors()["analogue-training"]["mae"] > 1e-4


def an_example(samples=3, known=True):
    rng = np.random.default_rng(5)
    steps = 7 if known else 4
    return SeriesForecast(
        17,
        np.arange(7) / 3,
        rng.random((steps, 2)) / 3,
        4,
        rng.random((samples, 3, 2)),
        {"persistence": rng.random((3, 2)), "var-8": rng.random((3, 2))},
        {"model": "tiny", "trained_on": False},
    )


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("known", [True, False])
def test_csv_holds_every_number_to_the_last_bit(samples, known):
    made = an_example(samples, known)
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert len(rows) == 14
    assert [row["part"] for row in rows[:7]] == ["history"] * 4 + ["horizon"] * 3
    for row in rows:
        variable, step = int(row["variable"]), int(row["step"])
        assert (int(row["series"]), float(row["time"])) == (17, made.time[step])
        assert row["truth"] == (repr(float(made.truth[step, variable])) if step < len(made.truth) else "")
        if step < 4:
            assert row["forecast"] == row["persistence"] == ""
            continue
        assert float(row["forecast"]) == made.forecast[step - 4, variable]
        assert float(row["var-8"]) == made.baselines["var-8"][step - 4, variable]
        assert ("q05" in row) == (samples > 1)
        for level, values in made.quantiles.items():
            assert float(row[f"q{100 * level:02.0f}"]) == values[step - 4, variable]


@pytest.mark.parametrize("samples", [1, 3])
def test_hdf5_reads_back_and_is_the_same_again(tmp_path, samples):
    made = an_example(samples)
    for name in ("one.h5", "two.h5"):
        made.write_hdf5(tmp_path / name)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    found = read_forecast(tmp_path / "one.h5")
    assert (found.series, found.history, found.evidence) == (17, 4, made.evidence)
    for name in ("time", "truth", "samples", "forecast"):
        assert np.array_equal(getattr(found, name), getattr(made, name)), name
    assert {name: values.tolist() for name, values in found.baselines.items()} == {
        name: values.tolist() for name, values in made.baselines.items()
    }
    with h5py.File(tmp_path / "one.h5") as file:
        assert ("quantiles" in file) == (samples > 1)


def test_quantiles_are_those_of_the_samples():
    made = an_example(3)
    expected = np.quantile(made.samples, list(made.quantiles), axis=0)
    assert np.array_equal(np.stack(list(made.quantiles.values())), expected)
    assert an_example(1).quantiles == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baselines": {}}, "never shown without a baseline"),
        ({"baselines": {"mean": np.zeros((2, 2))}}, "mean is"),
        ({"truth": np.zeros((6, 2))}, "do not belong"),
        ({"time": np.zeros(6)}, "do not belong"),
    ],
)
def test_nothing_is_cut_to_fit(changes, words):
    good = an_example()
    fields = {name: getattr(good, name) for name in ("series", "time", "truth", "history", "samples", "baselines")}
    with pytest.raises(LvjobsError, match=words):
        SeriesForecast(**(fields | changes))
