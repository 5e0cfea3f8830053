"""What is trained on, what is validated on, and that the two never meet."""

import numpy as np
import pytest

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.data import Dataset
from lvjobs.forecasting.order import Order
from lvjobs.forecasting.tokenizer import VOCABULARY, Characters
from lvjobs.forecasting.windows import IGNORED, chunks, split, training_windows, validation_windows
from lvjobs.study.training import TrainingConfig

PAD = 0


class Table:
    """A tokenizer in four lines."""

    def encode(self, text, add_special_tokens=False):
        return [VOCABULARY.index(character) for character in text]


@pytest.fixture
def data(tmp_path):
    trajectories = np.random.default_rng(0).random((10, 100, 2), dtype=np.float32)
    return Dataset(tmp_path / "x.h5", np.linspace(0, 200, 100), trajectories)


def windows_of(make, data, **params):
    codec = Codec()
    return make(data, codec, Characters(Table(), "test", codec), TrainingConfig(data="x", **params), PAD)


@pytest.mark.parametrize(
    ("tokens", "length"), [(1000, 512), (1000, 128), (1000, 768), (1000, 1000), (30, 512), (101, 17)]
)
def test_chunks_cover_every_token_and_overlap_by_half(tokens, length):
    row = np.arange(5, 5 + tokens)
    windows = chunks([row, row[:7]], length, PAD)
    starts = [int(ids[0]) - 5 for ids in windows.ids[:-1]]
    assert np.diff(starts).tolist() == [length - length // 2] * (len(starts) - 1)
    real = windows.attention == 1
    assert set(windows.ids[:-1][real[:-1]]) == set(row)
    assert np.bincount(windows.ids[:-1][real[:-1]])[5:].max() <= 2
    assert (windows.ids[real] == windows.labels[real]).all()
    assert real.sum(axis=1).max() <= length


def test_padding_is_masked_out_of_labels_and_attention():
    windows = chunks([np.arange(5, 105), np.arange(5, 40)], 80, PAD)
    padding = windows.attention == 0
    assert padding.any()
    assert (windows.labels[padding] == IGNORED).all()
    assert (windows.ids[padding] == PAD).all()
    assert (windows.labels[~padding] != IGNORED).all()
    assert (np.diff(windows.attention, axis=1) <= 0).all()  # on the right


def test_taking_rows_drops_only_common_padding():
    windows = chunks([np.arange(5, 45), np.arange(5, 15)], 40, PAD)
    short = windows.take(np.array([len(windows) - 1]))
    assert short.ids.shape == (1, 10)
    assert windows.take(np.array([0, len(windows) - 1])).ids.shape == (2, 40)


def test_validation_counts_the_horizon_only(data):
    windows = windows_of(validation_windows, data)
    assert len(windows) == 2
    assert windows.ids.shape == (2, 1000)
    assert (windows.labels[:, :800] == IGNORED).all()
    assert (windows.labels[:, 800:] == windows.ids[:, 800:]).all()


def test_validation_does_not_hang_on_how_one_trains(data):
    one, other = (
        windows_of(validation_windows, data, context_length=length, batch_size=batch, train_systems=train)
        for length, batch, train in ((16, 1, 2), (768, 8, 8))
    )
    assert (one.ids == other.ids).all()
    assert (one.labels == other.labels).all()


def test_training_and_validation_share_no_system(data):
    """Each system is given a length of its own, by which its tokens are known."""
    marked = data.trajectories.copy()
    marked[8:, :80] = np.linspace(0, 1, 80)[:, None]  # nothing like the noise of the others
    changed = Dataset(data.path, data.time, marked)
    assert (windows_of(training_windows, data).ids == windows_of(training_windows, changed).ids).all()
    assert (windows_of(validation_windows, data).ids != windows_of(validation_windows, changed).ids).any()
    marked = data.trajectories.copy()
    marked[:8] = 1 - marked[:8]
    changed = Dataset(data.path, data.time, marked)
    assert (windows_of(validation_windows, data).ids == windows_of(validation_windows, changed).ids).all()


def test_the_horizon_does_not_move_the_scale_of_its_history(data):
    grown = data.trajectories.copy()
    grown[:, 80:] *= 5
    changed = Dataset(data.path, data.time, grown)
    one, other = windows_of(validation_windows, data), windows_of(validation_windows, changed)
    assert (one.ids[:, :800] == other.ids[:, :800]).all()
    assert (one.ids[:, 800:1000] != other.ids[:, 800:1000]).any()


def test_a_limit_takes_the_first_validation_systems(data):
    assert len(windows_of(validation_windows, data, validation_limit=1)) == 1


@pytest.mark.parametrize(("systems", "first"), [(1000, 800), (10, 8), (4, 3), (2, 1)])
def test_the_last_fifth_validates(systems, first):
    assert split(systems, TrainingConfig(data="x")) == (first, first)


def test_training_may_not_reach_into_validation():
    assert split(10, TrainingConfig(data="x", train_systems=3)) == (3, 8)
    with pytest.raises(UsageError, match=r"train_systems = 9.*first 8"):
        split(10, TrainingConfig(data="x", train_systems=9))


def test_an_epoch_has_every_window_once_and_the_next_is_another_order():
    order = Order(windows=7, batch=3, seed=1)
    drawn = np.concatenate([order.next() for _ in range(14)]).reshape(6, 7)
    assert (np.sort(drawn, axis=1) == np.arange(7)).all()
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[0] != Order(7, 7, seed=2).next()).any()


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_an_order_goes_on_where_it_was(after):
    order = Order(windows=7, batch=3, seed=1)
    for _ in range(after):
        order.next()
    other = Order(windows=7, batch=3, seed=1)
    other.restore(order.state())
    assert [order.next().tolist() for _ in range(5)] == [other.next().tolist() for _ in range(5)]


@pytest.mark.parametrize("key", ["windows", "batch", "seed"])
def test_a_position_in_another_order_is_refused(key):
    order = Order(windows=7, batch=3, seed=1)
    with pytest.raises(LvjobsError, match=key):
        order.restore(order.state() | {key: 99})
