"""Runs by what people type: a whole name, or enough of its beginning or its end."""

import difflib
from collections.abc import Collection, Sequence

from lvjobs import remedies
from lvjobs.errors import UsageError

_SHOWN = 4


def find_name(typed: str, names: Collection[str], where: Sequence[str] = ()) -> str:
    """The one of `names` that is meant: `base`, `14e5` and `s0-14e5` all say `base-r4-lr1e-05-c512-s0-14e5`.

    `where`: see `StudyContext.where`.

    Raises:
        UsageError: none is, or several may be.
    """
    if typed in names:
        return typed
    found = [name for name in names if name.startswith(f"{typed}-") or name.endswith(f"-{typed}")]
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        raise UsageError(f"{typed!r} may be {len(found)} runs ({shown}): type more of the name")
    near = difflib.get_close_matches(typed, names, n=1)
    if near:
        raise UsageError(f"no run {typed!r} in this study; did you mean {near[0]}?")
    raise UsageError(f"no run {typed!r} in this study; type: {remedies.STATUS(*where)}")
