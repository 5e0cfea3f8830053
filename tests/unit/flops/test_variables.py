"""A forecast costs what the series of its data take: one, two or more variables."""

import h5py
import numpy as np
import pytest

from lvjobs.forecasting.costs import workload_of
from lvjobs.study.params import TrainingConfig


def lengths(data, prompt="raw"):
    step = workload_of(TrainingConfig(data=str(data), decimals=2), 4, prompt)
    return step.length, step.prompt_tokens, step.new_tokens


@pytest.mark.parametrize("variables", [1, 2, 3])
def test_each_variable_is_five_tokens_of_a_forecasts_step(tmp_path, variables):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["trajectories"] = np.ones((5, 100, variables))
    assert lengths(tmp_path / "d.h5") == (512, 80 * 5 * variables, 20 * 5 * variables)


def test_without_the_data_two_variables_are_assumed(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("gone.h5", "text.h5"):
        assert lengths(tmp_path / name) == (512, 800, 200)
