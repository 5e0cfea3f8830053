"""Tokenizers: `tiny`'s, and which others may be used."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import ALPHABET, Codec
from lvjobs.forecasting.tokens import Characters

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def tokenizer():
    from lvjobs.forecasting.models import load_base
    from lvjobs.study.params import TrainingConfig

    return load_base(TrainingConfig(data="unused"))[1]


@settings(max_examples=100, deadline=None)
@given(st.text(ALPHABET + " ", min_size=1, max_size=60))
def test_tiny_never_merges_and_never_adds(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_the_table_reads_as_the_tokenizer_does(tokenizer):
    codec = Codec()
    table = Characters(tokenizer, "tiny", codec)
    text = codec.write(np.random.default_rng(0).normal(scale=9, size=(1, 50, 2)))[0]
    assert table.encode(text).tolist() == tokenizer.encode(text)
    assert tokenizer.decode(table.encode(text)) == text


class Merging:
    """A token a character, and one for the text that it merges."""

    def __init__(self, *merges):
        self.merges = merges

    def encode(self, text, add_special_tokens):
        for index, merge in enumerate(self.merges):
            text = text.replace(merge, chr(index + 1))
        return [ord(character) for character in text]


PAIRS = [a + b for a in ALPHABET for b in ALPHABET if not {a, b} & set("-")]
POSSIBLE = [
    pair
    for pair in PAIRS
    if sum(character.isdigit() for character in pair) == 2 or (pair[0].isdigit() != pair[1].isdigit())
]


@pytest.mark.parametrize("pair", POSSIBLE)
def test_a_merge_of_any_pair_that_can_be_written_is_refused_by_name(pair):
    """Every digit beside every digit, every digit beside every point and separator, on either side."""
    with pytest.raises(LvjobsError, match="merges digits or separators") as caught:
        Characters(Merging(pair), "some/model", Codec())
    assert f"({pair!r})" in str(caught.value)


@pytest.mark.parametrize("pair", [*sorted(set(PAIRS) - set(POSSIBLE)), "--", ".-", "-.", "-,", "; ", ";\n", " ,"])
def test_a_merge_of_a_pair_that_is_never_written_does_no_harm(pair):
    assert Characters(Merging(pair), "some/model", Codec()).split == ()


def test_signs_are_written_apart_from_separators():
    """Qwen2.5's own tokenizer has tokens for these two pairs, and is the study's model."""
    table = Characters(Merging(",-", ";-"), "some/model", Codec())
    assert table.split == (",-", ";-")
    assert table.encode("1.00,-2.00;").tolist() == [ord(character) for character in "1.00,-2.00;"]


def test_a_merge_that_shows_in_long_texts_only_is_refused():
    with pytest.raises(LvjobsError, match=r"merges digits or separators in '0\.00"):
        Characters(Merging("12;"), "some/model", Codec())


@pytest.mark.parametrize("tokens", [[], [1, 2]])
def test_a_character_without_a_token_of_its_own_is_named(tokens):
    class Lacking(Merging):
        def encode(self, text, add_special_tokens):
            return tokens if text == ";" else super().encode(text, add_special_tokens)

    with pytest.raises(LvjobsError, match="no single token for ';'"):
        Characters(Lacking(), "some/model", Codec())


def test_one_token_for_all_that_is_unknown_is_refused():
    class Unknown(Merging):
        def encode(self, text, add_special_tokens):
            return [7 if character in ".;" else ord(character) for character in text]

    with pytest.raises(LvjobsError, match="one token for several"):
        Characters(Unknown(), "some/model", Codec())
