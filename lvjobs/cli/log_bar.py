"""The lines of a log that is followed: in a terminal its steps are a bar, elsewhere they are lines as all others."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from lvjobs.foreign import cleaned

_STEP = re.compile(r"lvjobs worker: step (\d+) of (\d+)(?:, (.*))?\s*$")
"""The line that `worker.printed` prints of a step."""


@contextmanager
def shown_lines(*, follows: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that prints a line of a log. If it `follows` one in a terminal, steps move a bar."""
    if follows and sys.stdout.isatty():
        with _with_bar() as show:
            yield show
    else:
        yield lambda line: click.echo(cleaned(line), nl=False)


@contextmanager
def _with_bar() -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn
    from rich.text import Text

    columns = [
        TextColumn("step {task.completed} of {task.total}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("{task.fields[metrics]}", markup=False),
    ]
    bars: list[TaskID] = []
    with Progress(*columns, console=Console(highlight=False), expand=True) as progress:

        def show(line: str) -> None:
            if found := _STEP.match(line):
                step, total, metrics = int(found[1]), int(found[2]), cleaned(found[3] or "")
                if not bars:
                    bars.append(progress.add_task("", total=total, metrics=metrics))
                progress.update(bars[0], completed=step, total=total, metrics=metrics, refresh=True)
            else:
                progress.console.print(Text(cleaned(line).rstrip("\n")), soft_wrap=True)

        yield show
