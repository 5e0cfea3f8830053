"""`lvjobs logs`."""

import time
from collections import deque
from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.api.updates import newest_log
from lvjobs.cli.common import study_option
from lvjobs.cli.completion import complete_runs
from lvjobs.foreign import cleaned

_POLL_SECONDS = 0.5


@click.command()
@click.argument("run", shell_complete=complete_runs)
@study_option
@click.option("-f", "--follow", is_flag=True, help="Go on printing as the log grows.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many of the last lines.")
def logs(root: Path, run: str, follow: bool, lines: int) -> None:
    """Show what RUN's latest job printed."""
    path = newest_log(Study.open(root), run)
    click.echo(f"==> {path} <==", err=True)
    with path.open(errors="replace", encoding="utf-8") as stream:
        for line in deque(stream, maxlen=lines):
            click.echo(cleaned(line), nl=False)
        while follow:
            line = stream.readline()
            if line:
                click.echo(cleaned(line), nl=False)
            else:
                time.sleep(_POLL_SECONDS)
