"""Foreign text: the output of tasks, libraries, schedulers and servers, made safe to keep and to show.

A library may put a token into an error message, and a message may hold control characters for a terminal. So each place
where such text enters lvjobs passes it through `cleaned`. `tests/unit/test_foreign.py` lists the places.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

_NAMES = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|JWT|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_PLACES = re.compile(r"_(PATH|FILE|DIR)\Z", re.IGNORECASE)
_SHORTEST = 8
"""The fewest characters of a secret: a shorter value may be an ordinary word, which would be hidden everywhere."""

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and newline; characters that turn the direction of writing; halves of surrogates."""


_COLOURS = re.compile("\x1b\\[[0-9;]*m")
"""Colour codes. They only change how text looks, and written out they would make a log hard to read."""


def secrets_in(environ: Mapping[str, str]) -> list[str]:
    """Return the values of variables whose names mark them as secret, the longest first.

    Each line of a value counts, also in its URL-encoded form. lvjobs' own tokens are no secrets.
    """
    values = [
        value
        for name, value in environ.items()
        if _NAMES.search(name) and not _PLACES.search(name) and not name.startswith("LVJOBS_")
    ]
    parts = {part.strip() for value in values for part in (value, *value.splitlines())}
    long = [part for part in parts if len(part) >= _SHORTEST]
    return sorted({*long, *(quote(part, safe="") for part in long)}, key=len, reverse=True)


def hide(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return `text` with `***` in place of each secret of the environment."""
    if len(text) >= _SHORTEST:
        for value in secrets_in(environ):
            text = text.replace(value, "***")
    return text


def cleaned(text: str) -> str:
    r"""Return `text` without secrets and colours, and with control characters written out, such as `\x1b`."""
    plain = _COLOURS.sub("", text.replace("\r\n", "\n"))
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], hide(plain))


def clean(value: Any) -> Any:
    """Return a JSON value with each of its strings cleaned."""
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value
