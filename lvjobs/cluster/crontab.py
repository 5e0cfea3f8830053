"""An entry in a crontab, the user's or Slurm's (scrontab), between two lines that say whose it is.

Both programs print the table with `-l` and take a new one as a file.
"""

import tempfile
from collections.abc import Sequence

from lvjobs.cluster.commands import run
from lvjobs.cluster.protocol import ClusterError

_SECONDS = 15.0
_NONE_YET = ("no crontab for", "no scrontab for")


def install(program: str, name: str, lines: Sequence[str]) -> None:
    """Put `lines` into the table, in place of those of the same `name`. Raises ClusterError: it is not offered here."""
    _write(program, [*_without(_read(program), name), _begin(name), *lines, _end(name)])


def uninstall(program: str, name: str) -> bool:
    """Take the lines of that `name` out; whether there were any. A program that is not offered here has none."""
    try:
        before = _read(program)
    except ClusterError:
        return False
    after = _without(before, name)
    if after != before:
        _write(program, after)
    return after != before


def _begin(name: str) -> str:
    return f"# {name}: begin (lvjobs driver install)"


def _end(name: str) -> str:
    return f"# {name}: end"


def _without(lines: Sequence[str], name: str) -> list[str]:
    """The table without what stands between the two marks. One whose end is lost is left alone."""
    if _begin(name) not in lines or _end(name) not in lines:
        return list(lines)
    first, last = lines.index(_begin(name)), lines.index(_end(name))
    return [*lines[:first], *lines[last + 1 :]]


def _read(program: str) -> list[str]:
    answer = run([program, "-l"], _SECONDS)
    if answer.returncode == 0:
        return answer.stdout.splitlines()
    if any(text in answer.said.lower() for text in _NONE_YET):
        return []
    raise ClusterError(f"{program} cannot be read ({answer.said}); make passes without it: lvjobs watch")


def _write(program: str, lines: Sequence[str]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".crontab", encoding="utf-8") as table:
        table.write("".join(f"{line}\n" for line in lines))
        table.flush()
        answer = run([program, table.name], _SECONDS)
    if answer.returncode != 0:
        raise ClusterError(
            f"{program} refused the entry ({answer.said}); the table is as it was: make passes without it: lvjobs watch"
        )
