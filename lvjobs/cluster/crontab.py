"""An entry in a crontab, the user's or Slurm's (scrontab), between two lines that say whose it is.

Both programs print the table with `-l` and take a new one as a file.
"""

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from lvjobs import remedies
from lvjobs.cluster.commands import run
from lvjobs.cluster.protocol import ClusterError

_SECONDS = 15.0
PROGRAMS = ("scrontab", "crontab")
_NONE_YET = ("no crontab for", "no scrontab for")


def install(program: str, name: str, lines: Sequence[str], where: Sequence[str] = ()) -> None:
    """Put `lines` into the table, in place of those of the same `name`. `where`: see `StudyContext.where`.

    Raises:
        ClusterError: the program is not offered here, or refused the table.
    """
    before = _read(program, where=where)
    _write(program, [*_without(before, name), _begin(name), *lines, _end(name)], where)


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


def find_entries(name: str, seconds: float = _SECONDS) -> list[str]:
    """Return which of crontab and scrontab have lines of that `name`. One that is not offered here has none."""
    found = []
    for program in PROGRAMS:
        with suppress(ClusterError):
            if shutil.which(program) and _marks(_read(program, seconds), name):
                found.append(program)
    return found


def _begin(name: str) -> str:
    return f"# {name}: begin"


def _end(name: str) -> str:
    return f"# {name}: end"


def _without(lines: Sequence[str], name: str) -> list[str]:
    """The table without what stands between the two marks. One whose end is lost is left alone."""
    marks = _marks(lines, name)
    return [*lines[: marks[0]], *lines[marks[1] + 1 :]] if marks else list(lines)


def _marks(lines: Sequence[str], name: str) -> tuple[int, int] | None:
    """Where an entry begins and ends; None where it does not do both. The first line says who wrote it, or said so."""
    begins = [number for number, line in enumerate(lines) if line.split(" (")[0] == _begin(name)]
    return (begins[0], lines.index(_end(name))) if begins and _end(name) in lines else None


def _read(program: str, seconds: float = _SECONDS, where: Sequence[str] = ()) -> list[str]:
    answer = run([program, "-l"], seconds)
    if answer.returncode == 0:
        return answer.stdout.splitlines()
    if any(text in answer.said.lower() for text in _NONE_YET):
        return []
    raise ClusterError(f"{program} cannot be read ({answer.said}); without it, keep {remedies.WATCH(*where)} running")


def _write(program: str, lines: Sequence[str], where: Sequence[str] = ()) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".crontab", encoding="utf-8") as table:
        table.write("".join(f"{line}\n" for line in lines))
        table.flush()
        answer = run([program, table.name], _SECONDS)
    if answer.returncode != 0:
        raise ClusterError(
            f"{program} refused the entry ({answer.said}), and the table is as it was; without it, keep "
            f"{remedies.WATCH(*where)} running"
        )
