"""Series to text and back; the tokenizer that keeps them apart."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import ALPHABET, Codec, Undecodable

values = st.floats(-1e6, 1e6, allow_nan=False, width=32)
series = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 30), st.integers(1, 4)), elements=values)


@settings(max_examples=80, deadline=None)
@given(series, st.integers(1, 6), st.sampled_from([1.0, 6.0, 60.0]), st.data())
def test_a_round_trip_is_within_half_a_unit_of_the_last_decimal(x, decimals, target, data):
    codec = Codec(decimals=decimals, target=target)
    scale = codec.fit(x[:, : data.draw(st.integers(1, x.shape[1]))])
    texts = codec.encode(x, scale)
    assert set("".join(texts)) <= set(ALPHABET)
    error = np.abs(codec.decode(texts, scale) - x) / scale.unit[:, None, :]
    written = np.abs(x - scale.offset[:, None, :]) / scale.unit[:, None, :]
    # half a unit, and what a double itself cannot hold of numbers that leave the history's range a million times
    bound = (0.5 + 1e-6) * 10.0**-decimals + 1e-15 * (written + np.abs(scale.offset / scale.unit)[:, None, :])
    assert (error <= bound).all()


def test_steps_are_ten_tokens_and_separated_as_llmtime_does():
    codec = Codec()
    x = np.linspace(1, 2, 160).reshape(1, 80, 2)
    (text,) = codec.encode(x, codec.fit(x))
    assert re.fullmatch(r"(\d\.\d\d,\d\.\d\d;){80}", text)


def test_the_future_does_not_move_the_scale():
    codec = Codec()
    past = np.random.default_rng(0).random((1, 80, 2))
    future = np.concatenate([past, past[:, :20] * 50], axis=1)
    (short,), (long,) = codec.encode(past, codec.fit(past)), codec.encode(future, codec.fit(future[:, :80]))
    assert long.startswith(short)


def test_the_histories_quantile_is_written_as_the_target():
    x = np.random.default_rng(0).normal(size=(3, 80, 2))
    written = Codec().fit(x).apply(x)
    assert np.quantile(written, 0.99, axis=1) == pytest.approx(np.full((3, 2), 6.0))


@pytest.mark.parametrize("level", [0.0, 3.0, -3.0, 1e-30])
def test_a_constant_history_can_be_written(level):
    codec = Codec()
    x = np.full((1, 10, 2), level)
    scale = codec.fit(x)
    assert codec.encode(x, scale) == ["0.00,0.00;" * 10]
    assert codec.decode(codec.encode(x, scale), scale) == pytest.approx(x)


def test_no_negative_zero():
    assert Codec().format(np.array([[-0.001, -0.0]])) == "0.00,0.00;"


@pytest.mark.parametrize("text", ["1.00,2.00;3.00", "1.0x,2.00", "", "1.00,2.00,3.00;"])
def test_what_is_no_series_is_refused(text):
    with pytest.raises(Undecodable):
        Codec().parse(text, 2)


@pytest.fixture(scope="module")
def tokenizer():
    from lvjobs.forecasting.models import load_base
    from lvjobs.study.training import TrainingConfig

    return load_base(TrainingConfig(data="unused"))[1]


@settings(max_examples=100, deadline=None)
@given(st.text(ALPHABET + " ", min_size=1, max_size=60))
def test_tiny_never_merges_and_never_adds(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_the_table_reads_as_the_tokenizer_does(tokenizer):
    from lvjobs.forecasting.tokenizer import Characters

    codec = Codec()
    table = Characters(tokenizer, "tiny", codec)
    text = codec.format(np.random.default_rng(0).normal(scale=9, size=(50, 2)))
    assert table.encode(text).tolist() == tokenizer.encode(text)
    assert table.decode(table.encode(text)) == text
    assert table.decode(np.array([0])) == "?"


@pytest.mark.parametrize(("merge", "message"), [("12", "merges"), (None, "no single token")])
def test_a_tokenizer_that_merges_digits_is_refused(merge, message):
    from lvjobs.forecasting.tokenizer import Characters

    class Merging:
        def encode(self, text, add_special_tokens):
            if merge is None:
                return [1, 2]
            return [ord(character) for character in text.replace(merge, "\x01")]

    with pytest.raises(LvjobsError, match=message):
        Characters(Merging(), "some/model", Codec())
