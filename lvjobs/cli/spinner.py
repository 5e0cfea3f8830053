"""A command's wait for Slurm: a spinner in a terminal, one line elsewhere, both with the longest time."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_NOTE_AFTER, _NOTE_SECONDS = "LVJOBS_NOTE_AFTER", 3.0
"""The variable with the seconds after which a wait is announced where there is no terminal; its default."""
_SPIN_SECONDS = 0.5
_LONGEST = 86_400


@contextmanager
def spinner(what: str, seconds: float) -> Iterator[None]:
    """Announce a wait for `what`, of `seconds` at most, if it takes a moment."""
    bound = f", at most {seconds:.0f} s" if seconds < _LONGEST else ""
    words = f"waiting for {what}{bound}"
    if not sys.stderr.isatty():
        after = float(os.environ.get(_NOTE_AFTER) or _NOTE_SECONDS)
        with _unless_it_ends(after, lambda: click.echo(f"note: {words}", err=True)):
            yield
        return
    from rich.console import Console

    status = Console(stderr=True, highlight=False).status(f"[dim]{words}[/dim]", spinner="line")
    try:
        with _unless_it_ends(_SPIN_SECONDS, status.start):
            yield
    finally:
        status.stop()


@contextmanager
def _unless_it_ends(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` in a thread, unless the block ends within so many seconds."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # else it may act after the end
