"""`lvjobs logs`."""

import time
from collections import deque
from pathlib import Path

import click

from lvjobs import remedies
from lvjobs.cli.common import existing_study, study_option
from lvjobs.cli.completion import complete_runs
from lvjobs.errors import UsageError
from lvjobs.foreign import cleaned
from lvjobs.study.config import Study

_POLL_SECONDS = 0.5


@click.command()
@click.argument("run", shell_complete=complete_runs)
@study_option
@click.option("-f", "--follow", is_flag=True, help="Go on printing as the log grows.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many of the last lines.")
def logs(root: Path, run: str, follow: bool, lines: int) -> None:
    """Show what RUN's latest job printed."""
    path = _newest_log(existing_study(root), run)
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


def _newest_log(study: Study, run: str) -> Path:
    from lvjobs.control.inspect.logs import newest_log
    from lvjobs.control.summary import find_row
    from lvjobs.control.summary_file import read_summary

    row = find_row(read_summary(study.layout.summary) or {"runs": []}, run, study.where)
    found = newest_log(study, row)
    if found is None:
        why = remedies.WHY(*study.where, run=row["name"])
        raise UsageError(f"{row['name']} has no log yet (it is {row['state']}); type: {why}")
    return found
