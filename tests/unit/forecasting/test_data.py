"""Files of series: made, read, and refused in one line that names file, dataset and remedy."""

import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

from lvjobs.errors import UsageError
from lvjobs.forecasting.data import (
    RANGES,
    check_power,
    draw_systems,
    load_dataset,
    make_dataset,
    sample_times,
    sha256,
    solve,
)

pytestmark = pytest.mark.heavy


def write(path, **replaced):
    """A good file, but for what is replaced (None: left out)."""
    rng = np.random.default_rng(0)
    content = {"time": np.linspace(0, 200, 100), "trajectories": rng.random((5, 100, 2), dtype=np.float32)} | replaced
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[name] = value
    return path


def spoilt(index, value):
    trajectories = np.ones((5, 100, 2), dtype=np.float64)
    trajectories[index] = value
    return trajectories


def test_a_made_file_is_like_the_studys(tmp_path):
    path = tmp_path / "data.h5"
    make_dataset(path, systems=50, seed=1)
    data = load_dataset(path)
    with h5py.File(path) as file:
        assert (file["time"].dtype, file["trajectories"].dtype) == (np.float64, np.float32)
    assert data.time.tolist() == np.linspace(0, 200, 100).tolist()
    assert data.trajectories.shape == (50, 100, 2)
    assert data.trajectories.min() > 0
    assert np.quantile(data.trajectories, 0.99) == pytest.approx(6, rel=0.15)


@pytest.mark.parametrize("variables", [1, 3])
def test_a_file_may_have_other_than_two_variables(tmp_path, variables):
    path = write(tmp_path / "data.h5", trajectories=np.ones((5, 100, variables)))
    assert load_dataset(path).trajectories.shape == (5, 100, variables)


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_dataset(tmp_path / name, systems=3, seed=seed)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b") != sha256(tmp_path / "c")


def test_parameters_are_in_their_ranges_and_do_not_hang_on_the_count():
    few, many = draw_systems(3, 7), draw_systems(300, 7)
    for name, (low, high) in RANGES.items():
        values = many[name]
        assert (values >= low).all()
        assert (values <= high).all()
        assert values[:3].tolist() == few[name].tolist()


def test_the_solution_obeys_the_law():
    systems = draw_systems(6, 0)
    fine = np.linspace(0, 20, 20001)
    solution = solve(systems, fine)
    prey, predator = solution[:, 1:-1, 0], solution[:, 1:-1, 1]
    slopes = (solution[:, 2:] - solution[:, :-2]) / (fine[2] - fine[0])
    a, b, g, k, h, e = (systems[name][:, None] for name in list(RANGES)[:6])
    eaten = b * prey * predator / (1 + h * prey)
    assert slopes[..., 0] == pytest.approx(a * prey * (1 - prey / k) - eaten, abs=1e-5)
    assert slopes[..., 1] == pytest.approx(e * eaten - g * predator, abs=1e-5)
    assert solve(systems, sample_times())[:, 0] == pytest.approx(
        np.stack([systems["prey"], systems["predator"]], axis=1)
    )


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"time": None}, ["/time", "rename"]),
        ({"trajectories": None}, ["/trajectories", "/time", "rename"]),
        ({"trajectories": np.ones((5, 99, 2))}, ["/trajectories", "(5, 99, 2)", "(systems, 100, variables)"]),
        ({"trajectories": np.ones((5, 100))}, ["/trajectories", "(5, 100)"]),
        ({"trajectories": np.ones((5, 100, 0))}, ["/trajectories", "(5, 100, 0)"]),
        ({"trajectories": np.full((5, 100, 2), b"x")}, ["/trajectories", "floats"]),
        ({"trajectories": spoilt((3, 7, 1), np.nan)}, ["/trajectories", "NaN", "[3, 7, 1]", "1 in all", "repair"]),
        ({"trajectories": spoilt((0, 0, 0), np.inf)}, ["/trajectories", "[0, 0, 0]"]),
        ({"trajectories": spoilt((2, 1, 0), 1e300)}, ["/trajectories", "[2, 1, 0]", "float32"]),
        ({"time": np.ones((100, 2))}, ["/time", "(100, 2)"]),
        ({"time": np.full(100, np.nan)}, ["/time", "NaN"]),
        ({"time": np.r_[0, 0, np.arange(98)]}, ["/time", "index 1", "sort"]),
        ({"time": np.arange(100)[::-1].copy()}, ["/time", "index 1"]),
        ({"time": np.arange(50), "trajectories": np.ones((5, 50, 2))}, ["/time", "50", "100"]),
        ({"trajectories": np.ones((1, 100, 2))}, ["/trajectories", "1 system", "2"]),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(tmp_path, replaced, words):
    path = write(tmp_path / "bad.h5", **replaced)
    with pytest.raises(UsageError) as caught:
        load_dataset(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [str(path), *words]), message


@pytest.mark.parametrize(
    ("power", "value", "words"),
    [
        (0.5, -0.25, "scale_power = 0.5 needs values of at least 0, and series 3, step 7, variable 1 is -0.25"),
        (0.0, 0.0, "scale_power = 0 needs values above 0, and series 3, step 7, variable 1 is 0"),
    ],
)
def test_values_without_a_power_are_refused(tmp_path, power, value, words):
    data = load_dataset(write(tmp_path / "data.h5", trajectories=spoilt((3, 7, 1), value)))
    with pytest.raises(UsageError, match=re.escape(words)):
        check_power(data, power)
    check_power(data, 1.0)
    if not value:
        check_power(data, 0.5)


def test_a_file_that_is_none_is_refused(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    none = tmp_path / "none.h5"
    for path, words in ((text, "not an HDF5 file"), (none, "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(UsageError, match=words) as caught:
            load_dataset(path)
        assert str(path) in str(caught.value)
        assert "--data" in str(caught.value)
        assert ("lvjobs data make" in str(caught.value)) == (path == none), "only where it can be made"
    for path, steps in ((tmp_path / "nowhere" / "none.h5", 100), (none, 101)):
        with pytest.raises(UsageError, match="no such file") as caught:
            load_dataset(path, steps=steps)
        assert "lvjobs data make" not in str(caught.value), "its directory is missing, or the series were too short"


@pytest.mark.parametrize(("arguments", "word"), [({"systems": 1}, "systems"), ({"seed": -1}, "seed")])
def test_nothing_is_made_of_bad_arguments(tmp_path, arguments, word):
    with pytest.raises(UsageError, match=word):
        make_dataset(tmp_path / "data.h5", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no directory"):
        make_dataset(tmp_path / "none" / "data.h5", systems=2)


def test_checking_a_file_loads_no_torch():
    code = "import sys, lvjobs.forecasting.data, lvjobs.forecasting.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
