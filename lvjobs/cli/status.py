"""`lvjobs status`."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lvjobs.cli.common import (
    READ_WAIT_SECONDS,
    current_summary,
    existing_study,
    json_option,
    print_json,
    study_option,
    tell_problems,
)
from lvjobs.cli.completion import complete_runs
from lvjobs.errors import UsageError
from lvjobs.study.config import Study


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
    study = existing_study(root)
    if live:
        if run is not None or as_json:
            raise UsageError("status -w shows the whole study, drawn anew: leave out RUN and --json, or leave out -w")
        _stay(study, every, whole=whole, make_pass=not no_pass)
        return
    if run is not None:
        _tell_story(study, run, as_json=as_json, whole=whole)
        return
    summary = current_summary(study, make_pass=not no_pass)
    if as_json:
        print_json(summary)
        return
    from lvjobs.report.status import print_status

    tell_problems(summary)
    print_status(summary, whole=whole or not sys.stdout.isatty(), begin=study.begin, where=study.where)


def _tell_story(study: Study, typed: str, *, as_json: bool, whole: bool) -> None:
    from lvjobs.control.inspect.history import story
    from lvjobs.control.loop import open_session
    from lvjobs.control.summary import find_row
    from lvjobs.report.story import print_story

    with open_session(study, wait=READ_WAIT_SECONDS) as session:
        summary = session.make_pass()
        row = find_row(summary, typed, study.where)
        with session.ledger.transaction() as transaction:
            run = transaction.find_run(id=row["id"])
            attempts, events = transaction.attempts([row["id"]]), transaction.events(row["id"], limit=100_000)
    assert run is not None
    told = {"schema": 1, "run": row, "story": [moment.to_dict() for moment in story(run, attempts, events)]}
    if as_json:
        print_json(told)
        return
    tell_problems(summary)
    print_story(told, whole=whole or not sys.stdout.isatty())


def _stay(study: Study, every: float, *, whole: bool, make_pass: bool) -> None:
    """Until the person leaves, or there is nothing more to come."""
    from rich.console import Group
    from rich.live import Live

    from lvjobs.cli.watch import is_at_rest
    from lvjobs.report.status import render_status
    from lvjobs.report.tables import new_console

    console = new_console()

    def drawn(summary: Mapping[str, Any]) -> Group:
        lines = None if whole else console.height
        return Group(*render_status(summary, console, lines, study.begin, study.where))

    with Live(console=console, auto_refresh=False, screen=False, vertical_overflow="crop") as shown:
        while True:
            summary = current_summary(study, make_pass=make_pass)
            shown.update(drawn(summary), refresh=True)
            if is_at_rest(summary) and "stale" not in summary:
                return
            time.sleep(every)
