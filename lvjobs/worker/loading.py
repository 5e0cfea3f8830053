"""The garbage collector's settings while a worker loads: rare collections until its first step.

Until then a worker makes millions of objects, mostly by importing modules, and almost none is garbage. Python's
repeated searches would take a fifth of an attempt's start-up time.
"""

import gc

_MANY = 50_000
"""New objects between two collections; Python's default is hundreds or thousands. Bounded: a task may never resume."""

_usual: list[tuple[int, int, int]] = []


def begin() -> None:
    """Collect garbage rarely from now on."""
    if not _usual:
        _usual.append(gc.get_threshold())
        gc.set_threshold(_MANY)


def end() -> None:
    """Collect as often as Python does by default, and leave out the objects that were loaded so far."""
    if _usual:
        gc.freeze()
        gc.set_threshold(*_usual.pop())
