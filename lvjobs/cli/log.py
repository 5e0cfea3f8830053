"""`lvjobs log`: a program in any language reports its progress. A light module: a program may call it often."""

import json
import os
import re

import click

from lvjobs.cli.help import Command
from lvjobs.errors import LvjobsError, UsageError

_VARIABLE = "LVJOBS_PROGRESS"
_NAME = re.compile(r"[A-Za-z_][\w./-]{0,63}\Z")
_TAKEN = frozenset({"kind", "time", "step", "steps", "seconds", "validation", "self"})
"""Names that cannot be metrics, because the journal has them for itself (`lvjobs.worker.program.progress`)."""


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.option("--step", type=click.IntRange(min=0), required=True, help="Step number of the program.")
@click.option("--validation", is_flag=True, help="The values belong to a validation.")
@click.argument("values", nargs=-1, metavar="NAME=VALUE...")
def log(step: int, validation: bool, values: tuple[str, ...]) -> None:
    """Report a step and its metrics from inside a run.

    \b
    lvjobs log --step 10 loss=0.5 accuracy=0.9

    A program of any language may call it. It appends one JSON line to the file that $LVJOBS_PROGRESS names. A program
    can also append such lines itself: {"step": 10, "loss": 0.5}
    """  # noqa: D301 - click reads the backspace
    record: dict[str, float | bool] = {"step": step, **dict(map(_metric, values))}
    if validation:
        record["validation"] = True
    path = os.environ.get(_VARIABLE)
    if not path:
        raise UsageError(
            f"${_VARIABLE} is not set, because this is not inside a run; nothing was logged: type it in the program "
            "that a run executes"
        )
    line = (json.dumps(record) + "\n").encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            written = os.write(descriptor, line)  # one call: lines of several processes do not mix
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LvjobsError(
            f"{path} cannot be written ({error.strerror}); the step was not logged: do not change ${_VARIABLE}, and "
            "check the disk space"
        ) from None
    if written != len(line):
        raise LvjobsError(f"{path}: the disk is full; the step was not logged; free disk space")


def _metric(text: str) -> tuple[str, float]:
    """Return the name and the value in `loss=0.5`.

    Raises:
        UsageError: the text has another form, the name cannot be used, or the value is no number.
    """
    name, equals, value = text.partition("=")
    if not equals or not _NAME.match(name):
        raise UsageError(f"{text!r} is not NAME=VALUE; write a metric such as loss=0.5")
    if name in _TAKEN:
        raise UsageError(f"{name} cannot be the name of a metric; choose another name, such as train_{name}")
    try:
        return name, float(value)
    except ValueError:
        raise UsageError(f"{text!r}: {value!r} is not a number; write a metric such as loss=0.5") from None
