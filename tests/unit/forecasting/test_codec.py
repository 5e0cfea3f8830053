"""Series to text and back; the tokenizer that keeps them apart."""

import re

import numpy as np
import pytest
from forecasting_helpers import error_bound
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import ALPHABET, Codec, Undecodable, Unwritable, powers

pytestmark = pytest.mark.heavy

magnitudes = st.integers(-100, 100).flatmap(
    lambda power: st.floats(-1, 1, allow_nan=False, allow_subnormal=False).map(lambda x: x * 10.0**power)
)
anything = st.floats(-1e100, 1e100, allow_nan=False)
shapes = st.tuples(st.integers(1, 4), st.integers(2, 30), st.integers(1, 4))
codecs = st.builds(
    Codec,
    decimals=st.integers(1, 6),
    target=st.sampled_from([1.0, 6.0, 60.0]),
    alpha=st.sampled_from([0.5, 0.95, 0.99, 1.0]),
    beta=st.sampled_from([0.0, 0.3, 2.0]),
    scaling=st.sampled_from(["series", "global"]),
)


def holds(codec, scale, x):
    texts = codec.encode(x, scale)
    assert set("".join(texts)) <= set(ALPHABET)
    assert (np.abs(codec.decode(texts, scale) - x) <= error_bound(codec, scale)[..., None, :]).all()
    assert (error_bound(codec, scale) <= (0.5 + 1.001e-6) * 10.0**-codec.decimals * scale.unit).all()


@settings(max_examples=300, deadline=None)
@given(shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=anything | magnitudes)), codecs)
def test_any_series_is_read_back_within_half_a_unit_of_the_last_decimal(x, codec):
    holds(codec, codec.fit(x), x)


@settings(max_examples=150, deadline=None)
@given(
    shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(1e-9, 1e9))),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.integers(1, 6),
)
def test_powers_are_read_back_within_half_a_unit_of_the_last_decimal(x, power, decimals):
    codec = Codec(decimals, power=power)
    scale = codec.fit(x)
    made = codec.decode(codec.encode(x, scale), scale)
    assert (made >= 0).all()
    error = np.abs(powers(made, power) - powers(x, power))
    assert (error <= (0.5 + 1e-5) * 10.0**-decimals * scale.unit[..., None, :]).all()


def test_small_values_beside_large_ones_keep_their_digits_in_powers():
    x = np.geomspace(1e-4, 1, 80).reshape(1, 80, 1)
    codecs = Codec(), Codec(power=0.5), Codec(power=0)
    least = [np.abs(codec.decode(codec.encode(x, codec.fit(x)), codec.fit(x)) / x - 1)[0, 0, 0] for codec in codecs]
    assert least[0] > 3 * least[1] > 3 * least[2]
    assert least[2] < 0.01


@pytest.mark.parametrize(("power", "value"), [(0.5, -0.25), (0.0, 0.0), (0.0, -1.0)])
def test_a_value_without_a_power_is_refused(power, value):
    x = np.full((2, 5, 2), 2.0) + np.arange(5)[None, :, None]
    x[1, 3, 0] = value
    words = "has no power of 0.5" if power else "has no logarithm"
    with pytest.raises(Unwritable, match=rf"the history at \[1, 3, 0\] {words}.*scale_power = 1"):
        Codec(power=power).fit(x)
    scale = Codec(power=power).fit(x[:, :3])
    with pytest.raises(Unwritable, match=f"series 1, step 3, variable 0: {value:g} is no number, {words}"):
        Codec(power=power).encode(x, scale)


@settings(max_examples=150, deadline=None)
@given(st.data(), magnitudes, st.integers(-18, 3), codecs)
def test_also_a_tiny_range_beside_a_huge_level(data, level, power, codec):
    """1e15, 1e15 + 1: doubles cannot resolve a thousandth of that width."""
    noise = data.draw(arrays(np.float64, data.draw(shapes), elements=st.floats(-1, 1, width=32)))
    x = level + noise * abs(level) * 10.0**power
    holds(codec, codec.fit(x), x)


@settings(max_examples=150, deadline=None)
@given(shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=magnitudes)), codecs, anything | magnitudes)
def test_what_leaves_its_history_is_read_back_or_refused(x, codec, later):
    scale = codec.fit(x)
    future = np.full((len(x), 1, x.shape[2]), later)
    written = True
    try:
        holds(codec, scale, future)
    except Unwritable:
        written = False
    distance = np.abs(future - scale.offset[..., None, :]) + np.abs(scale.offset)[..., None, :]
    assert written or (distance / scale.unit[..., None, :]).max() > 1e8 * 10.0**-codec.decimals


@pytest.mark.parametrize(("decimals", "target", "far"), [(2, 6.0, 1e6), (3, 1.0, 1e6), (6, 1.0, 1000)])
def test_a_value_a_million_widths_away_can_still_be_written(decimals, target, far):
    codec = Codec(decimals=decimals, target=target)
    x = np.array([[[0.0], [1.0], [0.5]]])
    holds(codec, codec.fit(x), x + far)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e100])
def test_what_cannot_be_written_is_named(bad):
    codec = Codec()
    x = np.random.default_rng(0).random((3, 10, 2))
    scale = codec.fit(x)
    x[1, 7, 1] = bad
    with pytest.raises(
        Unwritable, match=r"^series 1, step 7, variable 1: .*; drop the series, or write fewer decimals$"
    ):
        codec.encode(x, scale)
    with pytest.raises(Unwritable, match=r"\[1, 7, 1\] cannot be written with 2 decimals"):
        codec.write(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e301])
def test_a_history_that_is_not_finite_is_named(bad):
    x = np.ones((3, 10, 2))
    x[1, 7, 1] = bad
    with pytest.raises(Unwritable, match=r"\[1, 7, 1\]: repair it"):
        Codec().fit(x)


@pytest.mark.parametrize("wrong", [{"decimals": 0}, {"decimals": 10}, {"alpha": 1.1}, {"beta": -1}, {"target": 0}])
def test_absurd_settings_are_refused(wrong):
    with pytest.raises(LvjobsError, match="decimals are 1 to 9"):
        Codec(**wrong)


def test_the_default_is_what_tiny_was_pretrained_on():
    assert Codec() == Codec(decimals=2, target=6.0, alpha=0.99, beta=0.3, scaling="series")


@settings(max_examples=100, deadline=None)
@given(
    shapes.flatmap(lambda s: arrays(np.float64, s, elements=st.floats(-1e6, 1e6) | st.floats(-1, 10))),
    st.integers(1, 6),
)
def test_thousands_at_a_time_are_written_as_one_by_one(scaled, decimals):
    step = ",".join([f"%.{decimals}f"] * scaled.shape[2]) + ";"
    plain = [step * len(one) % tuple((np.round(one, decimals) + 0.0).ravel()) for one in scaled]
    assert Codec(decimals=decimals).write(scaled) == plain


def test_one_scale_for_all_is_that_of_all_histories():
    codec = Codec(scaling="global")
    x = np.random.default_rng(0).random((5, 30, 2)) * np.arange(1, 6)[:, None, None]
    scale = codec.fit(x)
    one = Codec().fit(x.reshape(1, -1, 2))
    assert scale.offset.shape == (2,)
    assert (scale.offset == one.offset[0]).all()
    assert (scale.unit == one.unit[0]).all()
    holds(codec, scale, x)


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


@pytest.mark.parametrize("peak", [1e-5, 1.0, 9e9])
def test_a_lone_peak_over_nothing_is_scaled_by_its_height(peak):
    """Without beta the quantile of what lies above the minimum may be zero."""
    codec = Codec(decimals=6, target=1.0, alpha=0.5, beta=0.0)
    x = np.array([[[0.0], [0.0], [peak]]])
    assert codec.encode(x, codec.fit(x)) == ["0.000000;0.000000;1.000000;"]
    holds(codec, codec.fit(x), x)


@pytest.mark.parametrize("level", [0.0, 3.0, -3.0, 1e-30])
def test_a_constant_history_can_be_written(level):
    codec = Codec()
    x = np.full((1, 10, 2), level)
    scale = codec.fit(x)
    assert codec.encode(x, scale) == ["0.00,0.00;" * 10]
    assert codec.decode(codec.encode(x, scale), scale) == pytest.approx(x)


def test_no_negative_zero():
    assert Codec().write(np.array([[[-0.001, -0.0]]])) == ["0.00,0.00;"]


@pytest.mark.parametrize(
    "text",
    [
        "1.00,2.00;3.00",
        "1.0x,2.00",
        "",
        "1.00,2.00,3.00;",
        "1.0,2.00",
        "1e5,2.00",
        "nan,1.00",
        "1.00, 2.00",
        ".10,2.00",
        "1.00,2.00;;",
        "1.00;2.00",
        "1_0.00,2.00",
        "+1.00,2.00",
        "1.00,2.00\n",
        f"{'9' * 400}.00,1.00",
    ],
)
def test_what_is_no_series_is_refused(text):
    with pytest.raises(Undecodable):
        Codec().parse(text, 2)


def test_texts_of_different_lengths_are_not_cut_to_the_shortest():
    codec = Codec()
    scale = codec.fit(np.ones((2, 5, 1)))
    with pytest.raises(Undecodable, match="1 to 2 steps"):
        codec.decode(["1.00;2.00;", "1.00;"], scale)
