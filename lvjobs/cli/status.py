"""`lvjobs status`."""

import sys
import time
from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_json, study_option, tell_problems
from lvjobs.cli.completion import complete_runs
from lvjobs.errors import UsageError


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
            raise UsageError("status -w shows the whole study, drawn anew: leave out RUN and --json, or leave out -w")
        _stay(study, every, whole=whole, reconcile=not no_pass)
        return
    if run is not None:
        history = study.history(run)
        if as_json:
            print_json(history.to_dict())
            return
        from lvjobs.report.terminal.history_lines import print_history

        tell_problems(history.status)
        print_history(history.to_dict(), whole=whole or not sys.stdout.isatty())
        return
    found = study.status(reconcile=not no_pass)
    if as_json:
        print_json(found.summary)
        return
    from lvjobs.report.terminal.status_lines import print_status

    tell_problems(found)
    age, whole = found.summary.get("age_seconds"), whole or not sys.stdout.isatty()
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
            lines, age = None if whole else console.height, found.summary.get("age_seconds")
            parts = render_status(found.parsed, console, lines, study.begin, study.where, age)
            shown.update(Group(*parts), refresh=True)
            if found.is_at_rest() and not found.stale:
                return
            time.sleep(every)
