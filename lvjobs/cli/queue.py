"""`lvjobs queue`."""

from pathlib import Path

import click

from lvjobs.cli.common import WRITE_WAIT_SECONDS, existing_study, json_option, print_json, study_option, tell
from lvjobs.cli.completion import complete_runs


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@study_option
@json_option
def queue(root: Path, run: str | None, as_json: bool) -> None:
    """Show why RUN's job waits (the first that does), when it is expected to start, and what would start sooner.

    Asks Slurm a handful of times when other jobs would start (sbatch --test-only); nothing is submitted or changed.
    """
    from lvjobs.control.inspect.sooner import find_sooner, waiting_rows
    from lvjobs.control.loop import open_session

    study = existing_study(root)
    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
        summary = session.make_pass()
        waiting = waiting_rows(summary, [run] if run else [], study.where)
        answers = find_sooner(session, waiting[0]) if waiting else []
    if as_json:
        row = waiting[0] if waiting else {}
        keys = ("name", "job_id", "reason", "queue_reason", "start_estimate")
        print_json(
            {"schema": 1, **{key: row.get(key) for key in keys}, "alternatives": [one.to_dict() for one in answers]}
        )
        return
    from lvjobs.report.queue import print_queue

    tell(summary)
    print_queue(waiting, [one.to_dict() for one in answers])
