"""Commands that answer questions about runs and change none: `status`, `why`, `queue` and `logs`."""

import sys
import time
from collections import deque
from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.api.updates import newest_log
from lvjobs.cli.common import complete_runs, json_option, print_json, print_problems, study_option, tell
from lvjobs.errors import UsageError
from lvjobs.foreign import cleaned


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@study_option
@json_option
@click.option("-w", "--watch", "live", is_flag=True, help="Stay, and show how it changes.")
@click.option("--every", default=15.0, show_default=True, type=click.FloatRange(min=1), help="With -w: seconds.")
@click.option("--all", "whole", is_flag=True, help="Every run, however many lines it takes.")
@click.option("--no-pass", is_flag=True, help="Show the last pass's summary; do not look at the cluster.")
def status(root: Path, run: str | None, as_json: bool, live: bool, every: float, whole: bool, no_pass: bool) -> None:
    """Show how the runs stand, after a pass over the study; or the story of one RUN (enough of its name will do)."""
    study = Study.open(root)
    if live:
        if run is not None or as_json:
            raise UsageError(
                "status -w shows the whole study, drawn again and again: leave out RUN and --json, or leave out -w"
            )
        _stay(study, every, whole=whole, reconcile=not no_pass)
        return
    if run is not None:
        history = study.history(run)
        if as_json:
            print_json(history.to_dict())
            return
        from lvjobs.report.terminal.run_lines import print_history

        print_problems(history.status)
        print_history(history.to_dict(), whole=whole or not sys.stdout.isatty())
        return
    found = study.status(reconcile=not no_pass)
    if as_json:
        print_json(found.summary)
        return
    from lvjobs.report.terminal.status_lines import print_status

    print_problems(found)
    age, whole = found.stored.get("age_seconds"), whole or not sys.stdout.isatty()
    print_status(found.parsed, whole=whole, begin=study.begin, where=study.where, age=age)


def _stay(study: Study, every: float, *, whole: bool, reconcile: bool) -> None:
    """Show the status every `every` seconds until all runs are at rest, or the user interrupts."""
    from rich.console import Group
    from rich.live import Live

    from lvjobs.report.terminal.console import new_console
    from lvjobs.report.terminal.status_lines import render_status

    console = new_console()

    with Live(console=console, auto_refresh=False, screen=False, vertical_overflow="crop") as shown:
        while True:
            found = study.status(reconcile=reconcile)
            lines, age = None if whole else console.height, found.stored.get("age_seconds")
            parts = render_status(found.parsed, console, lines, study.begin, study.where, age)
            shown.update(Group(*parts), refresh=True)
            if found.is_at_rest() and not found.stale:
                return
            time.sleep(every)


@click.command()
@click.argument("run", shell_complete=complete_runs)
@study_option
@json_option
def why(root: Path, run: str, as_json: bool) -> None:
    """Say why RUN stands as it does: what happened, with the evidence; what follows; what you can type.

    Enough of its name will do, such as the four characters at its end. Of a run whose job waits Slurm is asked what
    would start sooner (as lvjobs queue does); nothing is submitted or changed.
    """
    explained = Study.open(root).why(run)
    if as_json:
        print_json(explained.to_dict())
    else:
        from lvjobs.report.terminal.run_lines import print_why

        print_problems(explained.status)
        print_why(explained.to_dict())


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@study_option
@json_option
def queue(root: Path, run: str | None, as_json: bool) -> None:
    """Show why RUN's job waits (the first that does), when it is expected to start, and what would start sooner.

    Asks Slurm a handful of times when other jobs would start (sbatch --test-only); nothing is submitted or changed.
    """
    found = Study.open(root).queue(run)
    alternatives = [one.to_dict() for one in found.alternatives]
    if as_json:
        row = found.runs[0].to_dict() if found.runs else {}
        keys = ("name", "job_id", "reason", "queue_reason", "start_estimate")
        print_json({"schema": 1, **{key: row.get(key) for key in keys}, "alternatives": alternatives})
    else:
        from lvjobs.report.terminal.run_lines import print_queue

        tell(found.status)
        print_queue(found.runs, alternatives)


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
