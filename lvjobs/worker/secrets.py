"""Secrets of the job's environment, kept out of what outlives it: a library may put a token into an error's words."""

import os
import re
from collections.abc import Mapping

_NAMES = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|JWT|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_PLACES = re.compile(r"_(PATH|FILE|DIR)\Z", re.IGNORECASE)
_SHORTEST = 8
"""Characters: what is shorter is a word like any other, and would be blotted out everywhere."""


def secrets_in(environ: Mapping[str, str]) -> list[str]:
    """The values of variables whose names say that they are secret, the longest first; lvjobs' own tokens are none."""
    found = {
        value
        for name, value in environ.items()
        if _NAMES.search(name) and not _PLACES.search(name) and not name.startswith("LVJOBS_")
    }
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)


def hide(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """`text` with `***` in the place of each secret of the environment."""
    for value in secrets_in(environ):
        text = text.replace(value, "***")
    return text
