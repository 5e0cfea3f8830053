"""The environment of a program, activated in a shell before the program starts; lvjobs itself stays outside of it."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lvjobs.errors import LvjobsError
from lvjobs.tasks.activation import read_activation
from lvjobs.tasks.packages import Unlisted, list_packages, python_of
from lvjobs.worker import signals
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.program.end import KILLED, ProgramLost
from lvjobs.worker.program.process import Program, Start

_SECONDS = 300.0
"""The time limit of an activation: conda on a busy file system takes a minute."""

_POLL_SECONDS = 0.05

_SCRIPT = 'eval "$1" || exit; exec /usr/bin/env -0 > "$2"'
"""The script for bash: the line, and then a command that writes the resulting environment to a file."""

_REMEDY = "correct activate under [resources], and submit it again"

_OF_THE_SHELL = ("_", "SHLVL", "PWD", "OLDPWD")
"""Variables that bash sets for itself."""


def activated(
    attempt: Attempt, text: str, environment: Mapping[str, str], private: Path
) -> dict[str, str | None] | None:
    """Return the variables that `activate` changes in this environment; None if the attempt has to stop meanwhile.

    The value of a variable that it removes is None.

    What the line prints is in the job's log.

    Args:
        attempt: The attempt.
        text: `activate` of [resources].
        environment: The environment of the program.
        private: A directory for the answer.

    Raises:
        LvjobsError: the line failed, or took too long.
        ProgramLost: the shell was killed.
    """
    root, answer = attempt.layout.study.root, private / "environment"
    line = read_activation(text, root).line
    try:
        shell = Program([Start(0, ["bash", "-c", _SCRIPT, "bash", line, str(answer)], environment)], root)
    except OSError as error:
        raise LvjobsError(f"activate needs bash, which cannot be started ({error.strerror}); {_REMEDY}") from None
    until = time.monotonic() + _SECONDS
    try:
        while not shell.has_ended and not attempt.must_stop() and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        is_over = shell.has_ended
    finally:
        (end,) = shell.end()
    code = end.code
    try:
        if attempt.must_stop() and (code != 0 or not is_over):  # Slurm signals the shell, too
            return None
        if is_over and -code in KILLED:
            raise ProgramLost(code)
        found = answer.read_bytes() if answer.exists() else b""
    finally:
        answer.unlink(missing_ok=True)  # it has all variables, also secret ones
    if code != 0 or not found:
        why = f"exit code {code}" if is_over else f"not over within {_SECONDS:g} s"
        printed = f": {end.tail[-1]}" if end.tail else ""
        raise LvjobsError(f"activate failed ({why}{printed}); {_REMEDY}")
    pairs = (os.fsdecode(each).partition("=") for each in found.split(b"\0") if each)
    new = {name: value for name, _, value in pairs if name not in _OF_THE_SHELL}
    removed = {name: None for name in environment if name not in new and name not in _OF_THE_SHELL}
    return {**removed, **{name: value for name, value in new.items() if environment.get(name) != value}}


def packages_of(command: Sequence[str], environment: Mapping[str, str], work: Path) -> tuple[dict[str, str], str]:
    """Return the packages that a program can import in its environment; or none, and why they are not known."""
    python = python_of(command, environment, work)
    if python is None:
        return {}, ""  # no Python runs it, as far as its command shows
    try:
        with signals.shielded():
            return list_packages(python, environment), ""
    except Unlisted as error:
        return {}, f"the packages of this attempt are not recorded: {error}"
