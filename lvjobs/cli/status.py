"""`lvjobs status`: the state of all runs, of chosen ones, or of one; and `lvjobs top`, the live view."""

import os
import sys
import time
from pathlib import Path

import click

from lvjobs.api.results import Status
from lvjobs.api.select import SORTS, RunFilter, is_stage
from lvjobs.api.study import Study
from lvjobs.cli.common import (
    complete_runs,
    json_option,
    print_json,
    print_problems,
    seconds_of,
    study_option,
    together,
)
from lvjobs.cli.help import Command
from lvjobs.errors import UsageError
from lvjobs.study.words import RunState

filter_options = together(
    click.option(
        "--state",
        "states",
        multiple=True,
        metavar="STATE",
        type=click.Choice([state.value for state in RunState]),
        help="Only runs in this state, such as held. Repeatable.",
    ),
    click.option("--tag", default="", help="Only runs with this tag (lvjobs tag)."),
    click.option("--since", metavar="TIME", help="Only runs that are open, or were declared or ended since: 12h, 2d."),
    click.option("--sort", type=click.Choice([*SORTS]), help="Order of the runs of each stage."),
)

_every = click.option(
    "--every", default=15.0, show_default=True, type=click.FloatRange(min=1), help="Seconds between live updates."
)
_no_pass = click.option("--no-pass", is_flag=True, help="Show the last update; do not ask the cluster.")


@click.command(cls=Command)
@click.argument("run", required=False, shell_complete=complete_runs, metavar="[RUN|STAGE]")
@study_option
@json_option
@click.option("-w", "--watch", "live", is_flag=True, help="Show the live view (lvjobs top).")
@_every
@filter_options
@click.option("-o", "--output", type=click.Choice(["wide", "csv"]), help="wide: all columns; csv: all fields, as CSV.")
@click.option("--all", "whole", is_flag=True, help="Show every run, without folding to the screen.")
@_no_pass
def status(
    root: Path,
    run: str | None,
    as_json: bool,
    live: bool,
    every: float,
    states: tuple[str, ...],
    tag: str,
    since: str | None,
    sort: str | None,
    output: str | None,
    whole: bool,
    no_pass: bool,
) -> None:
    """Update the study and show the state of all runs, of the runs of one stage, or the history of one RUN.

    RUN is a name, a part of one (such as its last four characters), or a job id.
    """
    study = Study.open(root)
    is_filtered = bool(states or tag or since or sort or output)
    if live:
        if run is not None or as_json or is_filtered:
            raise UsageError("status -w shows the whole study: leave out RUN and other options, or leave out -w")
        _stay(study, every, reconcile=not no_pass)
        return
    if as_json and output:
        raise UsageError(f"--json and -o {output} are two formats; give one of them")
    stage = run if run is not None and is_stage(study, run) else ""
    if run is not None and not stage:
        if is_filtered:
            raise UsageError(f"{run} is one run: leave out --state, --tag, --since, --sort and -o")
        _print_history(study, run, as_json=as_json, whole=whole)
        return
    wanted = RunFilter(stage, states, tag, time.time() - seconds_of(since, "--since") if since else None, sort or "")
    found = study.status(reconcile=not no_pass)
    chosen = found if wanted == RunFilter() else found.only(wanted)
    if as_json:
        print_json(chosen.summary)
    elif output == "csv":
        _print_csv(chosen)
    else:
        _print_table(study, found, chosen, whole=whole or not sys.stdout.isatty(), wide=output == "wide")


def _print_history(study: Study, run: str, *, as_json: bool, whole: bool) -> None:
    from lvjobs.report.terminal.run_lines import print_history

    history = study.history(run)
    if as_json:
        print_json(history.to_dict())
        return
    print_problems(history.status)
    print_history(history.to_dict(), whole=whole or not sys.stdout.isatty())


def _print_csv(status: Status) -> None:
    """Print a line for each run, with all fields except the curve."""
    from lvjobs.report.outputs import as_text

    print_problems(status)
    rows = [{**run.to_dict(), "tags": " ".join(run.tags or ())} for run in status.runs]
    click.echo(as_text([{key: row[key] for key in row if key != "curve"} for row in rows], "csv"), nl=False)


def _print_table(study: Study, found: Status, chosen: Status, *, whole: bool, wide: bool) -> None:
    """Print the chosen runs; if they are not all that were `found`, also how many they are."""
    from lvjobs.report.terminal.status_lines import print_status

    print_problems(found)
    if (few := len(chosen.stored["runs"])) < (every := len(found.stored["runs"])):
        click.echo(f"{few} of {every} runs match")
        if not few:
            return
    age = found.stored.get("age_seconds")
    print_status(chosen.parsed, whole=whole or wide, begin=study.begin, where=study.where, age=age, wide=wide)


def _stay(study: Study, every: float, *, reconcile: bool) -> None:
    """Show the live view until the user quits; without a terminal, print the status until all runs are at rest."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        from lvjobs.cli.live_view import LiveView

        for name in ("COLUMNS", "LINES"):  # which Textual believes, also after the terminal's size has changed
            os.environ.pop(name, None)
        LiveView(study, every, reconcile=reconcile).run()
        return
    while True:
        found = study.status(reconcile=reconcile)
        _print_table(study, found, found, whole=False, wide=False)
        if found.is_at_rest() and not found.stale:
            return
        time.sleep(every)


@click.command(cls=Command)
@study_option
@_every
@_no_pass
def top(root: Path, every: float, no_pass: bool) -> None:
    """Show all runs on the whole screen, updated as they change. Keys: why, log, resume, cancel; q quits.

    It is also `lvjobs status -w`. It works over SSH, from 80 columns and 24 lines.
    """
    _stay(Study.open(root), every, reconcile=not no_pass)
