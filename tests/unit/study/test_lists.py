"""Lists that are typed: `--set` carries text alone."""

import pytest

from lvjobs.errors import UsageError
from lvjobs.forecasting.data import make_dataset
from lvjobs.study.config import validated
from lvjobs.study.settings import settings_model
from lvjobs.study.tables import Resources


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ('extra_sbatch=["--constraint=a100", "--mail-type=END"]', ["--constraint=a100", "--mail-type=END"]),
        ("extra_sbatch=--constraint=a100", ["--constraint=a100"]),
        ('exclude_nodes=["n1","n2"]', ["--exclude=n1,n2"]),
        ("exclude_nodes=n1", ["--exclude=n1"]),
    ],
)
def test_a_list_of_resources_is_typed(tmp_path, monkeypatch, typed, given, lines):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    make_dataset(tmp_path / "data.h5", systems=10, seed=0)
    code, out, err = typed("submit", "train", "--dry-run", "--profile", "lab", "--set", f"resources.{given}")
    assert code == 0, err
    assert [line for line in lines if f"#SBATCH {line}" in out.splitlines()] == lines


@pytest.mark.parametrize("given", ['["--constraint=a100"', "[one]", "[1]"])
def test_what_is_no_list_of_texts_is_said_in_one_line(given):
    with pytest.raises(UsageError, match="extra_sbatch") as caught:
        validated(Resources, {"extra_sbatch": given}, "resources")
    assert "\n" not in str(caught.value)


def test_a_list_of_ones_own_is_typed():
    known = {"task": "mine:train", "widths": [1, 2]}
    settings = validated(settings_model(known), known | {"widths": "[64, 32]"}, "settings")
    assert settings.run_config().params["widths"] == [64, 32]
    with pytest.raises(UsageError, match="widths"):
        validated(settings_model(known), known | {"widths": "64"}, "settings")
