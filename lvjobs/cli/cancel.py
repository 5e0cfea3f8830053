"""`lvjobs cancel`."""

from pathlib import Path

import click

from lvjobs.cli.common import WRITE_WAIT_SECONDS, existing_study, json_option, print_json, study_option, tell
from lvjobs.cli.completion import complete_runs


@click.command()
@click.argument("runs", nargs=-1, required=True, shell_complete=complete_runs)
@study_option
@json_option
def cancel(root: Path, runs: tuple[str, ...], as_json: bool) -> None:
    """End RUNS for good. Their checkpoints stay."""
    from lvjobs.control.loop import open_session
    from lvjobs.control.reconcile.run_commands import cancel as cancel_runs

    with open_session(existing_study(root), wait=WRITE_WAIT_SECONDS) as session:
        told = cancel_runs(session, runs)
        summary = session.make_pass()
        summary["did"] = told + summary["did"]
    if as_json:
        print_json(summary)
    else:
        tell(summary)
