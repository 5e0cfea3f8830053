"""The tokenizer of `tiny`, one token a character and nothing ever merged; and what is asked of any other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import ALPHABET, Codec

SPECIAL = ("<pad>", "<bos>", "<eos>")
VOCABULARY = (*SPECIAL, *ALPHABET, " ")


def build_tokenizer() -> Any:
    """The tokenizer that is shipped with `tiny`.

    A `Qwen2Tokenizer` without merges, not a plain fast tokenizer: transformers' AutoTokenizer takes Qwen2Tokenizer for
    every model of that type, whatever its files say, and builds it anew from the vocabulary. Characters outside of
    the vocabulary are dropped; `Characters` is what lvjobs encodes by, and it has no ids for them.
    """
    import transformers

    make: Any = transformers.Qwen2Tokenizer
    return make(
        # A byte-level vocabulary writes the space as this letter.
        vocab={token.replace(" ", "\u0120"): index for index, token in enumerate(VOCABULARY)},
        merges=[],
        unk_token=SPECIAL[0],
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


class Characters:
    """Text to token ids and back by table, for a tokenizer that gives every character of a series its own token."""

    def __init__(self, tokenizer: Any, name: str, codec: Codec) -> None:
        """Make the table, and hold the tokenizer to it on text as `codec` writes it.

        Raises:
            LvjobsError: the tokenizer merges characters or adds tokens, so that a table would not read as it does.
        """
        self.ids = np.full(128, -1, dtype=np.int64)
        for character in ALPHABET:
            tokens = tokenizer.encode(character, add_special_tokens=False)
            if len(tokens) != 1:
                raise LvjobsError(
                    f"model {name!r}: its tokenizer has no single token for {character!r}; choose another"
                )
            self.ids[ord(character)] = tokens[0]
        # Longer than any merge; with every pair of digits in it, signs, and two digits before the point.
        numbers = np.arange(-30, 1100, 7).reshape(-1, 2) / 10**codec.decimals * 3.37
        sample = codec.format(numbers)
        if list(self.encode(sample)) != tokenizer.encode(sample, add_special_tokens=False):
            raise LvjobsError(
                f"model {name!r}: its tokenizer merges digits or separators; choose one with a token per digit "
                f"(such as Qwen2.5's or SmolLM2's)"
            )
        self.characters = {int(self.ids[ord(character)]): character for character in ALPHABET}

    def encode(self, text: str) -> NDArray[np.int64]:
        """The token ids of an encoded series."""
        ids: NDArray[np.int64] = self.ids[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]
        return ids

    def decode(self, ids: NDArray[np.int64]) -> str:
        """The text of token ids; ids that are no character of a series are shown as `?`."""
        return "".join(self.characters.get(int(token), "?") for token in ids)
