"""Early stopping: when a run ends, and that an attempt which resumes decides the same."""

import math

import pytest
from forecasting_helpers import adapter_bytes, one_thread, run_through, small

from lvjobs.forecasting.data import make_dataset
from lvjobs.forecasting.stopping import EarlyStopping

pytestmark = pytest.mark.heavy

__all__ = ["one_thread"]  # a fixture


def ends_at(losses, patience, delta=0.0):
    """The validation that ends the run, None for none; restored from its state before each one."""
    before = EarlyStopping(patience, delta)
    for index, loss in enumerate(losses):
        now = EarlyStopping(patience, delta)
        now.restore(before.state())
        now.see(loss)
        if now.is_over:
            return index
        before = now
    return None


@pytest.mark.parametrize(
    ("losses", "patience", "delta", "expected"),
    [
        ([3, 2, 1, 1, 1], 2, 0.0, 4),
        ([3, 2, 2, 1, 1, 1], 2, 0.0, 5),
        ([3, 2, 1.5, 1.4], 1, 0.0, None),
        ([3, 2, 1.5, 1.4], 1, 0.25, 3),
        ([3, 2.75, 2.5], 1, 0.25, None),
        ([3, 2.9, 2.8, 2.7], 3, 0.25, None),  # little by little is better too, in the end
        ([3, 2.9, 2.85, 2.8], 3, 0.25, 3),
        ([3, math.nan, math.nan], 2, 0.0, 2),
        ([3, 3, 3, 3], None, 0.0, None),
    ],
)
def test_patience(losses, patience, delta, expected):
    assert ends_at(losses, patience, delta) == expected


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=5, seed=0)
    return path


def hasty(data, **params):
    """A training that soon has nothing to gain: validation must become better by half a nat each time."""
    return small(data, validate_every=2, early_stopping_patience=2, early_stopping_delta=0.5, **params)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kill_at", [None, 3, 5, 6])
def test_a_run_ends_early_wherever_it_was_killed(data, tmp_path, kill_at):
    whole = run_through(hasty(data, checkpoint_every=2), tmp_path / "whole")
    losses = [metrics["loss"] for _, metrics in whole.validations]
    end = whole.saved[0]
    assert end == 2 * ends_at(losses, 2, 0.5) < 12
    assert whole.events[-1] == ("final", end)
    assert [event for event, _ in whole.events].count("final") == 1
    if kill_at is not None:
        first = run_through(hasty(data, checkpoint_every=2), tmp_path / "1", kill_at=min(kill_at, end))
        second = run_through(hasty(data, checkpoint_every=2), tmp_path / "2", before=first.saved)
        assert second.events[-1] == ("final", end)
        assert adapter_bytes(second) == adapter_bytes(whole)


@pytest.mark.usefixtures("one_thread")
def test_it_ends_between_two_checkpoints(data, tmp_path):
    run = run_through(hasty(data, checkpoint_every=100), tmp_path)
    assert run.events[-1][0] == "final"
    assert run.saved[0] < 12
