"""The number of tokens that an instruction adds to a series, computed in a process of its own.

    python -m lvjobs.forecasting.instruction_tokens ANSWER < QUESTION

QUESTION is a JSON object with `model`, `decimals`, `horizon` and `variables`, ANSWER a file that gets a whole number.
"""

import json
import sys
from pathlib import Path

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.hub import directory_of, has_tokenizer

_QWEN_BUT_HORIZON = 103
"""The tokens of the instruction by Qwen2.5's tokenizer and template, except the horizon's digits, a token each."""


def instruction_tokens(model: str, decimals: int, horizon: int, variables: int) -> int:
    """Return the number of tokens that the instruction puts before and after a history.

    Args:
        model: `tiny`, a directory, or a hub id.
        decimals: Decimals of a value.
        horizon: Steps of a forecast.
        variables: Variables of a series.

    Returns:
        The count by the model's tokenizer, or by Qwen2.5's if the model's is not on this machine.

    Raises:
        LvjobsError: the tokenizer has no chat template, or cannot write the instruction.
    """
    directory = directory_of(model)
    if directory is None or not has_tokenizer(directory):
        return _QWEN_BUT_HORIZON + len(str(horizon))
    from lvjobs.forecasting.codec import Codec
    from lvjobs.forecasting.models import load_tokenizer
    from lvjobs.forecasting.tokens import instruct

    return instruct(load_tokenizer(model), model, Codec(decimals=decimals), variables, horizon).around


def main() -> None:
    """Write the answer to the question on stdin into the file that the first argument names."""
    try:
        answer = instruction_tokens(**json.load(sys.stdin))
    except LvjobsError as error:
        sys.exit(str(error))
    Path(sys.argv[1]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
