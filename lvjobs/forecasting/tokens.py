"""Token ids: the table of a series' characters, and the tokens around a series.

The tokens around a series are none (`raw`), or an instruction in the model's own chat template (`instruct`). The
published instruction is not known here. This one says what is needed: what the numbers are, how they are written, what
to answer. Series are written by the table of characters, never by the tokenizer, so that no merge affects them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import ALPHABET, STEP_SEPARATOR, VALUE_SEPARATOR, Codec
from lvjobs.forecasting.grammar import SIGN, Grammar


class Characters:
    """A table between text and token ids, for a tokenizer that gives every character of a series its own token.

    Signs may be merged, unlike digits and separators: Qwen2.5's own tokenizer has tokens for `,-` and `;-`. Values
    below the offset are rare (none in any history that is scaled by itself), and the table writes the two characters
    apart, in training as in decoding. `split` names the pairs that the tokenizer would merge.
    """

    def __init__(self, tokenizer: Any, name: str, codec: Codec) -> None:
        """Make the table, and check the tokenizer on every pair of characters that `codec` can write.

        Raises:
            LvjobsError: the tokenizer has no single token for a character, merges two, or adds tokens, so that a table
                would not read as it does.
        """
        self.ids = np.full(128, -1, dtype=np.int64)
        for character in ALPHABET:
            tokens = tokenizer.encode(character, add_special_tokens=False)
            if len(tokens) != 1:
                raise LvjobsError(
                    f"model {name!r}: its tokenizer has no single token for {character!r}", "choose another"
                )
            self.ids[ord(character)] = tokens[0]
        if len(set(self.ids[self.ids >= 0].tolist())) < len(ALPHABET):
            raise LvjobsError(
                f"model {name!r}: its tokenizer has one token for several of {ALPHABET!r}", "choose another"
            )
        # Merges grow from pairs, and the grammar knows all possible pairs: with two variables and two digits before the
        # point all occur. (One variable has fewer: no `,`; a stricter check does no harm.)
        merged = [
            pair
            for pair in Grammar(codec.decimals, variables=2, digits=2, signed=True).pairs()
            if list(self.encode(pair)) != list(tokenizer.encode(pair, add_special_tokens=False))
        ]
        self.split = tuple(pair for pair in merged if SIGN in pair)
        if bad := [pair for pair in merged if SIGN not in pair]:
            raise LvjobsError(
                f"model {name!r}: its tokenizer merges digits or separators ({' '.join(map(repr, bad[:5]))})",
                "choose one with a token per digit (such as Qwen2.5's or SmolLM2's)",
            )
        # Some tokenizers do not merge by pairs, so a text with all pairs, longer than any token, is checked too.
        sample = codec.write(np.arange(0, 1100, 7).reshape(1, -1, 2)[:, :78] / 10**codec.decimals * 3.37)[0]
        if list(self.encode(sample)) != list(tokenizer.encode(sample, add_special_tokens=False)):
            raise LvjobsError(
                f"model {name!r}: its tokenizer merges digits or separators in {sample[:24]!r}",
                "choose one with a token per digit (such as Qwen2.5's or SmolLM2's)",
            )
        self.alphabet: NDArray[np.int64] = self.encode(ALPHABET)
        """The ids of ALPHABET's characters, in its order: (characters,)."""

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the token ids of an encoded series."""
        return self.ids[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]


Ids: TypeAlias = NDArray[np.int64]
Format: TypeAlias = Literal["raw", "instruct"]
SYSTEM = "You are a forecaster of time series. You continue series of numbers, and you write nothing but numbers."
_SERIES, _ANSWER = "<<series>>", "<<answer>>"
"""The placeholders of the numbers in a rendered template; cut out before anything is tokenised."""


def _nothing() -> Ids:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Prompt:
    """Token ids around a series: `before` and `after` its history, and `end`, which closes the answer in training."""

    before: Ids = field(default_factory=_nothing)
    after: Ids = field(default_factory=_nothing)
    end: Ids = field(default_factory=_nothing)

    def wrap(self, history: Ids) -> Ids:
        """Return the tokens that the model has to continue: (tokens,)."""
        return np.concatenate([self.before, history, self.after])

    @property
    def around(self) -> int:
        """Return the number of tokens around a history, which `wrap` adds."""
        return len(self.before) + len(self.after)

    @property
    def length(self) -> int:
        """Return the number of tokens that it adds to history and answer."""
        return self.around + len(self.end)


RAW = Prompt()
Prompts: TypeAlias = Callable[[int], Prompt]
"""A function that returns the prompt for a number of steps."""


def instruction(codec: Codec, variables: int, horizon: int) -> str:
    """Return the user's message; the history follows it on a line of its own."""
    quantities = "one quantity" if variables == 1 else f"{variables} quantities that influence one another"
    commas = "" if variables == 1 else f"the values of a step are separated by '{VALUE_SEPARATOR}' and "
    return (
        f"Below is a series of {quantities}, measured at equal time steps, the oldest first. Every value is scaled and "
        f"has {codec.decimals} decimals; {commas}every step ends with '{STEP_SEPARATOR}'. Continue the series with the "
        f"next {horizon} steps, in the same format, and write nothing else."
    )


def instruct(tokenizer: Any, name: str, codec: Codec, variables: int, horizon: int) -> Prompt:
    """Return the instruction in the chat template of a model.

    Args:
        tokenizer: The model's.
        name: The model's name, for errors.
        codec: The format of series.
        variables: Variables per step.
        horizon: The number of requested steps.

    Raises:
        LvjobsError: the tokenizer has no chat template, or cannot write words (as `tiny`'s, which knows only numbers).
    """
    ask = f"{instruction(codec, variables, horizon)}\n\n{_SERIES}"
    if not getattr(tokenizer, "chat_template", None):
        raise LvjobsError(
            f'model {name!r}: its tokenizer has no chat template, so format = "instruct" cannot be used; use "raw"'
        )
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ask}]
    given = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    answered = tokenizer.apply_chat_template(
        [*messages, {"role": "assistant", "content": _ANSWER}], tokenize=False, add_generation_prompt=False
    )
    before, found, after = given.partition(_SERIES)
    _, closed, end = answered.partition(_ANSWER)
    if not (found and closed and after):
        raise LvjobsError(f'model {name!r}: its chat template drops messages; use format = "raw"')
    if not answered.startswith(given):
        raise LvjobsError(f'model {name!r}: its chat template asks otherwise than it trains; use format = "raw"')
    parts = [_encode(tokenizer, name, text) for text in (before, after, end)]
    return Prompt(parts[0], parts[1], parts[2][:1])


def raw(_: int) -> Prompt:
    """Return the prompt of format "raw", which is empty for every horizon."""
    return RAW


def prompts_of(kind: Format, tokenizer: Any, name: str, codec: Codec, variables: int) -> Prompts:
    """Return a function with the prompt of each horizon; the first is made at once, so that an error comes early.

    Raises:
        LvjobsError: as `instruct`.
    """
    if kind == "raw":
        return raw
    made = functools.cache(lambda horizon: instruct(tokenizer, name, codec, variables, horizon))
    made(1)
    return made


def _encode(tokenizer: Any, name: str, text: str) -> Ids:
    ids = tokenizer.encode(text, add_special_tokens=False)
    if tokenizer.decode(ids).strip() != text.strip():
        raise LvjobsError(f'model {name!r}: its tokenizer cannot write the instruction; use format = "raw"')
    return np.array(ids, dtype=np.int64)
