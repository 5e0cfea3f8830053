"""Waits of a caller, announced with their bound: a command shows a spinner, another program nothing."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Announce = Callable[[str, float], AbstractContextManager[None]]


def _silently(_what: str, _seconds: float) -> AbstractContextManager[None]:
    return nullcontext()


_announce: Announce = _silently


def announce_with(announce: Announce) -> None:
    """Let `announce` show each wait from now on: it gets what is awaited, and the longest time in seconds."""
    global _announce  # noqa: PLW0603 - one command line has one terminal
    _announce = announce


def announced(what: str, seconds: float) -> AbstractContextManager[None]:
    """Return a context in which the caller waits for `what`, for `seconds` at most."""
    return _announce(what, seconds)
