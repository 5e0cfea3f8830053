"""An entry in the user's crontab or Slurm's (scrontab), between two lines that name its owner.

Both programs print the table with `-l` and read a new table from a file.
"""

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from lvjobs import remedies
from lvjobs.cluster.commands import run, words_of
from lvjobs.cluster.protocol import ClusterError

_SECONDS = 15.0
PROGRAMS = ("scrontab", "crontab")
_NONE_YET = ("no crontab for", "no scrontab for")


def install(program: str, name: str, lines: Sequence[str], where: Sequence[str] = ()) -> None:
    """Put `lines` into the table, in place of the entry of the same `name`. `where`: see `StudyContext.where`.

    Raises:
        ClusterError: the program is not available here, or refused the table.
    """
    before = _read(program, where=where)
    _write(program, [*_without(before, name), f"# {name}: begin", *lines, f"# {name}: end"], where)


def uninstall(program: str, name: str) -> bool:
    """Remove the entry of that `name` and return whether there was one. A program that is not available here has none.

    Raises:
        ClusterError: the program refused the table.
    """
    try:
        before = _read(program)
    except ClusterError:
        return False
    after = _without(before, name)
    if after != before:
        _write(program, after)
    return after != before


def find_entries(name: str, seconds: float = _SECONDS) -> list[str]:
    """Return which of crontab and scrontab have an entry of that `name`. A program that is not available here has none.

    `seconds` is the time limit for each program.
    """
    found = []
    for program in PROGRAMS:
        with suppress(ClusterError):
            if shutil.which(program) and _entry(_read(program, seconds), name):
                found.append(program)
    return found


def _without(lines: Sequence[str], name: str) -> list[str]:
    """Return the table without the lines between the two marks. An entry without an end mark stays."""
    entry = _entry(lines, name)
    return [line for number, line in enumerate(lines) if number not in entry]


def _entry(lines: Sequence[str], name: str) -> range:
    """Return the line numbers of an entry, with its first and last line; empty where either is missing.

    The first line may also name its writer, in parentheses.
    """
    begin, end = f"# {name}: begin", f"# {name}: end"
    begins = [number for number, line in enumerate(lines) if line.split(" (")[0] == begin]
    return range(begins[0], lines.index(end) + 1) if begins and end in lines else range(0)


def _read(program: str, seconds: float = _SECONDS, where: Sequence[str] = ()) -> list[str]:
    answer = run([program, "-l"], seconds)
    if answer.returncode == 0:
        return answer.stdout.splitlines()
    if any(text in words_of(answer).lower() for text in _NONE_YET):
        return []
    raise ClusterError(f"{program} cannot be read ({words_of(answer)}); instead, keep {remedies.WATCH(*where)} running")


def _write(program: str, lines: Sequence[str], where: Sequence[str] = ()) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".crontab", encoding="utf-8") as table:
        table.write("".join(f"{line}\n" for line in lines))
        table.flush()
        answer = run([program, table.name], _SECONDS)
    if answer.returncode != 0:
        raise ClusterError(
            f"{program} refused the entry ({words_of(answer)}), and the table was not changed; instead, keep "
            f"{remedies.WATCH(*where)} running"
        )
