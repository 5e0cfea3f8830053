"""A remedy: a command that a message tells its reader to type, as a registered value."""

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

TYPED_HOST = "LVJOBS_TYPED_HOST"
"""The variable with the host of `lvjobs --host`, where such a command arrives: it is typed on another machine."""
_OWN = "lvjobs "


@dataclass(frozen=True)
class Remedy:
    """A command that ends a trouble.

    `command`: a field in braces is filled in by the message; a word in CAPITALS is the reader's to choose.
    `trouble`: when a message names it. `effect`: what it does. `seen`: words of such messages as they are printed, by
    which a reader finds its row. The last three are for docs/errors.md.
    """

    command: str
    trouble: str
    effect: str
    seen: tuple[str, ...]

    def __str__(self) -> str:
        """Return the command; raises KeyError where it has fields."""
        return self()

    def __call__(self, *options: str, **fields: object) -> str:
        """Return the command with its fields filled in, each quoted for a shell; an iterable gives several words.

        `options` come last: what the reader has to repeat, such as `--study DIR`, for the command to be about the same.
        Raises KeyError where a field is missing.
        """
        command = self.command.format_map({name: _quoted(value) for name, value in fields.items()})
        if (host := os.environ.get(TYPED_HOST)) and command.startswith(_OWN):
            command = f"{_OWN}--host {shlex.quote(host)} {command.removeprefix(_OWN)}"
        end = len(command) - (len(_SUBSTITUTED) if command.endswith(_SUBSTITUTED) else 0)
        return " ".join([command[:end], *map(shlex.quote, options)]) + command[end:]


_SUBSTITUTED = ')"'
"""The end of `eval "$(lvjobs lab env)"`; options go before it."""


def _quoted(value: object) -> str:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return shlex.join(map(str, value))
    return shlex.quote(str(value))
