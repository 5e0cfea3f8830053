"""Names of runs as they are typed: whole, by their ends, or shortened as tables show them."""

import difflib
from collections.abc import Collection, Sequence

from lvjobs import remedies
from lvjobs.errors import UsageError

_SHOWN = 4


def _is_shortened(typed: str, name: str) -> bool:
    """Return whether `typed` is some parts of a name, in their order, with the last."""
    parts, left = name.split("-"), iter(name.split("-"))
    words = typed.split("-")
    return len(words) > 1 and words[-1] == parts[-1] and all(word in left for word in words)


def find_name(typed: str, names: Collection[str], where: Sequence[str] = ()) -> str:
    """Return the one of `names` that is meant: `base`, `14e5` and `s0-14e5` all mean `base-r4-lr1e-05-c512-s0-14e5`.

    So does `r4-lr1e-05-14e5`, as tables of runs shorten the name: parts of it in their order, with the last.

    `where`: see `StudyContext.where`.

    Raises:
        UsageError: no name fits, or several do.
    """
    if typed in names:
        return typed
    found = [name for name in names if name.startswith(f"{typed}-") or name.endswith(f"-{typed}")]
    found = found or [name for name in names if _is_shortened(typed, name)]
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        raise UsageError(f"{typed!r} matches {len(found)} runs: {shown}; use a longer name")
    near = difflib.get_close_matches(typed, names, n=1)
    if near:
        raise UsageError(f"no run {typed!r} in this study; did you mean {near[0]}?")
    raise UsageError(f"no run {typed!r} in this study; type: {remedies.STATUS(*where)}")
