"""Commands that answer questions about one run, or about waiting jobs, and change none: `show`, `why` and `queue`."""

from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import complete_runs, json_option, print_json, print_problems, study_option, tell
from lvjobs.cli.help import Command


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
        unknown = "the study was not updated" if found.status.stale else "Slurm did not answer"
        print_queue(found.runs, alternatives, unknown="" if found.is_known else unknown)
