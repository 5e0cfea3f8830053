"""The questions about a program that `lvjobs init` asks at a terminal, and what their answers mean."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from lvjobs.errors import UsageError
from lvjobs.foreign import cleaned
from lvjobs.study.config import validated
from lvjobs.study.program.guess import number
from lvjobs.study.program.template import Open
from lvjobs.study.settings import settings_model

LATER = "later"
"""The answer to a question that leaves the key to be filled in."""

_QUESTIONS = {
    "checkpoint": "Its checkpoint, a file or a directory; {step} where the name has the step",
    "progress": "Regular expression of the lines that it prints, with (?P<step>\\d+)",
    "flops": "FLOPs of one step, such as 6e9, or PARAMETERS x TOKENS of a step, such as 124e6 x 491520",
}

Ask: TypeAlias = Callable[[str, Callable[[str], Any]], Any]
"""A function that asks a question, proposes `LATER`, and returns what its second argument makes of the answer. It asks
again if that raises UsageError."""


def ask_for(values: dict[str, Any], missing: dict[str, Open], ask: Ask) -> None:
    """Ask for what is missing; an answer `later` leaves it so."""
    for key, question in _QUESTIONS.items():
        if key not in missing:
            continue
        if (answer := ask(question, partial(_answer, key))) is not None:
            values[key] = answer
            del missing[key]
            if key == "checkpoint" and "resume" in values:
                missing.pop("resume", None)


def _answer(key: str, text: str) -> Any:
    """Return the value of a key that an answer gives; None if it leaves the key to be filled in.

    Raises:
        UsageError: the key cannot have that value.
    """
    if text.strip() in ("", LATER):
        return None
    value = flops_of(text) if key == "flops" else text.strip()
    check_text([text])
    found = {"command": ["program"], key: value}
    validated(settings_model(found), found, "the answer")
    return value


def flops_of(text: str) -> Any:
    """Return the FLOPs of a step in `6e9` or `124e6 x 491520`.

    Raises:
        UsageError: it is neither.
    """
    factors = [number(each.replace("_", "")) for each in re.split(r"\s*[x*]\s*", text.strip())]
    if None in factors or len(factors) > 2:  # noqa: PLR2004 - parameters and tokens
        raise UsageError(f"flops {text!r} is no number; write FLOPs of a step such as 6e9, or 124e6 x 491520")
    return factors[0] if len(factors) == 1 else dict(zip(("parameters", "tokens"), factors, strict=True))


def check_text(texts: Sequence[str]) -> None:
    """Refuse text that a TOML file cannot have.

    Raises:
        UsageError: a text is not UTF-8, or has a NUL character.
    """
    for text in texts:
        if "\0" in text or not _is_utf8(text):
            raise UsageError(f"{cleaned(text)!r} is not UTF-8 text; nothing was written: rename it, or correct it")


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
