"""Commands that answer questions about runs and change none: `status`, `why`, `queue` and `logs`."""

import sys
import time
from pathlib import Path

import click

from lvjobs.api.select import is_stage
from lvjobs.api.study import Study
from lvjobs.cli.common import complete_runs, json_option, print_json, print_problems, study_option, tell
from lvjobs.cli.help import Command
from lvjobs.errors import UsageError


@click.command(cls=Command)
@click.argument("run", required=False, shell_complete=complete_runs, metavar="[RUN|STAGE]")
@study_option
@json_option
@click.option("-w", "--watch", "live", is_flag=True, help="Keep running, and refresh the screen.")
@click.option(
    "--every", default=15.0, show_default=True, type=click.FloatRange(min=1), help="With -w: seconds between updates."
)
@click.option("--all", "whole", is_flag=True, help="Show every run, without folding to the screen.")
@click.option("--no-pass", is_flag=True, help="Show the last update; do not ask the cluster.")
def status(root: Path, run: str | None, as_json: bool, live: bool, every: float, whole: bool, no_pass: bool) -> None:
    """Update the study and show the state of all runs, of the runs of one stage, or the history of one RUN.

    RUN is a name, a part of one (such as its last four characters), or a job id.
    """
    study = Study.open(root)
    if live:
        if run is not None or as_json:
            raise UsageError("status -w shows the whole study: leave out RUN and --json, or leave out -w")
        _stay(study, every, whole=whole, reconcile=not no_pass)
        return
    stage = run if run is not None and is_stage(study, run) else None
    if run is not None and stage is None:
        history = study.history(run)
        if as_json:
            print_json(history.to_dict())
            return
        from lvjobs.report.terminal.run_lines import print_history

        print_problems(history.status)
        print_history(history.to_dict(), whole=whole or not sys.stdout.isatty())
        return
    found = study.status(reconcile=not no_pass)
    if stage is not None:
        found = found.of_stage(stage)
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


@click.command(cls=Command)
@click.argument("run", shell_complete=complete_runs)
@study_option
@json_option
def show(root: Path, run: str, as_json: bool) -> None:
    """Show all that is known of RUN: settings, files, job, attempts, metrics, cost, origin, and its history."""
    found = Study.open(root).describe(run)
    if as_json:
        print_json(found.to_dict())
    else:
        from lvjobs.report.terminal.run_lines import print_description

        print_problems(found.status)
        print_description(found.to_dict())


@click.command(cls=Command)
@click.argument("run", shell_complete=complete_runs)
@study_option
@json_option
def why(root: Path, run: str, as_json: bool) -> None:
    """Explain the state of RUN: what happened, the evidence, what follows, and the next command.

    Part of its name is enough, such as its last four characters. If its job waits, Slurm is asked what would start it
    sooner (as lvjobs queue does); nothing is submitted or changed.
    """
    explained = Study.open(root).why(run)
    if as_json:
        print_json(explained.to_dict())
    else:
        from lvjobs.report.terminal.run_lines import print_why

        print_problems(explained.status)
        print_why(explained.to_dict())


@click.command(cls=Command)
@click.argument("run", required=False, shell_complete=complete_runs)
@study_option
@json_option
def queue(root: Path, run: str | None, as_json: bool) -> None:
    """Show why RUN's job waits (default: the first waiting job), its expected start, and what would start it sooner.

    Asks Slurm a few times when other jobs would start (sbatch --test-only); nothing is submitted or changed.
    """
    found = Study.open(root).queue(run)
    alternatives = [one.to_dict() for one in found.alternatives]
    if as_json:
        row = found.runs[0].to_dict() if found.runs and found.is_known else {}
        keys = ("name", "job_id", "reason", "queue_reason", "start_estimate")
        shown = {"schema": 1, "known": found.is_known, **{key: row.get(key) for key in keys}}
        print_json({**shown, "alternatives": alternatives})
    else:
        from lvjobs.report.terminal.run_lines import print_queue

        tell(found.status)
        print_queue(found.runs, alternatives, is_known=found.is_known)
