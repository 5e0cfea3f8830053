"""`lvjobs queue`."""

from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_json, study_option, tell
from lvjobs.cli.completion import complete_runs


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
        from lvjobs.report.terminal.queue_lines import print_queue

        tell(found.status)
        print_queue(found.runs, alternatives)
