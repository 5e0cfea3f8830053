"""The table between the text of a series and a tokenizer's ids, and the check that a tokenizer allows one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import ALPHABET, Codec
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
