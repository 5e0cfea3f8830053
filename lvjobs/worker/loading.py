"""Until its first step a worker makes objects by the million, modules most of all, and next to nothing is garbage.

Python looks through all of them again and again, for a fifth of the time that an attempt takes to begin.
"""

import gc

_MANY = 50_000
"""New objects between two looks; Python has some hundreds or thousands. Bounded, for a task may never resume."""

_usual: list[tuple[int, int, int]] = []


def begin() -> None:
    """Look for garbage rarely from now on."""
    if not _usual:
        _usual.append(gc.get_threshold())
        gc.set_threshold(_MANY)


def end() -> None:
    """Look as often as Python does, and no more at what was loaded."""
    if _usual:
        gc.freeze()
        gc.set_threshold(*_usual.pop())
