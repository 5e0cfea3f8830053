"""`lvjobs logs`: what the jobs of a run printed."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

from lvjobs.api.select import name_of
from lvjobs.api.study import Study
from lvjobs.api.updates import logs_of, newest_log
from lvjobs.cli.common import complete_runs, seconds_of, study_option
from lvjobs.cli.help import Command
from lvjobs.cli.log_bar import shown_lines
from lvjobs.errors import UsageError

_POLL_SECONDS, _LOOK_SECONDS = 0.5, 10.0
_WORKER = "lvjobs worker: "


@click.command(cls=Command)
@click.argument("run", shell_complete=complete_runs)
@study_option
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the run ends.")
@click.option("-n", "--lines", default=50, show_default=True, help="Number of last lines of each log.")
@click.option("--attempt", type=click.IntRange(min=1), help="Show the log of this attempt, counted from 1.")
@click.option("--all", "whole", is_flag=True, help="Show the logs of all attempts, oldest first, with all lines.")
@click.option("--since", metavar="TIME", help="Only logs that were written in the last TIME: 30m, 12h, 2d.")
def logs(root: Path, run: str, follow: bool, lines: int, attempt: int | None, whole: bool, since: str | None) -> None:
    """Show the log of RUN's last job, of one attempt, or of all. RUN is a name, the end of one, or a job id."""
    if follow and (attempt or whole or since):
        raise UsageError("-f follows the newest log; leave --attempt, --all and --since out")
    if attempt and whole:
        raise UsageError("--attempt names one log and --all means all; give one of them")
    study = Study.open(root)
    if attempt or whole or since:
        with shown_lines(follows=False) as show:
            for each in _chosen(study, run, attempt, whole=whole, since=since):
                _print_tail(each, None if whole else lines, show).close()
        return
    path: Path | None = newest_log(study, run)
    most: int | None = lines
    while path is not None:
        with shown_lines(follows=follow) as show, _print_tail(path, most, show) as stream:
            path, most = (_follow(study, run, path, stream, show), None) if follow else (None, None)


def _chosen(study: Study, run: str, attempt: int | None, *, whole: bool, since: str | None) -> list[Path]:
    """Return the logs that the options choose, oldest first.

    Raises:
        UsageError: There is no such attempt, or no log that is new enough.
    """
    found = logs_of(study, run)
    if attempt:
        found = {number: path for number, path in found.items() if number == attempt}
        if not found:
            raise UsageError(f"attempt {attempt} of {name_of(study, run)} has no log; --all shows those that exist")
    elif not whole:
        found = dict(list(found.items())[-1:]) if since is None else found
    paths = list(dict.fromkeys(found.values()))
    if since is not None:
        oldest = time.time() - seconds_of(since, "--since")
        paths = [path for path in paths if path.stat().st_mtime >= oldest]
        if not paths:
            raise UsageError(f"no log of {name_of(study, run)} was written in the last {since}; leave --since out")
    return paths


def _print_tail(path: Path, most: int | None, show: Callable[[str], None]) -> TextIO:
    """Show a log's last `most` lines (None: all), and return the open file at its end."""
    click.echo(f"==> {path} <==", err=True)
    stream = path.open(errors="replace", encoding="utf-8")
    for line in deque(stream, maxlen=most):
        show(line)
    return stream


def _follow(study: Study, run: str, path: Path, stream: TextIO, show: Callable[[str], None]) -> Path | None:
    """Show the log as it grows. Return the log of the run's next job; None once the run is at rest."""
    name, looked = name_of(study, run), time.monotonic()
    while True:
        if line := stream.readline():
            show(line)
            if line.startswith(_WORKER):  # the run may have ended
                looked = 0.0
            continue
        if time.monotonic() - looked >= _LOOK_SECONDS:
            status, looked = study.status(), time.monotonic()
            if (newest := newest_log(study, name)) != path:
                return newest
            if status.is_at_rest([name]):
                for line in stream:
                    show(line)
                click.echo(f"{name} is {status.states[name]}", err=True)
                return None
        time.sleep(_POLL_SECONDS)
