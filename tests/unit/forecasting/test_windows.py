"""The windows of training and of validation, which share no system."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from forecasting_helpers import Table, text_of
from pydantic import ValidationError

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting import models
from lvjobs.forecasting.codec import ALPHABET, Codec
from lvjobs.forecasting.data import Dataset
from lvjobs.forecasting.tokens import RAW, Characters, Prompt
from lvjobs.forecasting.train import loss_of
from lvjobs.forecasting.windows import (
    IGNORED,
    WindowOrder,
    codec_of,
    cut,
    numeric_labels,
    pack,
    pad,
    shared_scale,
    training_windows,
    validation_windows,
)
from lvjobs.study.params import TrainingConfig

pytestmark = pytest.mark.heavy

PAD = 0


@pytest.fixture
def data(tmp_path):
    trajectories = np.random.default_rng(0).random((10, 100, 2), dtype=np.float32)
    return Dataset(tmp_path / "x.h5", np.linspace(0, 200, 100), trajectories)


TABLE = Characters(Table(), "test", Codec())


def chunks(series, length, pad_id):
    return pad(cut(series, length), pad_id)


def windows_of(make, data, prompts=lambda horizon: RAW, **params):
    config = TrainingConfig(data="x", **params)
    return make(data, codec_of(config), TABLE, config, PAD, prompts)


@pytest.mark.parametrize(
    ("tokens", "length"), [(1000, 512), (1000, 128), (1000, 768), (1000, 1000), (30, 512), (101, 17)]
)
def test_chunks_cover_every_token_and_overlap_by_half(tokens, length):
    row = np.arange(5, 5 + tokens)
    windows = chunks([row, row[:7]], length, PAD)
    starts = [int(ids[0]) - 5 for ids in windows.ids[:-1]]
    assert np.diff(starts).tolist() == [length - length // 2] * (len(starts) - 1)
    assert all(start + length - following == length // 2 for start, following in pairwise(starts))
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
    windows = windows_of(validation_windows, data, validation_systems=2)
    assert len(windows) == 2
    assert windows.ids.shape == (2, 1000)
    assert (windows.labels[:, :800] == IGNORED).all()
    assert (windows.labels[:, 800:] == windows.ids[:, 800:]).all()


def test_validation_does_not_hang_on_how_one_trains(data):
    one, other = (
        windows_of(validation_windows, data, context_length=length, batch_size=batch, train_systems=train)
        for length, batch, train in ((16, 1, 2), (768, 8, 7))
    )
    assert (one.ids == other.ids).all()
    assert (one.labels == other.labels).all()


def altered(data, systems):
    """The same file with other series in these places."""
    marked = data.trajectories.copy()
    marked[systems] = np.linspace(0, 1, 100)[:, None] * (1 + np.array(systems))[:, None, None]  # nothing like noise
    return Dataset(data.path, data.time, marked)


@pytest.mark.parametrize("scaling", ["series", "global"])
@pytest.mark.parametrize(
    ("params", "train", "validation"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6], [7]),
        ({"validation_systems": 3}, [0, 1, 2, 3, 4], [5, 6, 7]),
        ({"validation_systems": 3, "train_systems": 2}, [0, 1], [5, 6, 7]),
        ({"validation_systems": 0}, [0, 1, 2, 3, 4, 5, 6, 7], [8, 9]),
    ],
)
def test_training_validation_and_scores_share_no_system(data, params, train, validation, scaling):
    """Windows change with the series that they are of, and with no other; the scale of all is the training ones'."""
    trained, validated = (windows_of(make, data, scaling=scaling, **params) for make in MAKERS)
    elsewhere = altered(data, [system for system in range(10) if system not in train])
    assert (windows_of(training_windows, elsewhere, scaling=scaling, **params).ids == trained.ids).all()
    elsewhere = altered(data, [system for system in range(10) if system not in (*train, *validation)])
    assert (windows_of(validation_windows, elsewhere, scaling=scaling, **params).ids == validated.ids).all()
    if scaling == "series":
        elsewhere = altered(data, [system for system in range(10) if system not in validation])
        assert (windows_of(validation_windows, elsewhere, scaling=scaling, **params).ids == validated.ids).all()
    assert len(validated) == len(validation)
    for make, systems, made in zip(MAKERS, (train, validation), (trained, validated), strict=True):
        for system in systems:
            changed = windows_of(make, altered(data, [system]), scaling=scaling, **params)
            assert changed.ids.shape != made.ids.shape or (changed.ids != made.ids).any(), system


MAKERS = (training_windows, validation_windows)


def test_the_horizon_does_not_move_the_scale_of_its_history(data):
    grown = data.trajectories.copy()
    grown[:, 80:] *= 5
    changed = Dataset(data.path, data.time, grown)
    one, other = windows_of(validation_windows, data), windows_of(validation_windows, changed)
    assert (one.ids[:, :800] == other.ids[:, :800]).all()
    assert (one.ids[:, 800:1000] != other.ids[:, 800:1000]).any()


def test_a_limit_takes_the_first_validation_systems(data):
    whole = windows_of(validation_windows, data, validation_systems=3)
    first = windows_of(validation_windows, data, validation_systems=3, validation_limit=1)
    assert (first.ids == whole.ids[:1]).all()


def test_an_epoch_has_every_window_once_and_the_next_is_another_order():
    order = WindowOrder(windows=7, batch=3, seed=1)
    drawn = np.concatenate([order.next() for _ in range(14)]).reshape(6, 7)
    assert (np.sort(drawn, axis=1) == np.arange(7)).all()
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[0] != WindowOrder(7, 7, seed=2).next()).any()


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_an_order_goes_on_where_it_was(after):
    order = WindowOrder(windows=7, batch=3, seed=1)
    for _ in range(after):
        order.next()
    other = WindowOrder(windows=7, batch=3, seed=1)
    other.restore(order.state())
    assert [order.next().tolist() for _ in range(5)] == [other.next().tolist() for _ in range(5)]


@pytest.mark.parametrize("key", ["windows", "batch", "seed"])
def test_a_position_in_another_order_is_refused(key):
    order = WindowOrder(windows=7, batch=3, seed=1)
    with pytest.raises(LvjobsError, match=key):
        order.restore(order.state() | {key: 99})


@pytest.mark.parametrize(
    ("lengths", "length"), [((30, 7, 25), 20), ((20, 20), 20), ((5, 5), 20), ((41,), 20), ((1, 1, 1), 2)]
)
def test_packed_windows_are_full_and_keep_every_token_once(lengths, length):
    rows = [np.arange(100 * index, 100 * index + size) for index, size in enumerate(lengths, start=1)]
    windows = pack(rows, length, PAD)
    assert windows.attention.sum(axis=1)[:-1].tolist() == [length] * (len(windows) - 1)
    real = windows.attention == 1
    assert windows.ids[real].tolist() == np.concatenate(rows).tolist()
    places, ids = windows.positions, windows.ids
    assert (places[:, 0] == 0).all()
    goes_on = (ids[:, 1:] == ids[:, :-1] + 1) & real[:, 1:]
    assert (places[:, 1:] == np.where(goes_on, places[:, :-1] + 1, 0)).all()
    assert (windows.labels == np.where(real & (places > 0), ids, IGNORED)).all()


@pytest.fixture(scope="module")
def tiny():
    return models.load_base(TrainingConfig(data="unused"))[0].eval()


@torch.no_grad()
def test_packed_series_do_not_see_one_another(tiny):
    """The loss of the packed is the sum of those of the single ones; without the positions it is not."""
    rng = np.random.default_rng(0)
    rows = [TABLE.encode("".join(rng.choice(list("0123456789"), size))) for size in (30, 7, 25, 18)]
    windows = pack(rows, 50, PAD)
    found, count = loss_of(tiny, windows)
    pieces = [rows[0], rows[1], rows[2][:13], rows[2][13:], rows[3]]
    alone = [loss_of(tiny, chunks([piece], 50, PAD)) for piece in pieces]
    assert count == sum(single for _, single in alone) == sum(len(piece) - 1 for piece in pieces)
    assert float(found) == pytest.approx(sum(float(loss) for loss, _ in alone), rel=1e-5)
    blind = type(windows)(windows.ids, windows.attention, windows.labels)
    assert float(loss_of(tiny, blind)[0]) != pytest.approx(float(found), rel=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("make", [lambda rows: chunks(rows, 60, PAD), lambda rows: pack(rows, 60, PAD)])
def test_padding_is_not_trained_on(tiny, make):
    """Neither the padding's content nor its length changes the loss nor the count of tokens."""
    rows = [TABLE.encode("1.25,3.75;" * 4), TABLE.encode("0.50,")]
    windows = make(rows)
    assert (windows.attention == 0).any()
    spoilt = type(windows)(
        np.where(windows.attention == 1, windows.ids, 9), windows.attention, windows.labels, windows.positions
    )
    (loss, count), (other, same) = loss_of(tiny, windows), loss_of(tiny, spoilt)
    assert count == same == 39 + 4
    assert float(loss) == float(other)


def test_packing_keeps_the_overlapping_chunks(data):
    packed, plain = windows_of(training_windows, data, packing=True), windows_of(training_windows, data)
    assert packed.ids.shape[1] == 512
    assert packed.attention.sum() == plain.attention.sum()
    series = [
        TABLE.encode(text) for text in Codec().encode(data.trajectories[:7], Codec().fit(data.trajectories[:7, :80]))
    ]
    assert packed.ids[packed.attention == 1].tolist() == np.concatenate(cut(series, 512)).tolist()
    with pytest.raises(ValidationError, match="packing cuts series anywhere"):
        TrainingConfig(data="x", packing=True, format="instruct")


# Instructions


def asking(horizon):
    """A prompt of nine tokens that names its horizon."""
    return Prompt(np.array([1, 1, 1, horizon]), np.array([1, 1, 1, 1]), np.array([2]))


@pytest.mark.parametrize("length", [60, 128, 512, 2000])
def test_examples_are_questions_and_answers_of_whole_steps(data, length):
    windows = windows_of(training_windows, data, asking, format="instruct", context_length=length)
    assert windows.ids.shape[1] <= length
    texts = Codec().encode(data.trajectories[:7], Codec().fit(data.trajectories[:7, :80]))
    seen = {}
    for row, real in enumerate(windows.attention == 1):
        ids, labels = windows.ids[row][real], windows.labels[row][real]
        learnt = labels != IGNORED
        assert (labels[learnt] == ids[learnt]).all()
        (first,) = np.flatnonzero(np.diff(learnt.astype(int), prepend=0) == 1)  # one run, at the end
        assert learnt[first:].all()
        question, answer = text_of(ids[4 : first - 4]), text_of(ids[first:-1])
        assert (ids[:3].tolist(), ids[first - 4 : first].tolist(), ids[-1]) == ([1, 1, 1], [1] * 4, 2)
        assert question.endswith(";")
        assert answer.endswith(";")
        steps = question.count(";") + answer.count(";")
        assert ids[3] == answer.count(";") == max(1, round(steps / 5))
        (index,) = [index for index, text in enumerate(texts) if question + answer in text]
        seen.setdefault(index, set()).update(
            range(start := texts[index].index(question + answer), start + len(question + answer))
        )
    assert all(seen[index] == set(range(len(text))) for index, text in enumerate(texts))


def test_an_instruction_that_leaves_no_room_is_an_error(data):
    with pytest.raises(UsageError, match=r"context_length = 28 leaves no room.*adds 9 tokens"):
        windows_of(training_windows, data, asking, format="instruct", context_length=28)


def test_validation_is_instructed_too_and_counts_the_same_tokens(data):
    plain = windows_of(validation_windows, data, validation_systems=2)
    asked = windows_of(validation_windows, data, asking, format="instruct", context_length=60, validation_systems=2)
    assert asked.ids.shape == (2, 1008)
    assert (asked.ids[:, 4:804] == plain.ids[:, :800]).all()
    assert (asked.ids[:, 808:] == plain.ids[:, 800:]).all()
    assert (asked.labels[:, :808] == IGNORED).all()
    assert (asked.labels[:, 808:] == plain.labels[:, 800:]).all()


# Scales and heads


def test_one_scale_for_all_is_that_of_the_histories_that_train(data):
    config = TrainingConfig(data="x", scaling="global", train_systems=4)
    scale = shared_scale(data, codec_of(config), config)
    changed = data.trajectories.copy()
    changed[4:] *= 7  # also those that validate
    changed[:, 80:] *= 7
    again = shared_scale(Dataset(data.path, data.time, changed), codec_of(config), config)
    assert (scale.unit == again.unit).all()
    assert shared_scale(data, Codec(), config) is None
    windows = windows_of(validation_windows, data, scaling="global", train_systems=4, validation_systems=0)
    (text, _) = codec_of(config).encode(data.trajectories[8:], scale)
    assert text_of(windows.ids[0][windows.attention[0] == 1]) == text


def test_the_codec_is_the_configurations():
    own = {"decimals": 3, "scale_target": 1, "scale_alpha": 0.95, "scale_beta": 0.2, "scaling": "global"}
    assert codec_of(TrainingConfig(data="x", **own, scale_power=0.5)) == Codec(3, 1.0, 0.95, 0.2, "global", 0.5)
    assert codec_of(TrainingConfig(data="x")) == Codec()


def test_labels_of_a_numeric_head_are_places_in_the_alphabet(data):
    windows = windows_of(validation_windows, data)
    numeric = numeric_labels(windows, TABLE)
    assert (numeric.ids == windows.ids).all()
    learnt = windows.labels != IGNORED
    assert (numeric.labels[~learnt] == IGNORED).all()
    assert "".join(ALPHABET[place] for place in numeric.labels[0][learnt[0]]) == text_of(windows.labels[0][learnt[0]])
    ended = windows_of(training_windows, data, asking, format="instruct")
    assert (numeric_labels(ended, TABLE).labels[ended.labels == 2] == IGNORED).all()
