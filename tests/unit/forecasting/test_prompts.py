"""The instruction around a series, in a model's own chat template."""

import re

import numpy as np
import pytest

from lvjobs.errors import LvjobsError
from lvjobs.forecasting import models
from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.tokens import RAW, SYSTEM, instruct, instruction, prompts_of
from lvjobs.study.params import TrainingConfig

pytestmark = pytest.mark.heavy

CODEC = Codec(decimals=3, target=1.0)


class Chatting:
    """A token a character; a template like Qwen2.5's, in which <s> and <e> are tokens."""

    chat_template = "is there"
    special = {"<s>": 1, "<e>": 2}  # noqa: RUF012

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert not tokenize
        text = "".join(f"<s>{message['role']}\n{message['content']}<e>\n" for message in messages)
        return text + "<s>assistant\n" * add_generation_prompt

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        parts = re.split("(<s>|<e>)", text)
        return [token for part in parts for token in ([self.special[part]] if part in self.special else map(ord, part))]

    def decode(self, ids):
        return "".join({1: "<s>", 2: "<e>"}.get(token) or chr(token) for token in ids)


def test_the_instruction_says_what_the_numbers_are():
    text = instruction(CODEC, 2, 20)
    for said in ("2 quantities", "3 decimals", "','", "';'", "next 20 steps", "nothing else"):
        assert said in text
    assert "','" not in instruction(CODEC, 1, 20)


def test_the_series_stands_in_the_users_message_and_the_answer_is_begun():
    tokenizer = Chatting()
    prompt = instruct(tokenizer, "some/model", CODEC, 2, 20)
    series = np.array([ord(character) for character in "1.000,2.000;"])
    text = tokenizer.decode(prompt.wrap(series).tolist())
    asked = instruction(CODEC, 2, 20)
    assert text == f"<s>system\n{SYSTEM}<e>\n<s>user\n{asked}\n\n1.000,2.000;<e>\n<s>assistant\n"
    assert prompt.end.tolist() == [2]
    assert prompt.length == len(prompt.wrap(series)) - len(series) + 1


def test_raw_is_the_series_alone():
    assert RAW.wrap(np.arange(3)).tolist() == [0, 1, 2]
    assert RAW.length == 0
    assert prompts_of("raw", None, "some/model", CODEC, 2)(20) is RAW


def test_a_prompt_is_made_once_for_each_horizon():
    prompts = prompts_of("instruct", Chatting(), "some/model", CODEC, 2)
    assert prompts(20) is prompts(20)
    assert prompts(5).before.tolist() != prompts(20).before.tolist()


@pytest.fixture(scope="module")
def tiny():
    return models.load_base(TrainingConfig(data="unused"))[1]


def test_tiny_cannot_be_instructed(tiny):
    with pytest.raises(LvjobsError, match=r"'tiny': its tokenizer has no chat template.*use \"raw\""):
        prompts_of("instruct", tiny, "tiny", Codec(), 2)


def test_nor_could_it_with_a_template_for_it_drops_words(tiny, monkeypatch):
    monkeypatch.setattr(tiny, "chat_template", "{% for m in messages %}{{ m.content }};{% endfor %}")
    with pytest.raises(LvjobsError, match="cannot write the instruction"):
        prompts_of("instruct", tiny, "tiny", Codec(), 2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("<<series>>", ""), "drops messages"),
        (lambda text: text.replace("<<answer>>", ""), "drops messages"),
        (lambda text: text.replace("assistant", "model") if "<<answer>>" in text else text, "otherwise than it trains"),
    ],
)
def test_a_template_that_does_not_serve_is_refused(spoil, message):
    class Spoilt(Chatting):
        def apply_chat_template(self, *args, **options):
            return spoil(super().apply_chat_template(*args, **options))

    with pytest.raises(LvjobsError, match=message):
        instruct(Spoilt(), "some/model", CODEC, 2, 20)
