"""Forecasts that always parse, whatever the model says, and that do not hang on what they are batched with."""

import contextlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from forecasting_helpers import Perfect, Persistence, Scripted, Table, error_bound, one_thread
from hypothesis import given, settings
from hypothesis import strategies as st

from lvjobs.errors import LvjobsError
from lvjobs.forecasting import models
from lvjobs.forecasting.codec import ALPHABET, Codec
from lvjobs.forecasting.data import draw_systems, sample_times, solve
from lvjobs.forecasting.decode import Decoding, _Reader, sample
from lvjobs.forecasting.grammar import START, Grammar, Sampling, grammars
from lvjobs.forecasting.head import has_numeric_head, numeric_head
from lvjobs.forecasting.likelihood import negative_log_likelihood
from lvjobs.forecasting.tokens import Characters, Prompt
from lvjobs.study.params import TrainingConfig

__all__ = ["one_thread"]  # a fixture
pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

CODEC = Codec()


def forecast(*arguments, **more):
    """The one greedy forecast of each series."""
    return sample(*arguments, **more)[0]


def accepts(grammar, text, steps):
    """Return whether the text is exactly `steps` steps of the grammar's layout."""
    state, values = START, 0
    for character in text:
        place = ALPHABET.find(character)
        if place < 0 or values == steps * grammar.variables or (state := int(grammar.next[state, place])) < 0:
            return False
        values += int(grammar.ends[place])
    return values == steps * grammar.variables


TABLE = Characters(Table(), "test", CODEC)
WIDE = Decoding(digits=4, signed=True)


@pytest.fixture(scope="module")
def tiny():
    return models.load_base(TrainingConfig(data="unused"))[0]


@pytest.fixture(scope="module")
def series():
    return solve(draw_systems(7, 5), sample_times())


def noisy(series=5, steps=30, variables=2, seed=0):
    return np.random.default_rng(seed).normal(size=(series, steps, variables)) * 3


# The grammar


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(1, 5), st.randoms())
def test_whatever_the_grammar_allows_parses_and_is_as_the_codec_writes(
    decimals, variables, digits, signed, steps, random
):
    grammar = Grammar(decimals, variables, digits, signed)
    state, text, values = START, "", 0
    while values < steps * variables:
        place = random.choice(np.flatnonzero(grammar.allowed[state]).tolist())
        text += ALPHABET[place]
        values += grammar.ends[place]
        state = int(grammar.next[state, place])
    assert state == START
    assert accepts(grammar, text, steps)
    assert len(text) <= grammar.longest(steps)
    codec = Codec(decimals=decimals)
    numbers = codec.parse(text, variables)
    assert numbers.shape == (steps, variables)
    assert codec.write(numbers[None])[0] == text.replace(f"-0.{'0' * decimals}", f"0.{'0' * decimals}")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.floats(0.1, 1e4), st.integers(0, 2**32))
def test_whatever_the_codec_writes_the_grammar_allows(decimals, variables, size, seed):
    codec = Codec(decimals=decimals)
    scaled = np.random.default_rng(seed).normal(size=(3, 7, variables)) * size
    for text, grammar in zip(codec.write(scaled), grammars(codec, scaled), strict=True):
        assert accepts(grammar, text, 7)
        assert set(map("".join, pairwise(text))) <= set(grammar.pairs())


@pytest.mark.parametrize(
    "text",
    [
        "1.23,4.56",
        "1.23,4.56;1",
        "1.2,4.56;",
        "1.23;4.56;",
        "-1.23,4.56;",
        "12.30,4.56;",
        "1.23,4.56,",
        ".23,4.56;",
        "1.23,4.56x",
    ],
)
def test_what_is_no_series_is_not_accepted(text):
    grammar = Grammar(2, 2)
    assert accepts(grammar, "1.23,4.56;", 1)
    assert not accepts(grammar, text, 1)


def test_leading_zeros_are_not_written():
    assert not accepts(Grammar(2, 1, digits=3), "01.00;", 1)
    assert accepts(Grammar(2, 1, digits=3), "100.00;0.00;", 2)


def test_a_grammar_is_as_wide_as_the_history():
    scaled = np.array([[[1.0, 9.994]], [[1.0, 9.996]], [[-0.001, 2.0]], [[-0.2, 123.0]]])
    found = [(grammar.digits, grammar.signed) for grammar in grammars(CODEC, scaled)]
    assert found == [(1, False), (2, False), (1, False), (3, True)]
    assert grammars(CODEC, scaled, digits=2, signed=True)[0] == Grammar(2, 2, 2, True)
    same = grammars(CODEC, scaled)
    assert same[0] is same[2]


# A perfect model, a persistence model


@pytest.mark.parametrize("codec", [CODEC, Codec(decimals=3, target=1.0)])
@pytest.mark.parametrize("batch", [1, 2, 50])
@pytest.mark.parametrize("variables", [1, 2, 3])
def test_a_perfect_model_is_wrong_by_the_codecs_rounding_alone(codec, batch, variables):
    """Also where values gain digits or signs, and each of the other series has a length of its own."""
    whole = noisy(variables=variables)
    whole[0, 20:] *= 40
    history, truth = whole[:, :20], whole[:, 20:]
    scale = codec.fit(history)
    model = Perfect(TABLE, codec.encode(whole, scale))
    found = forecast(model, TABLE, codec, history, 10, decoding=Decoding(batch=batch, digits=4, signed=True))
    assert (found == codec.decode(codec.encode(truth, scale), scale)).all()
    error = np.abs(found - truth)
    assert error.max() > 0
    assert (error <= error_bound(codec, scale)[:, None, :]).all()


def test_a_perfect_model_within_one_digit_needs_a_call_a_digit_and_no_more():
    """The fast path: 3 digits a value, and every point and separator fed with the next of them."""
    whole = np.abs(noisy(4))
    history, truth = whole[:, :20], whole[:, 20:].clip(max=whole[:, :20].max(axis=1, keepdims=True))
    scale = CODEC.fit(history)
    model = Perfect(TABLE, CODEC.encode(np.concatenate([history, truth], axis=1), scale))
    found = forecast(model, TABLE, CODEC, history, 10)
    assert (found == CODEC.decode(CODEC.encode(truth, scale), scale)).all()
    assert len(model.calls) == 10 * 2 * 3
    assert {shape[1] for shape in model.calls[1:]} == {1, 2}


@pytest.mark.parametrize("decoding", [Decoding(), WIDE, Decoding(batch=2)])
def test_a_persistence_model_is_persistence(decoding):
    """Its favourite stands out by a hair, and it repeats itself for ever: a penalty on repetition would show."""
    history = noisy(steps=80)
    history[2, 5] = 600.0
    scale = CODEC.fit(history)
    assert [len(text) for text in CODEC.encode(history, scale)] == [800, 800, 802, 800, 800]
    found = forecast(Persistence(TABLE, 80, margin=1e-3), TABLE, CODEC, history, 12, decoding=decoding)
    last = CODEC.decode(CODEC.encode(history[:, -1:], scale), scale)
    assert (found == np.repeat(last, 12, axis=1)).all()


def test_samples_of_a_sure_model_are_all_the_same():
    history = noisy()
    model = Persistence(TABLE, 30, margin=200.0)
    found = sample(model, TABLE, CODEC, history, 4, Sampling(samples=3), decoding=WIDE)
    assert found.shape == (3, 5, 4, 2)
    assert (found == forecast(model, TABLE, CODEC, history, 4, decoding=WIDE)).all()


@pytest.mark.parametrize("samples", [1, 4])
def test_samples_share_one_pass_over_the_prompt_as_they_are_charged(samples):
    """The model gets the tokens that `flops.workload.generation` counts, but for two tokens that it need not feed."""
    history, horizon, new = noisy(series=9), 4, 40
    texts = CODEC.encode(history, CODEC.fit(history))
    model = Persistence(TABLE, 30, margin=200.0)
    if samples == 1:
        forecast(model, TABLE, CODEC, history, horizon)
    else:
        sample(model, TABLE, CODEC, history, horizon, Sampling(samples=samples))
    longest = max(columns for _, columns in model.calls[1:] if columns < 9)
    prompts = sum(rows * columns for rows, columns in model.calls if columns > longest)
    assert prompts == sum(map(len, texts))
    fed = sum(rows * columns for rows, columns in model.calls if columns <= longest)
    assert fed == samples * len(history) * (new - 2)


# Any model


class Mad(Scripted):
    """Logits of pure noise over the whole vocabulary, which depend on what was read alone."""

    def forward(
        self, input_ids, past_key_values=None, use_cache=None, logits_to_keep=0, attention_mask=None, position_ids=None
    ):
        rows = [hash(tuple(row)) % 2**32 for row in input_ids.tolist()]
        noise = np.stack(
            [np.random.default_rng([row, len(self.calls)]).normal(size=self.config.vocab_size) for row in rows]
        )
        self.calls.append(tuple(input_ids.shape))
        cache = past_key_values
        return type("Output", (), {"logits": torch.from_numpy(noise * 5)[:, None].float(), "cache": cache})


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.integers(1, 9), st.integers(0, 99))
def test_every_forecast_of_any_model_is_whole(decimals, variables, digits, signed, horizon, seed):
    codec = Codec(decimals=decimals)
    history = noisy(3, 9, variables, seed)
    decoding = Decoding(digits=digits, signed=signed)
    found = forecast(Mad(TABLE), TABLE, codec, history, horizon, decoding=decoding)
    assert found.shape == (3, horizon, variables)
    assert np.isfinite(found).all()
    drawn = sample(Mad(TABLE), TABLE, codec, history, horizon, Sampling(samples=2, seed=seed), decoding=decoding)
    assert drawn.shape == (2, 3, horizon, variables)
    assert np.isfinite(drawn).all()


def test_a_model_that_gives_no_numbers_is_an_error():
    class Broken(Mad):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            output.logits[0, 0, 3] = torch.nan
            return output

    with pytest.raises(LvjobsError, match="not finite"):
        forecast(Broken(TABLE), TABLE, CODEC, noisy(), 2)


# On `tiny`


@pytest.fixture(scope="module")
def mixed(series):
    """Histories of two lengths and layouts."""
    history = series[:, :60].copy()
    history[1::3, 10, 0] += 60  # one in a hundred values lies above the quantile: as far as it likes
    assert len({len(text) for text in CODEC.encode(history, CODEC.fit(history))}) > 1
    return history


def test_a_greedy_forecast_does_not_hang_on_its_batch(tiny, mixed):
    together = forecast(tiny, TABLE, CODEC, mixed, 3)
    alone = np.concatenate([forecast(tiny, TABLE, CODEC, mixed[[row]], 3) for row in range(len(mixed))])
    assert (together == alone).all()
    assert (together == forecast(tiny, TABLE, CODEC, mixed, 3, decoding=Decoding(batch=2))).all()
    assert (together == forecast(tiny, TABLE, CODEC, mixed[::-1], 3)[::-1]).all()


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("head", ["full", "numeric"])
def test_logits_are_the_same_bits_for_any_number_of_rows(tiny, head, samples):
    prompts = [TABLE.encode(text) for text in CODEC.write(np.random.default_rng(0).random((9, 12, 2)) * 9)]
    more = np.random.default_rng(1).integers(0, 10, (9 * samples, 3))
    context = numeric_head(tiny, TABLE.alphabet) if head == "numeric" else contextlib.nullcontext()
    with torch.inference_mode(), context:
        together = _Reader(tiny, TABLE, prompts, 9)
        begun, read = together.begin(samples), together.read(more)
        for rows in range(1, 9):
            alone = _Reader(tiny, TABLE, prompts[:rows], 9)
            assert (alone.begin(samples) == begun[: rows * samples]).all(), rows
            assert (alone.read(more[: rows * samples]) == read[: rows * samples]).all(), rows


def test_samples_do_not_hang_on_the_batch_or_on_the_other_series(tiny, mixed):
    sampling = Sampling(samples=3, temperature=0.8, top_p=0.9, seed=4)
    together = sample(tiny, TABLE, CODEC, mixed, 2, sampling)
    for batch in (1, 6):
        assert (sample(tiny, TABLE, CODEC, mixed, 2, sampling, decoding=Decoding(batch=batch)) == together).all()
    part = sample(tiny, TABLE, CODEC, mixed[[5, 2]], 2, sampling, numbers=[5, 2])
    assert (part == together[:, [5, 2]]).all()
    assert (sample(tiny, TABLE, CODEC, mixed, 2, Sampling(3, 0.8, 0.9, seed=5)) != together).any()
    assert (together[0] != together[1]).any()


def test_the_numeric_head_chooses_the_same_and_is_given_back(tiny, mixed):
    head = tiny.get_output_embeddings()
    numeric = forecast(tiny, TABLE, CODEC, mixed, 3, decoding=Decoding(head="numeric"))
    assert (numeric == forecast(tiny, TABLE, CODEC, mixed, 3)).all()
    assert tiny.get_output_embeddings() is head
    with numeric_head(tiny, TABLE.alphabet):
        assert has_numeric_head(tiny, TABLE.alphabet)
        assert tiny(input_ids=torch.tensor([[3, 4]])).logits.shape == (1, 2, len(ALPHABET))
        assert (forecast(tiny, TABLE, CODEC, mixed, 3) == numeric).all()  # one that has it already


def test_a_head_that_has_an_adapter_has_no_rows_to_take(tiny):
    class Wrapped(torch.nn.Module):
        config = tiny.config

        def get_output_embeddings(self):
            return torch.nn.Sequential(tiny.get_output_embeddings())

    with pytest.raises(LvjobsError, match="plain linear head, not Sequential"):
        with numeric_head(Wrapped(), TABLE.alphabet):
            pass


# Sampling


def test_frequencies_are_the_models():
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05, 0.9]]))
    allowed = np.array([[True, True, True, True, False]])
    uniforms = (np.arange(1000) + 0.5) / 1000
    for sampling, expected in (
        (Sampling(), [0.5, 0.3, 0.15, 0.05, 0]),
        (Sampling(top_p=0.79), [0.625, 0.375, 0, 0, 0]),
        (Sampling(top_p=0.81), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0, 0]),
        (Sampling(top_p=1e-9), [1, 0, 0, 0, 0]),
        (Sampling(temperature=0.5), np.array([0.25, 0.09, 0.0225, 0.0025, 0]) / 0.365),
    ):
        assert sampling.chances(logits, allowed)[0] == pytest.approx(expected)
        drawn = sampling.choose(np.repeat(logits, 1000, 0), np.repeat(allowed, 1000, 0), uniforms)
        assert np.bincount(drawn, minlength=5) / 1000 == pytest.approx(expected, abs=2e-3)


def test_each_character_has_a_random_number_of_its_own():
    """A model without an opinion draws every digit equally often, and any two of a sample independently."""

    class Flat(Scripted):
        def follows(self, text):
            return "0"

    history = noisy(1)
    scale = CODEC.fit(history)
    drawn = sample(
        Flat(TABLE, margin=0.0), TABLE, CODEC, history, 10, Sampling(samples=50), decoding=Decoding(batch=99)
    )
    texts = [CODEC.write(scale.apply(sampled))[0] for sampled in drawn]
    digits = np.array([[int(character) for character in text if character.isdigit()] for text in texts])
    assert digits.shape == (50, 60)
    assert np.abs(np.bincount(digits.ravel()) / digits.size - 0.1).max() < 0.02
    pairs = np.bincount((10 * digits[:, :-1] + digits[:, 1:]).ravel(), minlength=100) / digits[:, 1:].size
    assert pairs.max() < 0.03


def test_the_ends_of_the_unit_interval_draw_what_is_allowed():
    allowed = np.array([[False, True, True, False]] * 2)
    drawn = Sampling().choose(np.zeros((2, 4)), allowed, np.array([0.0, np.nextafter(1.0, 0)]))
    assert drawn.tolist() == [1, 2]


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"top_p": 0}, {"top_p": 1.1}, {"samples": 0}, {"seed": -1}])
def test_absurd_sampling_is_refused(wrong):
    with pytest.raises(LvjobsError, match="above 0"):
        Sampling(**wrong)


# One scale for all, and prompts


def test_one_scale_for_all_must_be_given():
    codec = Codec(scaling="global")
    history = noisy()
    with pytest.raises(LvjobsError, match="must be given that scale"):
        forecast(Persistence(TABLE, 30), TABLE, codec, history, 2)
    scale = codec.fit(history)
    found = forecast(Persistence(TABLE, 30), TABLE, codec, history * 2, 2, scale=scale, decoding=WIDE)
    assert (found == codec.decode(codec.encode(history[:, [-1, -1]] * 2, scale), scale)).all()


def test_the_prompt_is_read_around_the_history():
    class Listens(Persistence):
        def follows(self, text):
            assert text.startswith("- ")
            return super().follows(text[2:].replace(" ", ""))

    prompt = Prompt(before=np.array([TABLE.ids[ord("-")], 17]), after=np.array([17, 17]))
    history = noisy()
    wrapped = Decoding(prompt=prompt)
    model = Listens(TABLE, 30)
    model.characters[17] = " "
    found = forecast(model, TABLE, CODEC, history, 3, decoding=wrapped)
    assert (found == forecast(Persistence(TABLE, 30), TABLE, CODEC, history, 3)).all()


# Likelihood


def test_likelihood_is_what_a_forward_pass_gives_token_by_token(tiny, mixed, series):
    truth = series[:, 60:63]
    found = negative_log_likelihood(tiny, TABLE, CODEC, mixed, truth, batch=3)
    assert found.shape == (7, 3)
    scale = CODEC.fit(mixed)
    asked, answers = CODEC.encode(mixed, scale), CODEC.encode(truth, scale)
    for row in (0, 1):
        ids = torch.from_numpy(TABLE.encode(asked[row] + answers[row]))
        with torch.inference_mode():
            chances = torch.log_softmax(tiny(input_ids=ids[None]).logits[0][:, TABLE.alphabet], -1)
        places = [ALPHABET.index(character) for character in answers[row]]
        nats = -chances[torch.arange(len(asked[row]) - 1, len(ids) - 1), places].numpy()
        lengths = np.cumsum([0] + [len(step) + 1 for step in answers[row].split(";")[:-1]])
        assert found[row] == pytest.approx([nats[a:b].sum() for a, b in pairwise(lengths)], rel=1e-4)


def test_likelihood_depends_neither_on_the_batch_nor_on_the_head(tiny, mixed, series):
    truth = series[:, 60:63]
    numeric = negative_log_likelihood(tiny, TABLE, CODEC, mixed, truth)
    assert numeric == pytest.approx(negative_log_likelihood(tiny, TABLE, CODEC, mixed, truth, batch=1), rel=1e-5)
    with numeric_head(tiny, TABLE.alphabet):
        assert negative_log_likelihood(tiny, TABLE, CODEC, mixed, truth) == pytest.approx(numeric)
