"""A traceback as its reader wants it: the frames of their own code."""

from collections.abc import Sequence
from pathlib import Path

_LINES = 12
_FRAME = '  File "'


def own_frames(traceback: str, code: Path) -> list[str]:
    """Return the last lines of a traceback without the frames of lvjobs, unless all are; `code` is the run's copy.

    Files in the copy are named as in the study.
    """
    found: list[list[str]] = []  # the head, each frame with its lines, and the error
    for line in traceback.rstrip().splitlines():
        if not found or line.startswith(_FRAME) or (found[-1][0].startswith(_FRAME) and not line.startswith("    ")):
            found.append([])
        found[-1].append(line)
    if any(_is_own(part) for part in found):
        found = [part for part in found if not part[0].startswith(_FRAME) or _is_own(part)]
    lines = [line for part in found for line in part]
    return [line.replace(f"{code}/", "") for line in lines][-_LINES:]


def _is_own(part: Sequence[str]) -> bool:
    """Return whether a part of a traceback is a frame of other code than lvjobs."""
    return part[0].startswith(_FRAME) and "/lvjobs/worker/" not in part[0]
